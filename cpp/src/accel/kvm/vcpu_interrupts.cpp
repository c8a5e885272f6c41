#include "vcpu_interrupts.hpp"

#include <string>

#include "interrupts.hpp"
#include "ioctl.hpp"
#include "vm.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::kvm {

void KvmVcpuInterrupts::interrupt(unsigned vector) {
  if (vector > 255) throw InvalidConfig("interrupt vectors are 0 to 255, got " + std::to_string(vector));
  if (vm_.irq().irqchip() == IrqchipKind::kernel)
    throw InvalidConfig("the irqchip of this VM is KVM's: raise a line or signal a message instead of injecting");
  if (!ready()) {
    throw InvalidConfig("the guest cannot take interrupt " + std::to_string(vector) +
                        " now; request a window, run, and inject at IrqWindowOpen");
  }
  kvm_interrupt request{};
  request.irq = vector;
  checked_ioctl(fd_, KVM_INTERRUPT, &request, "KVM_INTERRUPT");
  // The kernel says so at the next exit only, and a second injection would replace the first.
  area_.ready_for_interrupt_injection = 0;
}

void KvmVcpuInterrupts::nmi() {
  vm_.require(KVM_CAP_USER_NMI, "KVM_CAP_USER_NMI");
  checked_ioctl(fd_, KVM_NMI, "KVM_NMI");
}

void KvmVcpuInterrupts::smi() {
  vm_.require(KVM_CAP_X86_SMM, "KVM_CAP_X86_SMM");
  checked_ioctl(fd_, KVM_SMI, "KVM_SMI");
}

void KvmVcpuInterrupts::set_task_priority(unsigned priority) {
  if (priority > 15) throw InvalidConfig("task priorities are 0 to 15, got " + std::to_string(priority));
  if (vm_.irq().irqchip() != IrqchipKind::none)
    throw InvalidConfig("the local APIC of this vCPU has the task priority; write its register or sregs.cr8");
  area_.cr8 = priority;
}

}  // namespace vm::accel::kvm
