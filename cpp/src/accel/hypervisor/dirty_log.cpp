#include "vm/accel/hypervisor/dirty_log.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "vm/core/error.hpp"
#include "vm/mem/pages/mapping.hpp"

namespace vm::accel {

const char* dirty_method_name(DirtyMethod method) noexcept {
  switch (method) {
    case DirtyMethod::bitmap: return "bitmap";
    case DirtyMethod::manual: return "manual";
    case DirtyMethod::ring: return "ring";
  }
  return "unknown";
}

std::uint64_t DirtyBitmap::count() const noexcept {
  std::uint64_t result = 0;
  for (const std::uint64_t word : words) result += static_cast<std::uint64_t>(__builtin_popcountll(word));
  return result;
}

void PageSet::add(const std::vector<std::uint64_t>& bitmap) noexcept {
  for (std::size_t s = 0; s < summary_.size(); ++s) {
    const std::size_t end = std::min(words_.size(), s * 64 + 64);
    std::uint64_t any = 0;
    for (std::size_t w = s * 64; w < end; ++w) any |= bitmap[w];
    if (any == 0) continue;
    for (std::size_t w = s * 64; w < end; ++w) {
      words_[w] |= bitmap[w];
      summary_[s] |= std::uint64_t{words_[w] != 0} << (w % 64);
    }
  }
}

void PageSet::clear() noexcept {
  std::fill(words_.begin(), words_.end(), 0);
  std::fill(summary_.begin(), summary_.end(), 0);
}

DirtyLog::DirtyLog(std::shared_ptr<VmBackend> backend)
    : backend_(std::move(backend)), page_size_(backend_->page_size()) {}

DirtyPages& DirtyLog::pages() const noexcept { return *backend_->dirty_pages(); }

DirtyMethod DirtyLog::method() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return pages().method();
}

void DirtyLog::require(DirtyMethod method, const char* what) const {
  const DirtyMethod found = pages().method();
  if (found == method) return;
  throw InvalidConfig(std::string(what) + " needs the method \"" + dirty_method_name(method) + "\", this VM uses \"" +
                      dirty_method_name(found) + "\"");
}

void DirtyLog::require_nothing_watched(const char* what) const {
  for (const Watched& slot : slots_) {
    if (slot.slot.flags.log_dirty)
      throw InvalidConfig(std::string(what) + ": the slot at " + hex(slot.slot.base) +
                          " is watched already; choose the method before log_dirty is set anywhere");
  }
}

void DirtyLog::use_manual() {
  const std::lock_guard<std::mutex> lock(mutex_);
  require_nothing_watched("use_manual");
  pages().use_manual();
}

void DirtyLog::use_ring(std::uint32_t entries) {
  const std::lock_guard<std::mutex> lock(mutex_);
  require_nothing_watched("use_ring");
  if (has_vcpus_) throw InvalidConfig("use_ring: this VM has vCPUs already; rings are for vCPUs created afterwards");
  pages().use_ring(entries);
}

DirtyLog::Watched& DirtyLog::holding(std::uint64_t paddr, std::uint64_t size, const char* what) {
  const auto at = std::lower_bound(slots_.begin(), slots_.end(), paddr,
                                   [](const Watched& s, std::uint64_t address) { return s.slot.last() < address; });
  if (at == slots_.end() || at->slot.base > paddr)
    throw OutOfRange(std::string(what) + ": no memory slot holds " + hex(paddr), paddr, size);
  return *at;
}

DirtyLog::Watched& DirtyLog::watched(std::uint64_t base) {
  Watched& slot = holding(base, 1, "dirty log");
  if (slot.slot.base != base)
    throw OutOfRange(
        "no memory slot begins at " + hex(base) + "; the slot that holds it begins at " + hex(slot.slot.base), base, 1);
  if (!slot.slot.flags.log_dirty)
    throw InvalidConfig("the slot at " + hex(base) + " is not watched; set its flag log_dirty first");
  return slot;
}

/// Reads what the backend has noted of a slot, keeping it for the baseline when it is cleared there.
void DirtyLog::read_kernel(Watched& slot, bool clear) {
  pages().read(slot.slot, slot.kernel.data());
  const bool manual = pages().method() == DirtyMethod::manual;
  if (clear && manual) pages().clear(slot.slot, 0, slot.pages, slot.kernel.data());
  if (baseline_ && (clear || !manual)) slot.changed.add(slot.kernel);
}

DirtyBitmap DirtyLog::take(std::uint64_t base) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Watched& slot = watched(base);
  if (pages().method() == DirtyMethod::ring) require(DirtyMethod::bitmap, "take");
  read_kernel(slot, true);
  return {base, slot.pages, slot.kernel};
}

DirtyBitmap DirtyLog::peek(std::uint64_t base) {
  const std::lock_guard<std::mutex> lock(mutex_);
  require(DirtyMethod::manual, "peek");
  Watched& slot = watched(base);
  read_kernel(slot, false);
  return {base, slot.pages, slot.kernel};
}

void DirtyLog::clear(std::uint64_t base, std::uint64_t first_page, std::uint64_t count) {
  const std::lock_guard<std::mutex> lock(mutex_);
  require(DirtyMethod::manual, "clear");
  Watched& slot = watched(base);
  if (first_page > slot.pages || count > slot.pages - first_page)
    throw OutOfRange("clear: the slot at " + hex(base) + " has " + std::to_string(slot.pages) + " pages, asked for " +
                         std::to_string(count) + " from page " + std::to_string(first_page),
                     base, count * page_size_);
  if (count == 0) return;
  // The kernel clears by whole words; bits of pages outside the range are left out of the mask.
  const std::uint64_t begin = first_page / 64 * 64;
  const std::uint64_t end = std::min((first_page + count + 63) / 64 * 64, slot.pages);
  read_kernel(slot, false);
  if (begin != first_page) slot.kernel[begin / 64] &= ~std::uint64_t{0} << (first_page % 64);
  const std::uint64_t last = first_page + count - 1;
  slot.kernel[last / 64] &= ~std::uint64_t{0} >> (63 - last % 64);
  const std::uint64_t* words = slot.kernel.data() + begin / 64;
  pages().clear(slot.slot, begin, end - begin, words);
  if (!baseline_) return;
  for (std::uint64_t page = first_page; page <= last; ++page) {
    if ((slot.kernel[page / 64] >> (page % 64) & 1) != 0) slot.changed.add(page);
  }
}

/// What rings hand out: checked, kept for the baseline, and told to who asked.
class DirtyLog::RingPages final : public DirtySink {
 public:
  RingPages(DirtyLog& log, std::vector<std::uint64_t>* paddrs) : log_(log), paddrs_(paddrs) {}

  void page(unsigned id, std::uint64_t number) override {
    for (Watched& slot : log_.slots_) {
      if (slot.slot.id != id || number >= slot.pages) continue;
      if (log_.baseline_) slot.changed.add(number);
      if (paddrs_ != nullptr) paddrs_->push_back(slot.slot.base + number * log_.page_size_);
      return;
    }
  }

 private:
  DirtyLog& log_;
  std::vector<std::uint64_t>* paddrs_;
};

void DirtyLog::collect_into(std::vector<std::uint64_t>* paddrs, const unsigned* vcpu) {
  RingPages sink(*this, paddrs);
  pages().collect(sink, vcpu);
}

std::vector<std::uint64_t> DirtyLog::collect(std::optional<unsigned> vcpu) {
  const std::lock_guard<std::mutex> lock(mutex_);
  require(DirtyMethod::ring, "collect");
  std::vector<std::uint64_t> result;
  collect_into(&result, vcpu ? &*vcpu : nullptr);
  return result;
}

std::uint64_t DirtyLog::reset() {
  const std::lock_guard<std::mutex> lock(mutex_);
  require(DirtyMethod::ring, "reset");
  return pages().reset();
}

void DirtyLog::check_writable(std::uint64_t paddr, std::uint64_t size, const char* what) {
  if (size != 0 && paddr + (size - 1) < paddr)
    throw OutOfRange(std::string(what) + ": " + hex(size) + " bytes at " + hex(paddr) + " pass the last address", paddr,
                     size);
  for (std::uint64_t at = paddr; at - paddr < size;) {
    const MemorySlot& slot = holding(at, size - (at - paddr), what).slot;
    if (!slot.mapping->writable())
      throw AccessViolation(std::string(what) + ": the memory of the slot at " + hex(slot.base) + " is read-only");
    if (slot.last() - paddr >= size) return;
    at = slot.last() + 1;
  }
}

void DirtyLog::mark_locked(std::uint64_t paddr, std::uint64_t size) {
  for (std::uint64_t at = paddr; at - paddr < size;) {
    Watched& slot = holding(at, size, "mark");
    const std::uint64_t last = std::min(slot.slot.last() - paddr, size - 1) + paddr;
    for (std::uint64_t page = (at - slot.slot.base) / page_size_; page <= (last - slot.slot.base) / page_size_; ++page)
      slot.changed.add(page);
    if (last - paddr == size - 1) return;
    at = last + 1;
  }
}

void DirtyLog::mark(std::uint64_t paddr, std::uint64_t size) {
  const std::lock_guard<std::mutex> lock(mutex_);
  check_writable(paddr, size, "mark");
  if (baseline_) mark_locked(paddr, size);
}

void DirtyLog::write(std::uint64_t paddr, const void* source, std::uint64_t size) {
  const std::lock_guard<std::mutex> lock(mutex_);
  check_writable(paddr, size, "write");
  const auto* from = static_cast<const std::byte*>(source);
  for (std::uint64_t done = 0; done < size;) {
    const MemorySlot& slot = holding(paddr + done, size - done, "write").slot;
    const std::uint64_t step = std::min(size - done, slot.last() - (paddr + done) + 1);
    std::memcpy(slot.host + (paddr + done - slot.base), from + done, step);
    done += step;
  }
  if (baseline_) mark_locked(paddr, size);
}

/// Everything that has been written since becomes part of `changed`.
void DirtyLog::gather() {
  if (pages().method() == DirtyMethod::ring) {
    collect_into(nullptr, nullptr);
    pages().reset();
    return;
  }
  for (Watched& slot : slots_) {
    if (slot.slot.flags.log_dirty) read_kernel(slot, true);
  }
}

void DirtyLog::begin(std::shared_ptr<Baseline> baseline) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const Watched& slot : slots_) {
    if (slot.slot.flags.log_dirty || slot.slot.flags.read_only) continue;
    throw InvalidConfig("the slot at " + hex(slot.slot.base) +
                        " is not watched; set its flag log_dirty, so that what changes in it is known");
  }
  baseline_ = nullptr;
  gather();
  for (Watched& slot : slots_) slot.changed.clear();
  baseline_ = std::move(baseline);
}

std::shared_ptr<Baseline> DirtyLog::baseline() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return baseline_;
}

bool DirtyLog::rewind(const Baseline* baseline, RunSink& sink) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (baseline == nullptr || baseline_.get() != baseline) return false;
  gather();
  for (Watched& slot : slots_)
    slot.changed.drain([&](std::uint64_t first, std::uint64_t count) { sink.run(slot.slot, first, count); });
  return true;
}

void DirtyLog::forget() {
  const std::lock_guard<std::mutex> lock(mutex_);
  baseline_ = nullptr;
}

void DirtyLog::set_slots(const SlotTable& slots) {
  const std::lock_guard<std::mutex> lock(mutex_);
  baseline_ = nullptr;
  slots_.clear();
  for (const MemorySlot& slot : slots.all()) {
    const std::uint64_t count = slot.size / page_size_;
    const std::uint64_t words = slot.flags.log_dirty ? dirty_words(slot.size, page_size_) : 0;
    slots_.push_back({slot, count, std::vector<std::uint64_t>(words), PageSet(count)});
  }
}

void DirtyLog::vcpu_added() {
  const std::lock_guard<std::mutex> lock(mutex_);
  baseline_ = nullptr;
  has_vcpus_ = true;
}

}  // namespace vm::accel
