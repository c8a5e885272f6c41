#include "exit_policy.hpp"

#include <array>
#include <cerrno>
#include <string>

#include "abi.hpp"
#include "ioctl.hpp"
#include "vm.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::kvm {
namespace {

std::vector<std::uint8_t> bitmap_of(const std::vector<bool>& allowed) {
  std::vector<std::uint8_t> bitmap((allowed.size() + 7) / 8);
  for (std::size_t i = 0; i < allowed.size(); ++i) {
    if (allowed[i]) bitmap[i / 8] |= static_cast<std::uint8_t>(1U << i % 8);
  }
  return bitmap;
}

}  // namespace

void KvmExitPolicy::set_msr_exits(MsrExits exits) {
  std::uint64_t mask = 0;
  if (exits.invalid) mask |= KVM_MSR_EXIT_REASON_INVAL;
  if (exits.unknown) mask |= KVM_MSR_EXIT_REASON_UNKNOWN;
  if (exits.filtered) mask |= KVM_MSR_EXIT_REASON_FILTER;
  vm_.enable(KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR", mask);
}

void KvmExitPolicy::set_msr_filter(const MsrFilter& filter) {
  check_msr_filter(filter);
  vm_.require(KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER");
  kvm_msr_filter request{};
  request.flags = filter.deny_others ? KVM_MSR_FILTER_DEFAULT_DENY : KVM_MSR_FILTER_DEFAULT_ALLOW;
  std::array<std::vector<std::uint8_t>, KVM_MSR_FILTER_MAX_RANGES> bitmaps;
  for (std::size_t i = 0; i < filter.ranges.size(); ++i) {
    const MsrRange& range = filter.ranges[i];
    bitmaps[i] = bitmap_of(range.allowed);
    if (range.reads) request.ranges[i].flags |= KVM_MSR_FILTER_READ;
    if (range.writes) request.ranges[i].flags |= KVM_MSR_FILTER_WRITE;
    request.ranges[i].nmsrs = static_cast<std::uint32_t>(range.allowed.size());
    request.ranges[i].base = range.base;
    request.ranges[i].bitmap = bitmaps[i].data();
  }
  checked_ioctl(vm_.fd(), KVM_X86_SET_MSR_FILTER, &request, "KVM_X86_SET_MSR_FILTER");
}

std::set<unsigned> KvmExitPolicy::possible_hypercall_exits() const {
  const auto mask = static_cast<unsigned>(std::max(0, vm_.capability(KVM_CAP_EXIT_HYPERCALL)));
  std::set<unsigned> numbers;
  for (unsigned number = 0; number < 32; ++number) {
    if ((mask >> number & 1) != 0) numbers.insert(number);
  }
  return numbers;
}

void KvmExitPolicy::set_hypercall_exits(const std::set<unsigned>& numbers) {
  const std::set<unsigned> possible = possible_hypercall_exits();
  std::uint64_t mask = 0;
  for (const unsigned number : numbers) {
    if (possible.count(number) == 0) {
      throw NotSupported("hypercall " + std::to_string(number) +
                         " cannot exit (KVM_CAP_EXIT_HYPERCALL); possible_hypercall_exits() has those that can");
    }
    mask |= std::uint64_t{1} << number;
  }
  if (!possible.empty()) vm_.enable(KVM_CAP_EXIT_HYPERCALL, "KVM_CAP_EXIT_HYPERCALL", mask);
}

void KvmExitPolicy::disable_exits(FreeRein what) {
  std::uint64_t mask = 0;
  if (what.mwait) mask |= KVM_X86_DISABLE_EXITS_MWAIT;
  if (what.hlt) mask |= KVM_X86_DISABLE_EXITS_HLT;
  if (what.pause) mask |= KVM_X86_DISABLE_EXITS_PAUSE;
  if (what.cstate) mask |= KVM_X86_DISABLE_EXITS_CSTATE;
  const auto possible = static_cast<unsigned>(vm_.require(KVM_CAP_X86_DISABLE_EXITS, "KVM_CAP_X86_DISABLE_EXITS"));
  if ((mask & ~std::uint64_t{possible}) != 0) {
    throw NotSupported("this KVM cannot give up those exits: asked for " + hex(mask) + ", it can " + hex(possible) +
                       " (KVM_CAP_X86_DISABLE_EXITS: 1 mwait, 2 hlt, 4 pause, 8 cstate)");
  }
  try {
    vm_.enable(KVM_CAP_X86_DISABLE_EXITS, "KVM_CAP_X86_DISABLE_EXITS", mask);
  } catch (const PlatformError& error) {
    if (error.code() != EINVAL) throw;
    throw InvalidConfig(std::string(error.what()) + "; exits are given up before the first vCPU");
  }
}

}  // namespace vm::accel::kvm
