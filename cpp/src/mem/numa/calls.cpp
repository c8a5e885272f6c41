#include "mem/numa/calls.hpp"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450  // Linux 5.17, the same number on every architecture; younger than Debian 12's
#endif

namespace vm::mem::numa {

namespace {

// linux/mempolicy.h; its MPOL_PREFERRED_MANY is younger than some C libraries' copies.
constexpr int mpol_preferred = 1;
constexpr int mpol_bind = 2;
constexpr int mpol_interleave = 3;
constexpr int mpol_preferred_many = 5;
constexpr int mpol_mode_flags = 0xe000;
constexpr unsigned long mpol_f_addr = 1UL << 1;
constexpr unsigned long mpol_f_mems_allowed = 1UL << 2;
constexpr int mpol_mf_move = 1 << 1;

// The kernel takes one bit less than it is told (get_nodes in mm/mempolicy.c).
constexpr unsigned long mask_bits = static_cast<unsigned long>(node_limit) + 1;

int kernel_mode(Mode mode) noexcept {
  switch (mode) {
    case Mode::preferred: return mpol_preferred;
    case Mode::bind: return mpol_bind;
    case Mode::interleave: return mpol_interleave;
    case Mode::preferred_many: break;
  }
  return mpol_preferred_many;
}

}  // namespace

NodeMask::NodeMask(const std::vector<int>& nodes) noexcept {
  for (const int node : nodes) {
    const auto bit = static_cast<std::size_t>(node);
    words[bit / word_bits] |= 1UL << (bit % word_bits);
  }
}

std::vector<int> NodeMask::nodes() const {
  std::vector<int> found;
  for (std::size_t bit = 0; bit < static_cast<std::size_t>(node_limit); ++bit) {
    if ((words[bit / word_bits] >> (bit % word_bits) & 1UL) != 0) found.push_back(static_cast<int>(bit));
  }
  return found;
}

bool NodeMask::operator==(const NodeMask& other) const noexcept {
  return std::equal(std::begin(words), std::end(words), std::begin(other.words));
}

int set_policy(void* start, std::size_t size, const Decision& decision) noexcept {
  if (decision.nodes.back() >= node_limit) return EINVAL;  // a description's node: no kernel has it
  const NodeMask mask(decision.nodes);
  const long result = ::syscall(SYS_mbind, start, size, kernel_mode(decision.mode), mask.words, mask_bits, 0U);
  return result == 0 ? 0 : errno;
}

int set_home_node(void* start, std::size_t size, int node) noexcept {
  const long result = ::syscall(SYS_set_mempolicy_home_node, start, size, static_cast<unsigned long>(node), 0UL);
  return result == 0 ? 0 : errno;
}

int get_policy(const void* address, int& mode, NodeMask& nodes) noexcept {
  const long result = ::syscall(SYS_get_mempolicy, &mode, nodes.words, mask_bits, address, mpol_f_addr);
  return result == 0 ? 0 : errno;
}

int get_allowed(NodeMask& nodes) noexcept {
  const long result = ::syscall(SYS_get_mempolicy, nullptr, nodes.words, mask_bits, nullptr, mpol_f_mems_allowed);
  return result == 0 ? 0 : errno;
}

int move_pages(std::size_t count, void** pages, const int* targets, int* status) noexcept {
  const long result = ::syscall(SYS_move_pages, 0, count, pages, targets, status, mpol_mf_move);
  // A positive number is that of the pages that could not be moved (Linux 4.17): no failure of the call.
  return result >= 0 ? 0 : errno;
}

int migrate_process_pages(const NodeMask& from, const NodeMask& to, std::uint64_t& left) noexcept {
  const long result = ::syscall(SYS_migrate_pages, 0, mask_bits, from.words, to.words);
  if (result < 0) return errno;
  left = static_cast<std::uint64_t>(result);
  return 0;
}

bool kernel_mode_is(int mode, Mode wanted) noexcept {
  const int plain = mode & ~mpol_mode_flags;
  // hwloc asks for "many" of one node, which is the same.
  return plain == kernel_mode(wanted) || (wanted == Mode::preferred && plain == mpol_preferred_many);
}

int current_cpu() noexcept { return ::sched_getcpu(); }

}  // namespace vm::mem::numa
