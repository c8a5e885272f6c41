// Systems without KVM.

#include "vm/accel/kvm/hypervisor.hpp"
#include "vm/accel/kvm/probe.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {

std::shared_ptr<Hypervisor> open_kvm(const std::string& path) { throw NotSupported("KVM: " + probe_kvm(path).reason); }

}  // namespace vm::accel
