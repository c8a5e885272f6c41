#include "mem/guest/lazy_options.hpp"

#include <string>

#include "mem/pages/huge_pages.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem {

namespace {

constexpr std::uint64_t smallest_page = 4096;
constexpr std::uint64_t largest_page = std::uint64_t{1} << 30;
constexpr std::uint64_t most_prefetch = 4096;
// Each handler thread has a buffer for a page and its prefetched neighbours.
constexpr std::uint64_t largest_buffer = std::uint64_t{1} << 30;
constexpr unsigned most_threads = 256;
constexpr unsigned most_retries = 16;
constexpr std::uint64_t longest_delay_ns = 60'000'000'000;

void check_page_size(const LazyOptions& options) {
  const std::uint64_t page = options.page_size;
  if (page < smallest_page || page > largest_page || (page & (page - 1)) != 0) {
    throw InvalidConfig("page_size is " + std::to_string(page) + "; it is a power of two from 4096 to 2**30");
  }
  const std::uint64_t step = lazy_step(options.huge_pages);
  if (page < step) {
    throw InvalidConfig("page_size is " + hex(page) + ", but the pages that hold the bytes have " + hex(step) +
                        "; make it as large, or choose other huge_pages");
  }
}

}  // namespace

std::uint64_t lazy_step(HugePages huge_pages) noexcept {
  const std::uint64_t reserved = reserved_page_size(huge_pages);
  return reserved != 0 ? reserved : host_page_size();
}

const LazyOptions& checked_lazy_options(std::uint64_t size, const PageSource* source, const LazyOptions& options) {
  if (source == nullptr) throw InvalidConfig("lazy memory needs a page source");
  if (size == 0) throw InvalidConfig("lazy memory needs a size above 0");
  if (!range_fits(options.base, size)) {
    throw InvalidConfig("lazy memory of " + hex(size) + " bytes at " + hex(options.base) +
                        " ends beyond the last 64-bit address");
  }
  check_page_size(options);
  if (options.prefetch_pages > most_prefetch || (options.prefetch_pages + 1) * options.page_size > largest_buffer) {
    throw InvalidConfig("prefetch_pages is " + std::to_string(options.prefetch_pages) +
                        "; at most 4096, and at most 1 GiB together with the touched page, are filled at a time");
  }
  if (options.threads == 0 || options.threads > most_threads) {
    throw InvalidConfig("threads is " + std::to_string(options.threads) + "; 1 to 256 can handle touches");
  }
  if (options.retries > most_retries || options.retry_delay_ns > longest_delay_ns) {
    throw InvalidConfig("retries is " + std::to_string(options.retries) + " after " +
                        std::to_string(options.retry_delay_ns) + " ns; at most 16, the first after at most a minute");
  }
  return options;
}

}  // namespace vm::mem
