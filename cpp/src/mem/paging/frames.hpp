#pragma once
/// \file
/// Where new page tables come from. Nothing that holds data is ever overwritten: a frame is taken only when all its
/// bytes are zero and no table of the address space lies in it.

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "vm/mem/guest/region.hpp"
#include "vm/mem/paging/mapping.hpp"

namespace vm::mem::paging {

/// What a page-table format asks of a table's frame.
struct FrameShape {
  std::uint64_t size = 4096;        ///< bytes, and the alignment
  std::uint64_t last = UINT64_MAX;  ///< highest physical address that a table entry can name
};

/// The frames of one address space. Not for use by several threads at once.
class TableFrames {
 public:
  /// Takes frames from `range`; absent: from the top of the last writable region downwards, on through the writable
  /// regions below it. Throws InvalidConfig when `range` is empty or not made of whole 4 KiB frames.
  explicit TableFrames(std::optional<TableRange> range);

  /// False until `learn`, and again after `forget`: then `take` would not know which zeroed frames are tables.
  bool knows_tables() const noexcept { return known_; }
  /// The frames of all tables that the root reaches now.
  void learn(std::unordered_set<std::uint64_t> tables);
  /// Asks for another `learn`, because a table that somebody else made has left the tree.
  void forget() noexcept { known_ = false; }

  /// A frame full of zeros that is no table yet. Throws ResourceExhausted.
  std::uint64_t take(const RegionTable& memory, const FrameShape& shape);
  /// Did `take` hand this frame out?
  bool owns(std::uint64_t frame) const noexcept { return owned_.count(frame) != 0; }
  /// Takes back a frame that `owns`; its bytes must be zero again.
  void give_back(std::uint64_t frame) noexcept;

 private:
  struct Search;

  std::optional<std::uint64_t> reuse(const RegionTable& memory, const FrameShape& shape);
  bool scan(Search& search, std::uint64_t first, std::uint64_t last);
  [[noreturn]] void give_up(const Search& search) const;

  std::optional<TableRange> range_;
  bool known_ = false;
  std::unordered_set<std::uint64_t> tables_;  ///< frames that `take` must leave alone
  std::unordered_set<std::uint64_t> owned_;   ///< frames that it handed out, returned ones included
  std::vector<std::uint64_t> returned_;       ///< capacity for all of `owned_`, so that give_back cannot throw
  std::optional<std::uint64_t> cursor_;       ///< highest address not looked at since the last wrap
};

}  // namespace vm::mem::paging
