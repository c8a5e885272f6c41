#pragma once
/// \file
/// The batch engine: answers from a cache of last-level tables where it can, walks the rest.

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "core/affinity.hpp"
#include "mem/paging/batch_plan.hpp"
#include "mem/paging/leaf_kernel.hpp"
#include "vm/mem/paging/walker.hpp"

namespace vm::mem::paging {

template <class Format>
constexpr BatchGeometry batch_geometry() noexcept {
  return {Format::page_shift + Format::index_bits, sizeof(typename Format::Entry) << Format::index_bits,
          sizeof(typename Format::Entry) == 8};
}

template <class Format>
constexpr LeafShape leaf_shape() noexcept {
  if (std::is_same_v<typename Format::Leaf, X86Leaf>) return LeafShape::x86;
  if (std::is_same_v<typename Format::Leaf, RiscVLeaf>) return LeafShape::riscv;
  return Format::page_shift == 12   ? LeafShape::aarch64_4k
         : Format::page_shift == 14 ? LeafShape::aarch64_16k
                                    : LeafShape::aarch64_64k;
}

/// One thread's share of a batch. The cache lives as long as the share: it never outlives the tables it was read from
/// by more than the call itself, so it needs no flush.
template <class Format>
class BatchShare {
 public:
  using Entry = typename Format::Entry;

  BatchShare(const Format& format, const RegionTable& memory, const BatchRequest& request, bool update,
             const BatchPlan& plan, BatchFront* front)
      : format_(format),
        memory_(memory),
        access_(request.access),
        privilege_(request.privilege),
        update_(update && request.access != Access::none),
        plan_(plan),
        filter_(format.leaf_filter(request.access, request.privilege, update_)),
        front_(front) {
    if (front != nullptr) waiting_ = std::make_unique<Waiting>();
    if (plan.slots == 0) return;
    slots_.resize(plan.slots);
    if (plan.tagged) tags_.assign(plan.slots, no_span);
    if (plan.engine == Engine::avx2) kernel_ = avx2_leaf_kernel(leaf_shape<Format>());
    if (plan.engine == Engine::avx512) kernel_ = avx512_leaf_kernel(leaf_shape<Format>());
  }

  void run(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, PackedInfo* info) {
    if (front_ != nullptr) return run_behind_front(vaddr, count, paddr, info);
    for (std::size_t done = 0; done < count; done += block)
      answer({vaddr + done, std::min(block, count - done), paddr + done, info + done});
  }

 private:
  static constexpr std::size_t block = BatchFront::block;
  static constexpr unsigned span = Format::page_shift + Format::index_bits;

  struct Block {
    const std::uint64_t* vaddr;
    std::size_t count;
    std::uint64_t* paddr;
    PackedInfo* info;

    void store(std::size_t i, const Translation& t) const noexcept {
      paddr[i] = t.ok() ? t.paddr : no_address;
      info[i] = pack(t);
    }
  };

  void answer(const Block& b) {
    if (plan_.engine == Engine::walk) {
      for (std::size_t i = 0; i < b.count; ++i) b.store(i, walk_one(b.vaddr[i]));
    } else if (plan_.engine == Engine::group_prefetch) {
      for (std::size_t i = 0; i < b.count; ++i) missed_[i] = static_cast<std::uint32_t>(i);
      walk_interleaved(b, b.count);
    } else {
      answer_missed(b, answer_from_cache(b));
    }
  }

  // What the front does not know, until it is a block: the kernels are at their best with whole ones.
  struct Waiting {
    std::size_t count = 0;
    std::uint32_t index[2 * block + BatchFront::slack];
    std::uint64_t vaddr[2 * block + BatchFront::slack];
    std::uint64_t paddr[block];
    PackedInfo info[block];
  };

  void run_behind_front(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, PackedInfo* info) {
    Waiting& w = *waiting_;
    for (std::size_t done = 0; done < count; done += block) {
      const BatchFront::Missed missed{w.index + w.count, w.vaddr + w.count, static_cast<std::uint32_t>(done)};
      w.count += front_->answer(vaddr + done, std::min(block, count - done), paddr + done, info + done, missed);
      if (w.count >= block) answer_waiting(block, paddr, info);
    }
    answer_waiting(w.count, paddr, info);
  }

  void answer_waiting(std::size_t count, std::uint64_t* paddr, PackedInfo* info) {
    Waiting& w = *waiting_;
    answer({w.vaddr, count, w.paddr, w.info});
    for (std::size_t i = 0; i < count; ++i) {
      paddr[w.index[i]] = w.paddr[i];
      info[w.index[i]] = w.info[i];
    }
    front_->learn(w.vaddr, count, w.paddr, w.info);
    w.count -= count;
    std::copy_n(w.index + count, w.count, w.index);
    std::copy_n(w.vaddr + count, w.count, w.vaddr);
  }

  // The slot that stands for the span of `vaddr`, or nullptr.
  LeafSlot* slot_of(std::uint64_t vaddr) noexcept {
    const std::uint64_t number = (vaddr >> span) - plan_.first_span;
    const std::uint64_t slot = number & (slots_.size() - 1);
    const bool hit = tags_.empty() ? number == slot : tags_[slot] == number;
    return hit ? &slots_[slot] : nullptr;
  }

  std::size_t answer_from_cache(const Block& b) noexcept {
    if (kernel_ == nullptr) return scalar_kernel(b);
    const LeafCacheView cache{slots_.data(), tags_.empty() ? nullptr : tags_.data(), plan_.first_span,
                              slots_.size() - 1};
    return kernel_({cache, filter_, b.vaddr, b.count, b.paddr, b.info, missed_, plan_.prefetch});
  }

  static const std::byte* leaf_entry(LeafSlot slot, std::uint64_t vaddr) noexcept {
    const std::uint64_t index = vaddr >> Format::page_shift & low_bits(Format::index_bits);
    return reinterpret_cast<const std::byte*>(slot & slot_host_mask) + index * sizeof(Entry);
  }

  std::size_t scalar_kernel(const Block& b) noexcept {
    std::size_t missed = 0;
    for (std::size_t i = 0; i < b.count; ++i) {
      if (plan_.prefetch && i % prefetch_group == 0) prefetch_entries(b, i);
      if (!answer_one(b, i)) missed_[missed++] = static_cast<std::uint32_t>(i);
    }
    return missed;
  }

  void prefetch_entries(const Block& b, std::size_t begin) noexcept {
    for (std::size_t i = begin; i < std::min(begin + prefetch_group, b.count); ++i) {
      const LeafSlot* slot = slot_of(b.vaddr[i]);
      if (slot != nullptr && *slot != 0 && (*slot & slot_uniform) == 0)
        __builtin_prefetch(leaf_entry(*slot, b.vaddr[i]));
    }
  }

  // One word's version of VectorKernel::answer.
  bool answer_one(const Block& b, std::size_t i) noexcept {
    const std::uint64_t vaddr = b.vaddr[i];
    const LeafSlot* found = slot_of(vaddr);
    if (found == nullptr || *found == 0) return false;
    const LeafSlot slot = *found;
    if ((slot & slot_uniform) != 0) {
      const auto info = static_cast<PackedInfo>(slot);
      const std::uint64_t address = (slot & (slot_uniform - 1) & ~low_bits(span)) | (vaddr & low_bits(span));
      b.info[i] = info;
      b.paddr[i] = is_fault(info) ? no_address : address;
      return true;
    }
    const std::uint64_t entry = load_entry<Entry>(leaf_entry(slot, vaddr));
    const std::uint64_t rights = Format::Leaf::template rights<std::uint64_t>(entry, slot >> slot_host_bits, filter_);
    if (((entry ^ filter_.want) & filter_.care) == 0 && (filter_.ok_rights >> rights & 1) != 0) {
      b.paddr[i] =
          Format::Leaf::template address<std::uint64_t>(entry, filter_) | (vaddr & low_bits(Format::page_shift));
      b.info[i] = pack_success(static_cast<Rights>(rights), Format::page_shift, 0);
      return true;
    }
    if ((entry & 1) != 0) return false;
    b.paddr[i] = no_address;
    b.info[i] = pack_fault(FaultReason::not_present, 0);
    return true;
  }

  void answer_missed(const Block& b, std::size_t missed) noexcept {
    constexpr std::size_t worth_interleaving = 8;
    if (plan_.prefetch && missed >= worth_interleaving) {
      walk_interleaved(b, missed);
      return;
    }
    for (std::size_t m = 0; m < missed; ++m) {
      const std::uint32_t i = missed_[m];
      // An earlier miss of this block may have filled the slot meanwhile.
      if (answer_one(b, i)) continue;
      WalkCursor<Format> cursor;
      bool done = cursor.begin(format_, memory_, b.vaddr[i]);
      while (!done) done = cursor.step(format_, memory_, access_, privilege_);
      finish(b, i, cursor);
    }
  }

  // All walks of a group advance together, so that their cache misses overlap (Kocberber et al., VLDB 2015).
  void walk_interleaved(const Block& b, std::size_t count) noexcept {
    WalkCursor<Format> cursors[prefetch_group];
    std::uint32_t active[prefetch_group];
    for (std::size_t group = 0; group < count; group += prefetch_group) {
      std::size_t running = 0;
      const std::size_t end = std::min(group + prefetch_group, count);
      for (std::size_t m = group; m < end; ++m) {
        WalkCursor<Format>& cursor = cursors[m - group];
        if (cursor.begin(format_, memory_, b.vaddr[missed_[m]])) {
          finish(b, missed_[m], cursor);
        } else {
          active[running++] = static_cast<std::uint32_t>(m);
        }
      }
      while (running != 0) {
        std::size_t still = 0;
        for (std::size_t k = 0; k < running; ++k) {
          const std::uint32_t m = active[k];
          WalkCursor<Format>& cursor = cursors[m - group];
          if (cursor.step(format_, memory_, access_, privilege_)) {
            finish(b, missed_[m], cursor);
          } else {
            __builtin_prefetch(cursor.host());
            active[still++] = m;
          }
        }
        running = still;
      }
    }
  }

  Translation walk_one(std::uint64_t vaddr) noexcept {
    if (!update_) return walk(format_, memory_, vaddr, access_, privilege_);
    WalkPath path;
    return walk_and_mark(format_, memory_, vaddr, access_, privilege_, path);
  }

  void finish(const Block& b, std::size_t i, const WalkCursor<Format>& cursor) noexcept {
    Translation t = cursor.result();
    if (update_ && t.ok()) t = walk_one(t.vaddr);  // its entries are in the cache now
    b.store(i, t);
    if (!slots_.empty()) remember(t, cursor);
  }

  void remember(const Translation& t, const WalkCursor<Format>& cursor) noexcept {
    if (t.level > 0) {  // a block, or a fault that every address of the span shares
      set_slot(t.vaddr, slot_uniform | pack(t) | (t.ok() ? t.paddr & ~low_bits(span) : 0));
      return;
    }
    // A walk that began at level 0 has a top table of another size.
    if (!filter_.usable || t.reason == FaultReason::table_unreachable || format_.top_level(t.vaddr) == 0) return;
    if (update_ && !t.ok()) return;  // the levels above have not been marked as accessed yet
    const std::byte* host = memory_.at(cursor.table(), batch_geometry<Format>().table_bytes);
    const auto address = reinterpret_cast<std::uintptr_t>(host);
    if (host == nullptr || (address & ~slot_host_mask) != 0) return;
    set_slot(t.vaddr, address | static_cast<std::uint64_t>(cursor.allowances()) << slot_host_bits);
  }

  void set_slot(std::uint64_t vaddr, LeafSlot value) noexcept {
    const std::uint64_t number = (vaddr >> span) - plan_.first_span;
    const std::uint64_t slot = number & (slots_.size() - 1);
    if (!tags_.empty())
      tags_[slot] = number;
    else if (slot != number)
      return;  // outside the range that the slots stand for
    slots_[slot] = value;
  }

  const Format& format_;
  TableReader memory_;
  Access access_;
  Privilege privilege_;
  bool update_;
  BatchPlan plan_;
  LeafFilter filter_;
  LeafKernel kernel_ = nullptr;
  std::vector<LeafSlot> slots_;
  std::vector<std::uint64_t> tags_;  ///< empty when the slots stand for one range of spans
  std::uint32_t missed_[block];
  BatchFront* front_;
  std::unique_ptr<Waiting> waiting_;  ///< with a front
};

/// Elements between two questions to `BatchRequest::keep_going`: a few milliseconds.
inline constexpr std::size_t batch_quantum = std::size_t{1} << 18;
/// A thread that gets less than this costs more than it brings.
inline constexpr std::size_t least_thread_share = std::size_t{1} << 14;

template <class Format>
void translate_batch(const Format& format, const RegionTable& memory, const std::uint64_t* vaddr, std::size_t count,
                     std::uint64_t* paddr, PackedInfo* info, const BatchRequest& request, bool update) {
  const bool usable = format.leaf_filter(request.access, request.privilege, update).usable;
  const BatchPlan plan = plan_batch(batch_geometry<Format>(), usable, vaddr, count, request.engine);
  const std::size_t wanted = request.threads != 0 ? request.threads : useful_threads();
  const std::size_t threads = std::clamp<std::size_t>(count / least_thread_share, 1, wanted);

  std::atomic<bool> stop{false};
  std::vector<std::exception_ptr> failures(threads);
  const auto share = [&](std::size_t t) {
    try {
      const std::size_t begin = count / threads * t + std::min(t, count % threads);
      const std::size_t size = count / threads + (t < count % threads ? 1 : 0);
      BatchShare<Format> work(format, memory, request, update, plan, threads == 1 ? request.front : nullptr);
      // Relaxed: the flag only shortens work; joining the threads orders everything else.
      for (std::size_t done = 0; done < size && !stop.load(std::memory_order_relaxed); done += batch_quantum) {
        const std::size_t n = std::min(batch_quantum, size - done);
        work.run(vaddr + begin + done, n, paddr + begin + done, info + begin + done);
        if (t == 0 && request.keep_going && !request.keep_going()) stop.store(true, std::memory_order_relaxed);
      }
    } catch (...) {
      failures[t] = std::current_exception();
    }
  };

  std::vector<std::thread> helpers;
  helpers.reserve(threads - 1);
  try {
    for (std::size_t t = 1; t < threads; ++t) helpers.emplace_back(share, t);
  } catch (...) {  // no thread to be had: those that run must end before their captures do
    stop.store(true, std::memory_order_relaxed);
    for (std::thread& helper : helpers) helper.join();
    throw;
  }
  share(0);
  for (std::thread& helper : helpers) helper.join();
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

}  // namespace vm::mem::paging
