// The time stamp counter, and the clock of paravirtual guests.

#include "abi.hpp"
#include "capability_set.hpp"
#include "ioctl.hpp"
#include "vm.hpp"
#include "vm/core/error.hpp"
#include "x86_state.hpp"

namespace vm::accel::kvm {

std::uint32_t KvmX86State::tsc_khz() {
  return static_cast<std::uint32_t>(checked_ioctl(fd_, KVM_GET_TSC_KHZ, "KVM_GET_TSC_KHZ"));
}

void KvmX86State::set_tsc_khz(std::uint32_t khz) {
  if (khz == 0) throw InvalidConfig("a time stamp counter does not stand still; give its frequency in kHz");
  const std::uint32_t before = tsc_khz();
  try {
    checked_ioctl(fd_, KVM_SET_TSC_KHZ, khz, "KVM_SET_TSC_KHZ");
  } catch (const PlatformError&) {
    // The kernel refuses, and reports the refused frequency from then on.
    checked_ioctl(fd_, KVM_SET_TSC_KHZ, before, "KVM_SET_TSC_KHZ");
    if (vm_.capability(KVM_CAP_TSC_CONTROL) > 0) throw;
    throw_missing("a time stamp counter of " + std::to_string(khz) + " kHz beside the host's", "KVM_CAP_TSC_CONTROL");
  }
}

void KvmX86State::kvmclock_ctrl() {
  checked_ioctl(fd_, KVM_KVMCLOCK_CTRL, "KVM_KVMCLOCK_CTRL (the guest has to have switched its kvmclock on)");
}

}  // namespace vm::accel::kvm
