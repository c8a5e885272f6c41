#include "vm/mem/guest/lazy_memory.hpp"

#include <algorithm>
#include <utility>

#include "mem/guest/lazy_pages.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"

namespace vm::mem {

namespace {

/// Bytes between two calls of a progress function.
constexpr std::uint64_t progress_step = std::uint64_t{1} << 22;

void check_range(const LazyState& state, std::uint64_t offset, std::uint64_t size, const char* what) {
  if (offset <= state.size() && size <= state.size() - offset) return;
  throw OutOfRange(std::string(what) + " of " + hex(size) + " bytes at offset " + hex(offset) + " ends beyond the " +
                       hex(state.size()) + " bytes of this lazy memory",
                   offset, size);
}

std::shared_ptr<GuestMemory> make_memory(const std::shared_ptr<LazyPages>& pages) {
  const LazyState& state = pages->state();
  Region region;
  region.base = state.options().base;
  region.size = state.size();
  region.host = state.mapping()->data();
  region.writable = true;
  region.name = "lazy";
  region.mapping = std::shared_ptr<HostMapping>(pages, state.mapping().get());
  ImageFacts facts;
  facts.format = "lazy";
  return std::make_shared<GuestMemory>(RegionTable({std::move(region)}), std::move(facts));
}

}  // namespace

const char* to_string(WriteTracking tracking) noexcept {
  switch (tracking) {
    case WriteTracking::automatic: return "auto";
    case WriteTracking::none: return "none";
    case WriteTracking::synchronous: return "sync";
    case WriteTracking::asynchronous: return "async";
  }
  return "?";
}

std::optional<std::string> LazyMemory::unavailable() { return Userfault::unavailable(); }

LazyMemory::LazyMemory(std::uint64_t size, std::shared_ptr<PageSource> source, const LazyOptions& options)
    : pages_(std::make_shared<LazyPages>(size, std::move(source), options)), memory_(make_memory(pages_)) {}

LazyMemory::~LazyMemory() = default;

std::shared_ptr<LazyPages> LazyMemory::pages_or_throw() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (pages_ == nullptr) throw ClosedError("this lazy memory is closed");
  return pages_;
}

std::shared_ptr<GuestMemory> LazyMemory::memory() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (pages_ == nullptr) throw ClosedError("this lazy memory is closed");
  return memory_;
}

std::uint64_t LazyMemory::size() const { return pages_or_throw()->state().size(); }

std::uint64_t LazyMemory::page_size() const { return pages_or_throw()->state().options().page_size; }

std::uint64_t LazyMemory::pages() const { return pages_or_throw()->state().pages(); }

std::uint64_t LazyMemory::resident() const { return pages_or_throw()->state().resident(); }

void LazyMemory::populate(std::uint64_t offset, std::uint64_t size) {
  const auto pages = pages_or_throw();
  check_range(pages->state(), offset, size, "populate");
  pages->state().require(offset, size);
}

void LazyMemory::populate_all(const Progress& progress) {
  const auto pages = pages_or_throw();
  const std::uint64_t total = pages->state().size();
  for (std::uint64_t done = 0; done < total;) {
    const std::uint64_t step = std::min(progress_step, total - done);
    pages->state().require(done, step);
    done += step;
    if (progress) progress(done, total);
  }
}

void LazyMemory::discard(std::uint64_t offset, std::uint64_t size) {
  const auto pages = pages_or_throw();
  LazyState& state = pages->state();
  check_range(state, offset, size, "discard");
  const std::uint64_t page = state.options().page_size;
  if (!is_aligned(offset, page) || (!is_aligned(size, page) && offset + size != state.size())) {
    throw InvalidConfig("discard of " + hex(size) + " bytes at offset " + hex(offset) +
                        " is no whole number of pages of " + hex(page) + " bytes");
  }
  state.discard(offset, size);
}

std::string LazyMemory::error() const { return pages_or_throw()->state().error(); }

std::vector<std::uint64_t> LazyMemory::failed() const { return pages_or_throw()->state().failed(); }

void LazyMemory::retry() { pages_or_throw()->state().retry(); }

void LazyMemory::track_writes() { pages_or_throw()->state().writes().start(); }

void LazyMemory::stop_tracking() { pages_or_throw()->state().writes().stop(); }

WriteTracking LazyMemory::tracking() const { return pages_or_throw()->state().userfault().tracking(); }

std::vector<std::uint64_t> LazyMemory::dirty() const { return pages_or_throw()->state().writes().dirty(false); }

std::vector<std::uint64_t> LazyMemory::reset_dirty() { return pages_or_throw()->state().writes().dirty(true); }

LazyStats LazyMemory::stats() const { return pages_or_throw()->state().stats(); }

bool LazyMemory::user_mode_only() const { return pages_or_throw()->state().userfault().user_mode_only(); }

void LazyMemory::close() noexcept {
  std::shared_ptr<LazyPages> pages;  // released after the lock: the threads are waited for
  std::shared_ptr<GuestMemory> memory;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    pages.swap(pages_);
    memory.swap(memory_);
  }
  if (memory != nullptr) memory->close();
}

bool LazyMemory::closed() const noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return pages_ == nullptr;
}

}  // namespace vm::mem
