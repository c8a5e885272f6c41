#include "vm/accel/hypervisor/backend.hpp"

#include "vm/accel/hypervisor/kernel_device.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {

const char* architecture_name(Architecture architecture) noexcept {
  switch (architecture) {
    case Architecture::x86_64: return "x86_64";
    case Architecture::aarch64: return "aarch64";
    case Architecture::riscv64: return "riscv64";
  }
  return "unknown";
}

void VcpuBackend::refuse(const Exit& exit) {
  throw NotSupported(std::string("this hypervisor cannot make ") + exit_name(exit) + " fail in the guest");
}

void VcpuBackend::pre_fault(std::uint64_t /*paddr*/, std::uint64_t /*size*/) {
  throw NotSupported("this hypervisor maps no memory ahead of the guest");
}

std::shared_ptr<KernelDevice> VmBackend::create_device(KernelDeviceKind kind) {
  throw NotSupported("this hypervisor has no devices of its own, asked for kind " +
                     std::to_string(static_cast<std::uint32_t>(kind)));
}

}  // namespace vm::accel
