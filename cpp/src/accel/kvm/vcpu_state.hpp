#pragma once
/// \file
/// The state that vCPUs of all architectures have, through KVM's requests.

#include <string>

#include "vm/accel/hypervisor/vcpu_state.hpp"

namespace vm::accel::kvm {

class KvmDeviceAttributes final : public DeviceAttributes {
 public:
  /// `fd` outlives this object.
  explicit KvmDeviceAttributes(int fd) noexcept : fd_(fd) {}

  bool has(std::uint32_t group, std::uint64_t number) override;
  std::vector<std::uint8_t> get(std::uint32_t group, std::uint64_t number, std::size_t size) override;
  void set(std::uint32_t group, std::uint64_t number, const std::vector<std::uint8_t>& value) override;

 private:
  const int fd_;
};

class KvmVcpuState final : public VcpuState {
 public:
  /// Descriptors of the vCPU and of its VM; both outlive this object.
  KvmVcpuState(int vcpu, int vm) noexcept : fd_(vcpu), vm_(vm), attributes_(vcpu) {}

  MpState mp_state() override;
  void set_mp_state(MpState state) override;
  std::vector<std::uint64_t> register_ids() override;
  std::vector<std::uint8_t> register_value(std::uint64_t id) override;
  void set_register_value(std::uint64_t id, const std::vector<std::uint8_t>& value) override;
  DeviceAttributes& attributes() noexcept override { return attributes_; }

 private:
  void require_registers(const std::string& what) const;

  const int fd_;
  const int vm_;
  KvmDeviceAttributes attributes_;
};

}  // namespace vm::accel::kvm
