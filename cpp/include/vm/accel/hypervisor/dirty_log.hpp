#pragma once
/// \file
/// `DirtyLog`: which pages of a VM's memory were written, for those who ask and for those who put memory back.

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "vm/accel/hypervisor/backend.hpp"
#include "vm/accel/hypervisor/dirty_pages.hpp"

namespace vm::accel {

/// Which pages of one slot were written; bit N % 64 of word N / 64 stands for page N of the slot.
struct DirtyBitmap {
  std::uint64_t base = 0;  ///< of the slot
  std::uint64_t pages = 0;
  std::vector<std::uint64_t> words;

  bool test(std::uint64_t page) const noexcept { return (words[page / 64] >> (page % 64) & 1) != 0; }
  /// How many pages are set.
  std::uint64_t count() const noexcept;
};

/// A set of page numbers that is quick to go through when few are set.
class PageSet {
 public:
  explicit PageSet(std::uint64_t pages) : words_((pages + 63) / 64), summary_((words_.size() + 63) / 64) {}

  void add(std::uint64_t page) noexcept {
    words_[page / 64] |= std::uint64_t{1} << (page % 64);
    summary_[page / 4096] |= std::uint64_t{1} << (page / 64 % 64);
  }
  /// Adds all of a bitmap of the same size.
  void add(const std::vector<std::uint64_t>& bitmap) noexcept;
  void clear() noexcept;
  /// Calls `run(first, count)` for every run in ascending order and empties the set.
  template <class Run>
  void drain(Run&& run);

 private:
  std::vector<std::uint64_t> words_;
  std::vector<std::uint64_t> summary_;  // a bit per word that is not 0
};

/// What memory is compared with: whoever puts it back to a moment makes one of these then.
class Baseline {
 public:
  virtual ~Baseline() = default;
};

/// Receives runs of pages in the order of their addresses.
class RunSink {
 public:
  virtual ~RunSink() = default;
  virtual void run(const MemorySlot& slot, std::uint64_t first_page, std::uint64_t pages) = 0;
};

/// A slot is watched while its flag `log_dirty` is set (Vm::map, Vm::set_flags). What is noted: writes by the guest and
/// by the hypervisor on its behalf. What this process writes is not: `mark` it.
///
/// Any thread may call anything at once, also while vCPUs run. Taking pages away here does not hide them from a
/// baseline: there is one account of what has changed, whoever reads it.
class DirtyLog {
 public:
  /// For Vm.
  explicit DirtyLog(std::shared_ptr<VmBackend> backend);
  DirtyLog(const DirtyLog&) = delete;
  DirtyLog& operator=(const DirtyLog&) = delete;

  DirtyMethod method() const;
  std::uint64_t page_size() const noexcept { return page_size_; }

  /// Switches to method `manual`; before any slot is watched. Throws NotSupported, InvalidConfig.
  void use_manual();
  /// Switches to method `ring`, `entries` pages a vCPU; before there are vCPUs and watched slots. A vCPU whose ring is
  /// full comes back with DirtyRingFull: collect, reset, run on. Throws NotSupported, InvalidConfig.
  void use_ring(std::uint32_t entries);

  /// The pages written since the last `take`, or since the slot at `base` is watched. Throws OutOfRange when no slot
  /// begins there, InvalidConfig when it is not watched or the method is `ring`.
  DirtyBitmap take(std::uint64_t base);
  /// The same without clearing. Method `manual` only, else InvalidConfig.
  DirtyBitmap peek(std::uint64_t base);
  /// Clears [first_page, first_page + pages) of what `peek` shows. Method `manual` only. Throws OutOfRange.
  void clear(std::uint64_t base, std::uint64_t first_page, std::uint64_t pages);

  /// What the vCPUs (or one of them) noted since the last call, as guest-physical addresses of pages, in the order of
  /// writing for each vCPU. Method `ring` only, else InvalidConfig. Throws OutOfRange when there is no such vCPU.
  std::vector<std::uint64_t> collect(std::optional<unsigned> vcpu = {});
  /// Pages that were collected are noted again at their next write. Returns how many. Method `ring` only.
  std::uint64_t reset();

  /// This process wrote [paddr, paddr + size) and wants it put back. Throws OutOfRange when no slot holds all of it.
  void mark(std::uint64_t paddr, std::uint64_t size);
  /// Writes guest memory and marks it. Throws OutOfRange, AccessViolation; then nothing was written.
  void write(std::uint64_t paddr, const void* source, std::uint64_t size);

  /// From here on what changes is kept for `baseline`, in place of the one before. Throws InvalidConfig when a slot
  /// that the guest can write is not watched.
  void begin(std::shared_ptr<Baseline> baseline);
  /// The baseline, or null when there is none or slots or vCPUs have changed since: then nobody knows what differs.
  std::shared_ptr<Baseline> baseline() const;
  /// Tells `sink` what has changed since `begin` or the last `rewind`; after the call it counts as unchanged. False
  /// when `baseline` is not the current one. Allocates nothing with method `bitmap`.
  bool rewind(const Baseline* baseline, RunSink& sink);
  /// Nobody knows what differs from now on.
  void forget();

  /// For Vm: these are the slots now.
  void set_slots(const SlotTable& slots);
  /// For Vm: there is a vCPU.
  void vcpu_added();

 private:
  struct Watched {
    MemorySlot slot;
    std::uint64_t pages;
    std::vector<std::uint64_t> kernel;  // what the backend writes
    PageSet changed;                    // since the baseline, as far as it is known yet
  };
  class RingPages;

  DirtyPages& pages() const noexcept;
  void require(DirtyMethod method, const char* what) const;
  Watched& watched(std::uint64_t base);
  void collect_into(std::vector<std::uint64_t>* paddrs, const unsigned* vcpu);
  void require_nothing_watched(const char* what) const;
  /// The slot that holds `paddr`. Throws OutOfRange for `what` of [paddr, paddr + size).
  Watched& holding(std::uint64_t paddr, std::uint64_t size, const char* what);
  void check_writable(std::uint64_t paddr, std::uint64_t size, const char* what);
  void mark_locked(std::uint64_t paddr, std::uint64_t size);
  void read_kernel(Watched& slot, bool clear);
  void gather();

  const std::shared_ptr<VmBackend> backend_;
  const std::uint64_t page_size_;
  mutable std::mutex mutex_;
  std::vector<Watched> slots_;          // by base
  std::shared_ptr<Baseline> baseline_;  // guarded by mutex_
  bool has_vcpus_ = false;
};

template <class Run>
void PageSet::drain(Run&& run) {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  for (std::size_t s = 0; s < summary_.size(); ++s) {
    for (; summary_[s] != 0; summary_[s] &= summary_[s] - 1) {
      const std::size_t w = s * 64 + static_cast<std::size_t>(__builtin_ctzll(summary_[s]));
      for (; words_[w] != 0; words_[w] &= words_[w] - 1) {
        const std::uint64_t page = w * 64 + static_cast<std::uint64_t>(__builtin_ctzll(words_[w]));
        if (count != 0 && page == first + count) {
          ++count;
          continue;
        }
        if (count != 0) run(first, count);
        first = page;
        count = 1;
      }
    }
  }
  if (count != 0) run(first, count);
}

}  // namespace vm::accel
