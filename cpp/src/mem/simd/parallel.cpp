#include "vm/mem/simd/parallel.hpp"

#include <algorithm>
#include <cstdint>

#include "core/affinity.hpp"
#include "mem/simd/shares.hpp"

namespace vm::mem::simd {
namespace {

// Shares begin at pages of the destination, so that no two threads store to one line and each page is first touched by
// one.
constexpr std::size_t page = 4096;

}  // namespace

unsigned copy_threads(std::size_t size, const CopyOptions& options, const CopyPlan& plan) noexcept {
  if (options.threads == 1) return 1;
  const std::size_t wanted = options.threads != 0 ? options.threads : useful_threads();
  const std::size_t useful = size / std::max<std::size_t>(plan.thread_bytes, 1);
  return static_cast<unsigned>(std::clamp<std::size_t>(useful, 1, wanted));
}

void copy_parallel(void* dst, const void* src, std::size_t size, const CopyOptions& options,
                   const MemcpyStrategy& strategy) {
  auto* to = static_cast<unsigned char*>(dst);
  const auto* from = static_cast<const unsigned char*>(src);
  const auto copy = [&](std::size_t begin, std::size_t end) {
    if (options.streaming) {
      strategy.copy_streaming(to + begin, from + begin, end - begin);
    } else {
      strategy.copy(to + begin, from + begin, end - begin);
    }
  };
  const unsigned shares = copy_threads(size, options, strategy.plan());
  if (shares == 1) return copy(0, size);
  const auto boundary = [&](unsigned share) {
    if (share == shares) return size;
    const std::size_t at = detail::share_begin(size, shares, share);
    const std::size_t beyond = (reinterpret_cast<std::uintptr_t>(to) + at) % page;
    return at > beyond ? at - beyond : 0;
  };
  detail::for_each_share(shares, [&](unsigned share) { copy(boundary(share), boundary(share + 1)); });
}

}  // namespace vm::mem::simd
