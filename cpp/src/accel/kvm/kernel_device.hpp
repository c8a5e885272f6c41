#pragma once
/// \file
/// Devices inside KVM.

#include <memory>

#include "vm/accel/hypervisor/kernel_device.hpp"

namespace vm::accel::kvm {

class KvmVm;

/// Throws NotSupported when this KVM has no such device, else what its creation throws.
std::shared_ptr<KernelDevice> create_device(const KvmVm& vm, KernelDeviceKind kind);

}  // namespace vm::accel::kvm
