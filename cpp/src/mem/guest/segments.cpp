#include "mem/guest/segments.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/mapping.hpp"

namespace vm::mem {

namespace {

/// The largest repetition that a genuine dump needs is the kernel's text, at most KERNEL_IMAGE_SIZE (1 GiB on x86-64).
/// Without a limit a hostile file could ask for any number of comparisons of all of itself.
constexpr std::uint64_t comparison_budget = std::uint64_t{1} << 30;
/// What the shortest comparison costs of it: it takes two system calls.
constexpr std::uint64_t smallest_comparison = std::uint64_t{1} << 16;

/// Guest memory with one source: consecutive bytes of the file, or zeros.
struct Piece {
  std::uint64_t base;
  std::uint64_t size;
  std::optional<std::uint64_t> file_offset;  // absent: zeros
  std::uint64_t header_offset;

  std::uint64_t last() const noexcept { return base + (size - 1); }
  /// True when `next` would continue this piece's run of file bytes.
  bool same_run(const Piece& next) const noexcept {
    return file_offset && next.file_offset && *next.file_offset - next.base == *file_offset - base;
  }
};

std::string header_text(const InputFile& file, std::uint64_t header_offset) {
  return file.path() + ": the header at file offset " + hex(header_offset);
}

void check_segment(const InputFile& file, const Segment& segment) {
  const std::string header = header_text(file, segment.header_offset);
  if (!range_fits(segment.base, segment.memory_size)) {
    throw InvalidConfig(header + " claims " + hex(segment.memory_size) + " bytes at guest address " +
                        hex(segment.base) + ", which end beyond the last 64-bit address");
  }
  if (segment.file_size > segment.memory_size) {
    throw InvalidConfig(header + " claims " + hex(segment.file_size) + " bytes in the file for only " +
                        hex(segment.memory_size) + " bytes of memory");
  }
  if (segment.file_size > 0 && !file.holds(segment.file_offset, segment.file_size)) {
    throw InvalidConfig(header + " claims " + hex(segment.file_size) + " bytes at file offset " +
                        hex(segment.file_offset) + ", but the file has only " + hex(file.size()) +
                        " bytes: truncated or damaged");
  }
}

std::vector<Piece> split(const InputFile& file, const std::vector<Segment>& segments) {
  std::vector<Piece> pieces;
  pieces.reserve(segments.size());
  for (const Segment& segment : segments) {
    check_segment(file, segment);
    if (segment.file_size > 0) {
      pieces.push_back({segment.base, segment.file_size, segment.file_offset, segment.header_offset});
    }
    if (segment.memory_size > segment.file_size) {
      pieces.push_back({segment.base + segment.file_size, segment.memory_size - segment.file_size, std::nullopt,
                        segment.header_offset});
    }
  }
  // Stable, so that of two claims to the same address the first in the file comes first in messages.
  std::stable_sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.base < b.base; });
  return pieces;
}

/// Lays pieces side by side in the order of their addresses.
class Layout {
 public:
  Layout(const InputFile& file, Overlaps overlaps) : file_(file), overlaps_(overlaps) {}

  void place(Piece piece) {
    if (!placed_.empty() && piece.base <= placed_.back().last()) {
      const std::uint64_t last = placed_.back().last();
      require_same_bytes(piece, std::min(last, piece.last()));
      if (piece.last() <= last) return;
      const std::uint64_t known = last + 1 - piece.base;
      piece.base += known;
      piece.size -= known;
      *piece.file_offset += known;
    }
    const bool continues = !placed_.empty() && placed_.back().last() + 1 == piece.base;
    if (continues && placed_.back().same_run(piece)) {
      placed_.back().size += piece.size;
    } else {
      placed_.push_back(piece);
    }
  }

  const std::vector<Piece>& pieces() const noexcept { return placed_; }

 private:
  /// Compares `piece` with what was placed before, up to `last`. Pieces arrive by rising base, so what was placed has
  /// no hole between piece.base and `last`; and neighbours of the same run were joined, so of any two placed pieces at
  /// least one costs budget: the work is bounded however the headers overlap.
  void require_same_bytes(const Piece& piece, std::uint64_t last) {
    auto other = std::prev(std::upper_bound(placed_.begin(), placed_.end(), piece.base,
                                            [](std::uint64_t base, const Piece& p) { return base < p.base; }));
    for (; other != placed_.end() && other->base <= last; ++other) {
      if (overlaps_ == Overlaps::refuse || !piece.file_offset || !other->file_offset) refuse(*other, piece, "");
      if (other->same_run(piece)) continue;
      const std::uint64_t first = std::max(piece.base, other->base);
      const std::uint64_t count = std::min(last, other->last()) - first + 1;
      const std::uint64_t cost = std::max(count, smallest_comparison);
      if (cost > budget_) refuse(*other, piece, ", more than a genuine dump repeats");
      budget_ -= cost;
      if (!same_bytes(*piece.file_offset + (first - piece.base), *other->file_offset + (first - other->base), count)) {
        refuse(*other, piece, ", and their bytes differ");
      }
    }
  }

  [[noreturn]] void refuse(const Piece& first, const Piece& second, const char* why) const {
    throw InvalidConfig(header_text(file_, second.header_offset) + " claims guest addresses " + hex(second.base) + "-" +
                        hex(second.last()) + ", which overlap those of the header at " + hex(first.header_offset) +
                        " (" + hex(first.base) + "-" + hex(first.last()) + ")" + why);
  }

  bool same_bytes(std::uint64_t one, std::uint64_t two, std::uint64_t count) const {
    std::array<std::byte, 1 << 16> a;
    std::array<std::byte, 1 << 16> b;
    while (count > 0) {
      const auto step = static_cast<std::size_t>(std::min<std::uint64_t>(count, a.size()));
      file_.read(one, a.data(), step);
      file_.read(two, b.data(), step);
      if (std::memcmp(a.data(), b.data(), step) != 0) return false;
      one += step;
      two += step;
      count -= step;
    }
    return true;
  }

  const InputFile& file_;
  Overlaps overlaps_;
  std::uint64_t budget_ = comparison_budget;
  std::vector<Piece> placed_;
};

std::uint64_t largest_run_of_zeros(const std::vector<Piece>& pieces) noexcept {
  std::uint64_t largest = 0;
  for (const Piece& piece : pieces) {
    if (!piece.file_offset) largest = std::max(largest, piece.size);
  }
  return largest;
}

std::shared_ptr<HostMapping> map_zeros(const std::string& path, std::uint64_t size) {
  if (size == 0) return nullptr;
  try {
    return HostMapping::zeros(size);
  } catch (const ResourceExhausted& error) {
    throw ResourceExhausted(path + " claims memory that the file does not hold: " + error.what());
  }
}

}  // namespace

std::vector<Region> map_segments(InputFile file, const std::vector<Segment>& segments, bool writable,
                                 Overlaps overlaps) {
  Layout layout(file, overlaps);
  for (const Piece& piece : split(file, segments)) layout.place(piece);
  const std::vector<Piece>& pieces = layout.pieces();

  const std::string path = file.path();
  const std::uint64_t size = file.size();
  const auto bytes = HostMapping::file(file.release(), 0, size, writable, path);
  // Nobody can write to these zeros, so all runs of them can share the same host memory.
  const auto zeros = map_zeros(path, largest_run_of_zeros(pieces));

  std::vector<Region> regions;
  regions.reserve(pieces.size());
  for (const Piece& piece : pieces) {
    Region region;
    region.base = piece.base;
    region.size = piece.size;
    region.host = piece.file_offset ? bytes->data() + *piece.file_offset : zeros->data();
    region.writable = writable && piece.file_offset;
    region.name = piece.file_offset ? path : path + " (zeros)";
    region.mapping = piece.file_offset ? bytes : zeros;
    regions.push_back(std::move(region));
  }
  return regions;
}

}  // namespace vm::mem
