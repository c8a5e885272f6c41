#pragma once
/// \file
/// What each page of a range may be used for, and the rule that nothing is writable and executable at once.

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "vm/core/access.hpp"

namespace vm::mem {

/// Which combinations of rights a page may have, now and over its life ("write xor execute").
enum class WxPolicy : std::uint8_t {
  unrestricted,  ///< any
  exclusive,     ///< never writable and executable at once; taking turns is allowed
  strict,        ///< as `exclusive`, and what was executable once is never writable again
};

/// "unrestricted", "exclusive" or "strict".
const char* to_string(WxPolicy policy) noexcept;

/// A run of pages with equal rights; offsets count from the start of the range.
struct RightsRange {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  Access access = Access::none;
};

/// The rights of the pages of [data, data + size), which somebody else owns and nobody else protects. Tracked, so that
/// a change that the policy forbids is an error before any page changes. Any thread may call anything.
class Protection {
 public:
  /// `data` and `size` are multiples of `page`; every page has `initial` now. Throws InvalidConfig.
  Protection(std::byte* data, std::uint64_t size, std::uint64_t page, WxPolicy policy, Access initial);

  /// Gives the pages of [offset, offset + size) exactly these rights; Access::none makes them a guard. Pages that
  /// become executable are made visible to instruction fetch (Arm ARM B2.2.5) where they were readable before. All
  /// change or none does. Throws OutOfRange, InvalidConfig when not whole pages, AccessViolation (page, rights it had,
  /// rights wanted, policy), ResourceExhausted when the process has no room for another mapping, PlatformError.
  void set(std::uint64_t offset, std::uint64_t size, Access access);

  /// Throws OutOfRange.
  Access at(std::uint64_t offset) const;
  /// Throws AccessViolation naming `what`, unless every page that [offset, offset + size) touches has these rights;
  /// OutOfRange.
  void require(std::uint64_t offset, std::uint64_t size, Access wanted, const std::string& what) const;
  /// Ascending, without gaps; neighbours differ.
  std::vector<RightsRange> ranges() const;

  WxPolicy policy() const noexcept { return policy_; }
  /// What offsets and sizes of `set` are multiples of.
  std::uint64_t page_size() const noexcept { return page_; }

 private:
  struct State {
    Access access;
    bool was_executable;
  };
  using States = std::map<std::uint64_t, State>;  // by the first offset; each lasts until the next

  std::uint64_t end_of(States::const_iterator run) const;
  States::iterator split(std::uint64_t offset);
  void check_range(std::uint64_t offset, std::uint64_t size, const char* what) const;
  void check_policy(std::uint64_t offset, const State& had, Access wanted) const;
  int apply(States::const_iterator first, States::const_iterator last, Access access);
  void merge(std::uint64_t from, std::uint64_t to);

  std::byte* data_;
  std::uint64_t size_;
  std::uint64_t page_;
  WxPolicy policy_;
  mutable std::mutex mutex_;
  States states_;
};

}  // namespace vm::mem
