#include "frames.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "vm/core/address.hpp"
#include "vm/core/error.hpp"

namespace vm::mem::paging {

/// One downward look through memory.
struct TableFrames::Search {
  const RegionTable& memory;
  const FrameShape& shape;
  std::uint64_t found = 0;
  std::uint64_t looked_at = 0;
  std::uint64_t tables = 0;
  std::uint64_t not_zero = 0;
};

bool is_zero(const std::byte* bytes, std::uint64_t size) noexcept {
  constexpr std::uint64_t stride = 64;
  std::uint64_t offset = 0;
  for (; offset + stride <= size; offset += stride) {
    std::uint64_t words[stride / 8];
    std::memcpy(words, bytes + offset, stride);
    std::uint64_t any = 0;
    for (const std::uint64_t word : words) any |= word;
    if (any != 0) return false;
  }
  for (; offset < size; offset += 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes + offset, sizeof word);
    if (word != 0) return false;
  }
  return true;
}

TableFrames::TableFrames(std::optional<TableRange> range) : range_(range) {
  if (!range) return;
  constexpr std::uint64_t smallest = 4096;
  const bool whole = is_aligned(range->first, smallest) && is_aligned(range->last + 1, smallest);
  if (range->first > range->last || !whole)
    throw InvalidConfig("tables is [" + hex(range->first) + ", " + hex(range->last) +
                        "]; it must hold at least one frame, begin at a multiple of 4096 and end just before one");
}

void TableFrames::learn(std::unordered_set<std::uint64_t> tables) {
  // Somebody may have made a table of a frame that was given back.
  const auto reached = [&](std::uint64_t frame) { return tables.count(frame) != 0; };
  returned_.erase(std::remove_if(returned_.begin(), returned_.end(), reached), returned_.end());
  std::unordered_set<std::uint64_t> in_use = owned_;
  for (const std::uint64_t frame : returned_) in_use.erase(frame);
  tables.merge(in_use);
  tables_ = std::move(tables);
  known_ = true;
}

void TableFrames::own(std::uint64_t frame) {
  // Room first: nothing may fail between marking a frame and telling the caller about it.
  if (returned_.capacity() < owned_.size() + 1) returned_.reserve(2 * (owned_.size() + 1));
  owned_.insert(frame);
  tables_.insert(frame);
}

std::uint64_t TableFrames::take(const RegionTable& memory, const FrameShape& shape) {
  if (const auto frame = reuse(memory, shape)) {
    own(*frame);
    return *frame;
  }
  const std::uint64_t first = range_ ? range_->first : 0;
  const std::uint64_t last = std::min(shape.last, range_ ? range_->last : UINT64_MAX);
  const std::uint64_t from = std::min(cursor_.value_or(last), last);
  Search search{memory, shape};
  const bool found = scan(search, first, from) || (from < last && scan(search, std::max(first, from + 1), last));
  if (!found) give_up(search, first, last);
  own(search.found);
  cursor_ = search.found == 0 ? std::nullopt : std::optional(search.found - 1);
  return search.found;
}

std::optional<std::uint64_t> TableFrames::reuse(const RegionTable& memory, const FrameShape& shape) {
  while (!returned_.empty()) {
    const std::uint64_t frame = returned_.back();
    returned_.pop_back();
    // Nothing stops the guest from writing to a frame that no table uses.
    const std::byte* host = memory.writable_at(frame, shape.size);
    if (host != nullptr && is_zero(host, shape.size)) return frame;
    owned_.erase(frame);
  }
  return std::nullopt;
}

void TableFrames::give_back(std::uint64_t frame) noexcept {
  // Tables that others linked twice can come back twice.
  if (tables_.erase(frame) != 0) returned_.push_back(frame);
}

bool TableFrames::scan(Search& search, std::uint64_t first, std::uint64_t last) const {
  const std::uint64_t size = search.shape.size;
  const std::vector<Region>& regions = search.memory.regions();
  for (auto region = regions.rbegin(); region != regions.rend(); ++region) {
    const std::uint64_t low = std::max(first, region->base);
    const std::uint64_t high = std::min(last, region->last());
    if (!region->writable || low > high || high - low < size - 1) continue;
    for (std::uint64_t frame = align_down(high - (size - 1), size); frame >= low; frame -= size) {
      ++search.looked_at;
      if (tables_.count(frame) != 0) {
        ++search.tables;
      } else if (!is_zero(region->host + (frame - region->base), size)) {
        ++search.not_zero;
      } else {
        search.found = frame;
        return true;
      }
      if (frame < size) break;
    }
  }
  return false;
}

void TableFrames::give_up(const Search& search, std::uint64_t first, std::uint64_t last) const {
  throw ResourceExhausted("no frame is left for a new page table: of " + std::to_string(search.looked_at) +
                          " aligned frames of " + std::to_string(search.shape.size) + " bytes in writable memory in [" +
                          hex(first) + ", " + hex(last) + "], " + std::to_string(search.tables) +
                          " are tables of this address space and " + std::to_string(search.not_zero) +
                          " hold data; give " + (range_ ? "a larger or another range" : "a range of zeroed memory") +
                          " with tables=range(start, stop)");
}

}  // namespace vm::mem::paging
