#pragma once
/// \file
/// Which hypervisors this build knows, and which of them work here.

#include <memory>
#include <string>
#include <vector>

#include "vm/accel/hypervisor/hypervisor.hpp"

namespace vm::accel {

struct BackendInfo {
  std::string name;    ///< what `create_hypervisor` takes: "kvm"
  bool works = false;  ///< VMs can be created here
  std::string reason;  ///< why not, and what to do about it; empty when it works
};

/// Every backend of this build, the preferred ones first. Asks each; creates nothing.
std::vector<BackendInfo> available_backends();

/// The first backend that works, or the one called `name`. Throws NotSupported saying why each of those asked does not
/// work, InvalidConfig for a name that no backend has.
std::shared_ptr<Hypervisor> create_hypervisor(const std::string& name = {});

}  // namespace vm::accel
