#include "vm/accel/hypervisor/x86_lapic.hpp"

#include <cerrno>
#include <cstring>

#include "abi.hpp"
#include "ioctl.hpp"
#include "vm/core/error.hpp"
#include "x86_state.hpp"

namespace vm::accel::kvm {
namespace {

void ask(int fd, unsigned long request, kvm_lapic_state& state, const char* what) {
  static_assert(sizeof state.regs == X86Lapic::size);
  try {
    checked_ioctl(fd, request, &state, what);
  } catch (const PlatformError& error) {
    if (error.code() != EINVAL) throw;
    throw InvalidConfig(
        std::string(what) +
        ": the kernel keeps no such local APIC for this vCPU; give its VM an interrupt controller (or a "
        "split one) before the vCPU is created, and keep the APIC id");
  }
}

}  // namespace

X86Lapic KvmX86State::lapic() {
  kvm_lapic_state k{};
  ask(fd_, KVM_GET_LAPIC, k, "KVM_GET_LAPIC");
  X86Lapic lapic;
  std::memcpy(lapic.page.data(), k.regs, sizeof k.regs);
  return lapic;
}

void KvmX86State::set_lapic(const X86Lapic& lapic) {
  forget();  // the task priority is CR8
  kvm_lapic_state k{};
  std::memcpy(k.regs, lapic.page.data(), sizeof k.regs);
  ask(fd_, KVM_SET_LAPIC, k, "KVM_SET_LAPIC");
}

}  // namespace vm::accel::kvm
