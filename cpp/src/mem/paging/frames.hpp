#pragma once
/// \file
/// Where new page tables come from. Nothing that holds data is ever overwritten: a frame is taken only when all its
/// bytes are zero and no table of the address space lies in it.

#include <cstddef>
#include <cstdint>
#include <optional>
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

/// True when all `size` bytes are zero; `size` is a multiple of 8.
bool is_zero(const std::byte* bytes, std::uint64_t size) noexcept;

/// The frames of one address space. Not for use by several threads at once.
class TableFrames {
 public:
  /// Takes frames from `range`; absent: from the top of the last writable region downwards, on through the writable
  /// regions below it. Throws InvalidConfig when `range` is empty or not made of whole 4 KiB frames.
  explicit TableFrames(std::optional<TableRange> range);

  /// False until `learn`, and again after `forget`: then `take` would not know which zeroed frames are tables.
  bool knows_tables() const noexcept { return known_; }
  /// The frames that must be left alone: those of all tables that the root reaches.
  void learn(std::unordered_set<std::uint64_t> tables);
  /// Asks for another `learn`, because a table that somebody else made has left the tree and may be used again.
  void forget() noexcept { known_ = false; }

  /// A frame full of zeros that is no table yet. Throws ResourceExhausted.
  std::uint64_t take(const RegionTable& memory, const FrameShape& shape);
  /// Did `take` hand this frame out?
  bool owns(std::uint64_t frame) const noexcept { return owned_.count(frame) != 0; }
  /// Takes back a frame that `owns`. Its bytes should be zero again: otherwise it is not handed out any more.
  void give_back(std::uint64_t frame) noexcept;

 private:
  struct Search;

  std::optional<std::uint64_t> reuse(const RegionTable& memory, const FrameShape& shape);
  void own(std::uint64_t frame);
  bool scan(Search& search, std::uint64_t first, std::uint64_t last) const;
  [[noreturn]] void give_up(const Search& search, std::uint64_t first, std::uint64_t last) const;

  std::optional<TableRange> range_;
  bool known_ = false;
  std::unordered_set<std::uint64_t> tables_;  ///< frames that `take` must leave alone
  std::unordered_set<std::uint64_t> owned_;   ///< frames that it handed out, returned ones included
  std::vector<std::uint64_t> returned_;       ///< has room for all of `owned_`, so that give_back cannot throw
  std::optional<std::uint64_t> cursor_;       ///< highest address not looked at; absent: begin at the top
};

}  // namespace vm::mem::paging
