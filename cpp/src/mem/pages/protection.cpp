#include "vm/mem/pages/protection.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "mem/pages/system_error.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"

namespace vm::mem {

namespace {

int protection_of(Access access) noexcept {
  return (has(access, Access::read) ? PROT_READ : 0) | (has(access, Access::write) ? PROT_WRITE : 0) |
         (has(access, Access::execute) ? PROT_EXEC : 0);
}

[[noreturn]] void throw_refused(std::uint64_t offset, std::uint64_t size, Access access, int code) {
  const std::string what = "cannot make " + hex(size) + " bytes at offset " + hex(offset) + " " + to_string(access);
  if (code == ENOMEM) {
    throw ResourceExhausted(what +
                            ": the process has as many mappings as it may (/proc/sys/vm/max_map_count); "
                            "give neighbouring pages equal rights");
  }
  if (code == EACCES && has(access, Access::execute)) {
    throw_system_error(what + " (a security policy such as SELinux execmem or PR_SET_MDWE; DualMapping may work)",
                       code);
  }
  throw_system_error(what, code);
}

}  // namespace

const char* to_string(WxPolicy policy) noexcept {
  switch (policy) {
    case WxPolicy::unrestricted: return "unrestricted";
    case WxPolicy::exclusive: return "exclusive";
    case WxPolicy::strict: return "strict";
  }
  return "unknown";
}

Protection::Protection(std::byte* data, std::uint64_t size, std::uint64_t page, WxPolicy policy, Access initial)
    : data_(data), size_(size), page_(page), policy_(policy) {
  if (!is_power_of_two(page) || size == 0 || !is_aligned(size, page) ||
      !is_aligned(reinterpret_cast<std::uintptr_t>(data), page)) {
    throw InvalidConfig("protection works on whole pages of " + hex(page) + " bytes, got " + hex(size) + " bytes at " +
                        hex(reinterpret_cast<std::uintptr_t>(data)));
  }
  check_policy(0, {Access::none, false}, initial);
  states_.emplace(0, State{initial, has(initial, Access::execute)});
}

void Protection::set(std::uint64_t offset, std::uint64_t size, Access access) {
  check_range(offset, size, "protect");
  if (!is_aligned(offset, page_) || !is_aligned(size, page_)) {
    throw InvalidConfig("protect takes whole pages of " + hex(page_) + " bytes, got " + hex(size) +
                        " bytes at offset " + hex(offset));
  }
  if (size == 0) return;
  const std::lock_guard lock(mutex_);
  const auto first = split(offset);
  const auto last = split(offset + size);
  for (auto run = first; run != last; ++run) check_policy(run->first, run->second, access);
  const int code = apply(first, last, access);
  for (auto run = first; run != last; ++run) {
    if (code == 0) run->second.access = access;
    run->second.was_executable = run->second.was_executable || has(access, Access::execute);
  }
  merge(offset, offset + size);
  if (code != 0) throw_refused(offset, size, access, code);
}

Access Protection::at(std::uint64_t offset) const {
  check_range(offset, 1, "rights");
  const std::lock_guard lock(mutex_);
  return std::prev(states_.upper_bound(offset))->second.access;
}

void Protection::require(std::uint64_t offset, std::uint64_t size, Access wanted, const std::string& what) const {
  check_range(offset, size, what.c_str());
  if (size == 0) return;
  const std::lock_guard lock(mutex_);
  for (auto run = std::prev(states_.upper_bound(offset)); run != states_.end() && run->first < offset + size; ++run) {
    if (has(run->second.access, wanted)) continue;
    throw AccessViolation(what + " needs " + to_string(wanted) + ", the page at offset " +
                          hex(std::max(run->first, align_down(offset, page_))) + " has " +
                          to_string(run->second.access) + "; protect it otherwise first");
  }
}

std::vector<RightsRange> Protection::ranges() const {
  const std::lock_guard lock(mutex_);
  std::vector<RightsRange> ranges;
  for (auto run = states_.begin(); run != states_.end(); ++run) {
    const std::uint64_t size = end_of(run) - run->first;
    // A strict policy tells pages apart that have the same rights now.
    if (!ranges.empty() && ranges.back().access == run->second.access) {
      ranges.back().size += size;
    } else {
      ranges.push_back({run->first, size, run->second.access});
    }
  }
  return ranges;
}

std::uint64_t Protection::end_of(States::const_iterator run) const {
  const auto next = std::next(run);
  return next == states_.end() ? size_ : next->first;
}

/// The run that begins at `offset`, which it makes if there is none; end() for the end of the range.
Protection::States::iterator Protection::split(std::uint64_t offset) {
  if (offset == size_) return states_.end();
  const auto run = std::prev(states_.upper_bound(offset));
  return run->first == offset ? run : states_.emplace_hint(std::next(run), offset, run->second);
}

void Protection::check_range(std::uint64_t offset, std::uint64_t size, const char* what) const {
  if (offset <= size_ && size <= size_ - offset) return;
  throw OutOfRange(std::string(what) + " of " + hex(size) + " bytes at offset " + hex(offset) + ", but there are " +
                       hex(size_) + " bytes",
                   offset, size);
}

void Protection::check_policy(std::uint64_t offset, const State& had, Access wanted) const {
  if (policy_ == WxPolicy::unrestricted || !has(wanted, Access::write)) return;
  const char* rule = nullptr;
  if (has(wanted, Access::execute)) {
    rule = "allows no page that is writable and executable; change it in two steps, or use DualMapping";
  } else if (policy_ == WxPolicy::strict && had.was_executable) {
    rule = "makes nothing writable that was executable; allocate another block";
  }
  if (rule == nullptr) return;
  throw AccessViolation("the page at offset " + hex(offset) + " has " + to_string(had.access) + ", wanted " +
                        to_string(wanted) + ": the policy \"" + to_string(policy_) + "\" " + rule);
}

/// Gives the pages of the runs these rights, or leaves them as they were and returns the errno.
int Protection::apply(States::const_iterator first, States::const_iterator last, Access access) {
  const std::uint64_t offset = first->first;
  const std::uint64_t size = (last == states_.end() ? size_ : last->first) - offset;
  if (has(access, Access::execute)) {
    for (auto run = first; run != last; ++run) {
      if (!has(run->second.access, Access::read)) continue;
      char* const begin = reinterpret_cast<char*>(data_ + run->first);
      __builtin___clear_cache(begin, begin + (end_of(run) - run->first));
    }
  }
  if (::mprotect(data_ + offset, size, protection_of(access)) == 0) return 0;
  const int code = errno;
  // mprotect(2) goes mapping by mapping, so the first ones may have changed. Changing them back needs no more mappings
  // than there were before.
  for (auto run = first; run != last; ++run) {
    ::mprotect(data_ + run->first, end_of(run) - run->first, protection_of(run->second.access));
  }
  return code;
}

/// Joins runs that begin in [from, to] to the one before them where nothing tells the two apart.
void Protection::merge(std::uint64_t from, std::uint64_t to) {
  for (auto run = states_.lower_bound(std::max(from, page_)); run != states_.end() && run->first <= to;) {
    const State& before = std::prev(run)->second;
    const bool alike = before.access == run->second.access && before.was_executable == run->second.was_executable;
    run = alike ? states_.erase(run) : std::next(run);
  }
}

}  // namespace vm::mem
