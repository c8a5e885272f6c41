#pragma once
/// \file
/// Where pages are, as the kernel says (move_pages(2) without targets), and whether that is where they were wanted.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vm/mem/numa/policy.hpp"

namespace vm::mem::numa {

/// The nodes of the pages of a range, at the time of asking: the kernel may move a page whenever it likes.
struct Placement {
  /// In `pages`: nothing is there yet, or only the kernel's page of zeros, which a read brought.
  static constexpr int absent = -1;

  std::uint64_t page_size = 0;  ///< bytes of a page in `pages`: the system's smallest, also inside huge ones
  std::vector<int> pages;       ///< the node of each page, or `absent`

  /// Bytes by node, of the pages that are there.
  std::map<int, std::uint64_t> bytes() const;
  /// Bytes of the pages that are absent.
  std::uint64_t absent_bytes() const;
};

/// Why there is no asking here and what to do, or nothing when there is.
std::optional<std::string> placement_unavailable();

/// The pages that [address, address + size) touches. Any number of threads; a system call for each 4096 pages. Throws
/// NotSupported (a kernel without NUMA, a container that forbids the call), PlatformError.
Placement placement_of(const void* address, std::uint64_t size);

enum class Verdict : std::uint8_t {
  verified,    ///< every page is there, and on a node where the decision wants it
  elsewhere,   ///< some page is on another node, or an interleaving is uneven
  unverified,  ///< none is known to be elsewhere, but some are absent, or the kernel does not tell
};
/// "verified", "elsewhere", "unverified".
const char* to_string(Verdict verdict) noexcept;

struct Verification {
  Verdict verdict = Verdict::unverified;
  Placement placement;
  std::string reason;  ///< why it is not `verified`; empty when it is
};

/// Compares where pages are with where they should be. `granule`: the bytes that an interleaving deals out at a time
/// (the size of the largest page in use); the shares of nodes may differ by that and the remainder.
Verification judge(const Decision& decision, Placement placement, std::uint64_t granule);

}  // namespace vm::mem::numa
