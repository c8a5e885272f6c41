#include "guest_debug.hpp"

#include "abi.hpp"
#include "ioctl.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::kvm {

bool KvmGuestDebug::can_block_interrupts() const noexcept {
  return features_ > 0 && (static_cast<unsigned>(features_) & KVM_GUESTDBG_BLOCKIRQ) != 0;
}

void KvmGuestDebug::apply(const GuestDebugSettings& settings, unsigned extra) const {
  kvm_guest_debug debug{};
  debug.control = extra;
  if (settings.any()) debug.control |= KVM_GUESTDBG_ENABLE;
  if (settings.single_step) debug.control |= KVM_GUESTDBG_SINGLESTEP;
  if (settings.software_breakpoints) debug.control |= KVM_GUESTDBG_USE_SW_BP;
  if (settings.block_interrupts && settings.single_step) debug.control |= KVM_GUESTDBG_BLOCKIRQ;
  for (std::size_t i = 0; i < settings.hardware.size(); ++i) {
    if (!settings.hardware[i]) continue;
    debug.control |= KVM_GUESTDBG_USE_HW_BP;
    debug.arch.debugreg[i] = settings.hardware[i]->address;
  }
  debug.arch.debugreg[7] = dr7_of(settings);
  checked_ioctl(fd_, KVM_SET_GUEST_DEBUG, &debug, "KVM_SET_GUEST_DEBUG");
}

void KvmGuestDebug::set(const GuestDebugSettings& settings) {
  validate(settings);
  if (settings.block_interrupts && !can_block_interrupts()) {
    throw NotSupported(
        "this kernel's KVM cannot keep interrupts from a guest that is stepped (KVM_GUESTDBG_BLOCKIRQ of "
        "KVM_CAP_SET_GUEST_DEBUG2, Linux 5.16); step without block_interrupts");
  }
  apply(settings, 0);
  settings_ = settings;
}

void KvmGuestDebug::inject_breakpoint() { apply(settings_, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_BP); }

void KvmGuestDebug::inject_debug(std::uint64_t dr6) {
  kvm_debugregs registers{};  // KVM queues the exception without touching DR6
  checked_ioctl(fd_, KVM_GET_DEBUGREGS, &registers, "KVM_GET_DEBUGREGS");
  registers.dr6 |= dr6;
  checked_ioctl(fd_, KVM_SET_DEBUGREGS, &registers, "KVM_SET_DEBUGREGS");
  apply(settings_, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_DB);
}

}  // namespace vm::accel::kvm
