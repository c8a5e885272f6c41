#include "vm/accel/hypervisor/hypervisor.hpp"

#include <algorithm>
#include <utility>

#include "facet.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {

Hypervisor::Hypervisor(std::shared_ptr<HypervisorBackend> backend) : backend_(std::move(backend)) {
  if (!backend_) throw InvalidConfig("a Hypervisor needs a backend, got none");
}

Hypervisor::~Hypervisor() = default;

std::shared_ptr<HypervisorBackend> Hypervisor::backend() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!backend_) throw ClosedError("the hypervisor is closed");
  return backend_;
}

std::string Hypervisor::name() const { return backend()->name(); }

Architecture Hypervisor::architecture() const { return backend()->architecture(); }

unsigned Hypervisor::max_vcpus() const { return backend()->max_vcpus(); }

std::shared_ptr<Vm> Hypervisor::create_vm() {
  const std::shared_ptr<HypervisorBackend> backend = this->backend();
  auto vm = std::make_shared<Vm>(backend, backend->create_vm());
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!backend_) throw ClosedError("the hypervisor was closed meanwhile");
  vms_.erase(std::remove_if(vms_.begin(), vms_.end(), [](const auto& old) { return old.expired(); }), vms_.end());
  vms_.push_back(vm);
  return vm;
}

std::shared_ptr<X86System> Hypervisor::x86() const {
  return facet_of(backend(), &HypervisorBackend::x86, "this hypervisor offers no CPUID tables");
}

std::shared_ptr<Capabilities> Hypervisor::capabilities() const {
  return facet_of(backend(), &HypervisorBackend::capabilities, "this backend has no capabilities to ask for");
}

void Hypervisor::close() noexcept {
  std::vector<std::weak_ptr<Vm>> vms;
  std::shared_ptr<HypervisorBackend> backend;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    vms.swap(vms_);
    backend.swap(backend_);
  }
  for (const auto& weak : vms) {
    if (const std::shared_ptr<Vm> vm = weak.lock()) vm->close();
  }
}

bool Hypervisor::closed() const noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return !backend_;
}

}  // namespace vm::accel
