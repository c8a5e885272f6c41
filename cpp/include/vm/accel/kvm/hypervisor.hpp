#pragma once
/// \file
/// KVM, the hypervisor of the Linux kernel, behind the common interface.

#include <memory>
#include <string>

#include "vm/accel/hypervisor/hypervisor.hpp"

namespace vm::accel {

/// Opens the KVM device at `path`. Throws NotSupported with the reason and what to do when KVM cannot be used.
std::shared_ptr<Hypervisor> open_kvm(const std::string& path = "/dev/kvm");

}  // namespace vm::accel
