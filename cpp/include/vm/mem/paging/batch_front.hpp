#pragma once
/// \file
/// Somebody who is asked before the tables are.

#include <cstddef>
#include <cstdint>

#include "vm/mem/paging/translation.hpp"

namespace vm::mem::paging {

/// A cache of translations in front of a batch walk. Used by one thread at a time.
///
/// It is asked block by block; what it does not know is collected over several blocks, walked, and told to it.
class BatchFront {
 public:
  /// Elements asked for at once, at most.
  static constexpr std::size_t block = 1024;
  /// Beyond what is reported, so many elements of `Missed` may be written.
  static constexpr std::size_t slack = 8;

  /// Where the elements go that are to be walked.
  struct Missed {
    std::uint32_t* index;
    std::uint64_t* vaddr;
    std::uint32_t first;  ///< index of the block's first element
  };

  virtual ~BatchFront() = default;
  /// Answers what it knows of `count` addresses and lists the others in order; returns how many those are. `paddr` and
  /// `info` of the others may be anything.
  virtual std::size_t answer(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, PackedInfo* info,
                             const Missed& missed) noexcept = 0;
  /// What the tables say of addresses that were listed.
  virtual void learn(const std::uint64_t* vaddr, std::size_t count, const std::uint64_t* paddr,
                     const PackedInfo* info) noexcept = 0;

 protected:
  BatchFront() = default;
  BatchFront(const BatchFront&) = default;
  BatchFront& operator=(const BatchFront&) = default;
};

}  // namespace vm::mem::paging
