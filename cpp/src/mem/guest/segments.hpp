#pragma once
/// \file
/// The step that all image formats share: from the ranges that headers claim to regions over one mapping of the file.

#include <cstdint>
#include <string>
#include <vector>

#include "mem/guest/file.hpp"
#include "vm/mem/guest/region.hpp"

namespace vm::mem {

/// One run of guest memory as a header announces it.
struct Segment {
  std::uint64_t base = 0;         ///< guest-physical
  std::uint64_t memory_size = 0;  ///< bytes in the guest; what exceeds `file_size` reads as zeros
  std::uint64_t file_offset = 0;
  std::uint64_t file_size = 0;      ///< bytes in the file
  std::uint64_t header_offset = 0;  ///< where the file announces it, for messages
};

/// Two segments that claim the same guest addresses.
enum class Overlaps : std::uint8_t {
  refuse,
  /// Fine when both give the same bytes. QEMU's `dump-guest-memory -p` names a page once for each virtual mapping, and
  /// kdump's vmcore repeats the kernel's text.
  allow_same_bytes,
};

/// Checks every claim, then maps the file once. Throws InvalidConfig naming the segment's header, ResourceExhausted.
std::vector<Region> map_segments(InputFile file, const std::vector<Segment>& segments, bool writable,
                                 Overlaps overlaps);

}  // namespace vm::mem
