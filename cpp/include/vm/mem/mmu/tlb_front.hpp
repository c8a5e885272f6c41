#pragma once
/// \file
/// The TLB of large arrays: what a batch asks before it walks, and keeps for the next one.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "vm/core/access.hpp"
#include "vm/mem/paging/batch_front.hpp"
#include "vm/mem/tlb/batch_level.hpp"
#include "vm/mem/tlb/flush_log.hpp"
#include "vm/mem/tlb/stats.hpp"

namespace vm::mem {

/// Translations that a batch may reuse without asking the tables again: those of the same context that were walked for
/// the same access and privilege. So their rights were checked, and the A and D flags that such an access sets are set.
///
/// Used by one batch at a time. It reads the log of flushes before each block, and forgets what they cover before it
/// answers: what a flush covers that returned before a batch began is not answered by it.
class TlbFront final : public paging::BatchFront {
 public:
  struct Key {
    tlb::Context context;
    Access access = Access::none;
    Privilege privilege = Privilege::supervisor;

    friend bool operator==(const Key& a, const Key& b) noexcept {
      return a.context == b.context && a.access == b.access && a.privilege == b.privilege;
    }
  };
  /// One look-up in so many votes for what stays.
  static constexpr std::size_t vote_interval = 32;

  /// `log`, of the TLB whose flushes reach it, outlives it. \throws std::bad_alloc
  TlbFront(const Key& key, unsigned page_shift, const tlb::FlushLog& log);

  const Key& key() const noexcept { return key_; }

  std::size_t answer(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, paging::PackedInfo* info,
                     const Missed& missed) noexcept override;
  void learn(const std::uint64_t* vaddr, std::size_t count, const std::uint64_t* paddr,
             const paging::PackedInfo* info) noexcept override;
  /// `learn` from each element, for a batch that asks nothing else. Its walk began after `count_known` was called, and
  /// nothing is learned when a flush has begun since.
  void learn_all(const std::uint64_t* vaddr, std::size_t count, const std::uint64_t* paddr,
                 const paging::PackedInfo* info) noexcept;

  /// How many of `count` addresses it would answer, at most `block` of which it looks at. Nothing else changes.
  std::size_t count_known(const std::uint64_t* vaddr, std::size_t count) noexcept;
  /// After walks that a change of the tables overtook.
  void forget_all() noexcept;

  /// What happened since this was last called.
  tlb::LevelStats take_counts() noexcept;

 private:
  void catch_up() noexcept;
  void learn_some(const std::uint64_t* vaddr, std::size_t first, std::size_t count, std::size_t step,
                  const std::uint64_t* paddr, const paging::PackedInfo* info) noexcept;

  Key key_;
  const tlb::FlushLog& log_;
  std::uint64_t seen_;
  std::size_t turn_ = 0;  // which of the elements vote
  tlb::LevelStats counts_;
  tlb::BatchLevel level_;
};

/// The fronts that no batch uses now. Any number of threads.
class TlbFronts {
 public:
  /// 256 KiB each.
  static constexpr std::size_t most_kept = 8;

  TlbFronts() { kept_.reserve(most_kept); }

  /// Of the same key if there is one, else a new one. \throws std::bad_alloc
  std::unique_ptr<TlbFront> take(const TlbFront::Key& key, unsigned page_shift, const tlb::FlushLog& log);
  void give_back(std::unique_ptr<TlbFront> front) noexcept;
  void clear() noexcept;

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<TlbFront>> kept_;  // the one that was used last at the end
};

}  // namespace vm::mem
