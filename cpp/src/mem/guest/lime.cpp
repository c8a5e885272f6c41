// LiME version 1: each range of RAM follows a header of 32 bytes: u32 magic "EMiL", u32 version, u64 first address,
// u64 last address (inclusive), 8 reserved bytes. Source: lime.h of the LiME kernel module. AVML writes the same when
// it does not compress.
#include "mem/guest/lime.hpp"

#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "mem/guest/image.hpp"
#include "mem/guest/segments.hpp"
#include "vm/core/error.hpp"

namespace vm::mem {

namespace {

/// Throws unless `segment`'s header makes sense on its own.
Segment parse_header(const InputFile& file, std::uint64_t offset) {
  const std::string where = file.path() + ": the LiME header at file offset " + hex(offset);
  if (!file.holds(offset, lime::header_size)) {
    throw InvalidConfig(where + " is truncated: the file has " + hex(file.size()) + " bytes");
  }
  std::array<std::byte, lime::header_size> header;
  file.read(offset, header.data(), header.size());
  const auto magic = load_little_endian<std::uint32_t>(&header[lime::magic_at]);
  const auto version = load_little_endian<std::uint32_t>(&header[lime::version_at]);
  const auto first = load_little_endian<std::uint64_t>(&header[lime::first_at]);
  const auto last = load_little_endian<std::uint64_t>(&header[lime::last_at]);
  if (magic != lime::magic)
    throw InvalidConfig(where + " begins with " + hex(magic) + " instead of " + hex(lime::magic));
  if (version != lime::version)
    throw InvalidConfig(where + " has version " + std::to_string(version) + " instead of 1");
  if (last < first || last - first == UINT64_MAX) {
    throw InvalidConfig(where + " claims the addresses " + hex(first) + " to " + hex(last));
  }
  Segment segment;
  segment.base = first;
  segment.memory_size = segment.file_size = last - first + 1;
  segment.file_offset = offset + lime::header_size;
  segment.header_offset = offset;
  return segment;
}

}  // namespace

Image load_lime(InputFile file, bool writable) {
  std::vector<Segment> segments;
  // Every range holds at least one byte, so the file's size bounds this loop.
  for (std::uint64_t offset = 0; offset < file.size();) {
    segments.push_back(parse_header(file, offset));
    const Segment& segment = segments.back();
    if (!file.holds(segment.file_offset, segment.file_size)) {
      throw InvalidConfig(file.path() + ": the LiME header at file offset " + hex(offset) + " claims " +
                          hex(segment.file_size) + " bytes, but only " + hex(file.size() - segment.file_offset) +
                          " follow: truncated or damaged");
    }
    offset = segment.file_offset + segment.file_size;
  }
  Image image;
  image.facts.format = "lime";
  image.regions = map_segments(std::move(file), segments, writable, Overlaps::refuse);
  return image;
}

}  // namespace vm::mem
