#include "kernel_statistics.hpp"

#include <sys/ioctl.h>

#include "abi.hpp"
#include "capability_set.hpp"
#include "ioctl.hpp"

namespace vm::accel::kvm {

mem::UniqueFd KvmStatistics::open() {
  if (::ioctl(vm_, KVM_CHECK_EXTENSION, static_cast<unsigned long>(KVM_CAP_BINARY_STATS_FD)) <= 0)
    throw_missing("the kernel's statistics", "KVM_CAP_BINARY_STATS_FD");
  return mem::UniqueFd(checked_ioctl(fd_, KVM_GET_STATS_FD, "KVM_GET_STATS_FD"));
}

}  // namespace vm::accel::kvm
