#include "vm/accel/hypervisor/parked_vcpus.hpp"

#include <utility>

namespace vm::accel {

void ParkedVcpus::expect(unsigned id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  vcpus_.try_emplace(id);
}

void ParkedVcpus::put(unsigned id, std::unique_ptr<VcpuBackend> vcpu) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = vcpus_.find(id);
  if (!closed_ && found != vcpus_.end()) found->second = std::move(vcpu);
}

std::unique_ptr<VcpuBackend> ParkedVcpus::take(unsigned id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = vcpus_.find(id);
  return found == vcpus_.end() ? nullptr : std::move(found->second);
}

std::vector<unsigned> ParkedVcpus::ids() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<unsigned> result;
  for (const auto& [id, vcpu] : vcpus_) {
    if (vcpu != nullptr) result.push_back(id);
  }
  return result;
}

void ParkedVcpus::close() noexcept {
  std::map<unsigned, std::unique_ptr<VcpuBackend>> released;  // outside the lock: closing descriptors takes time
  const std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  released.swap(vcpus_);
}

}  // namespace vm::accel
