#include "vcpu_state.hpp"

#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>

#include "abi.hpp"
#include "capability_set.hpp"
#include "ioctl.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::kvm {
namespace {

// The kernel writes as much as an attribute has, whatever the caller believes; none has more than a page.
constexpr std::size_t largest_attribute = 4096;

std::string attribute_text(const char* request, std::uint32_t group, std::uint64_t number) {
  return std::string(request) + " (group " + std::to_string(group) + ", attribute " + std::to_string(number) + ")";
}

kvm_device_attr attribute_at(std::uint32_t group, std::uint64_t number, std::uint8_t* value) {
  kvm_device_attr attribute{};
  attribute.group = group;
  attribute.attr = number;
  attribute.addr = reinterpret_cast<std::uintptr_t>(value);
  return attribute;
}

std::string register_text(const char* request, std::uint64_t id) { return std::string(request) + " " + hex(id); }

std::size_t register_size(std::uint64_t id) noexcept {
  return std::size_t{1} << ((id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT);
}

}  // namespace

bool KvmDeviceAttributes::has(std::uint32_t group, std::uint64_t number) {
  kvm_device_attr attribute = attribute_at(group, number, nullptr);
  return ::ioctl(fd_, KVM_HAS_DEVICE_ATTR, &attribute) == 0;
}

std::vector<std::uint8_t> KvmDeviceAttributes::get(std::uint32_t group, std::uint64_t number, std::size_t size) {
  if (size > largest_attribute)
    throw InvalidConfig("an attribute has at most " + std::to_string(largest_attribute) + " bytes, asked for " +
                        std::to_string(size));
  std::vector<std::uint8_t> value(largest_attribute);
  kvm_device_attr attribute = attribute_at(group, number, value.data());
  checked_ioctl(fd_, KVM_GET_DEVICE_ATTR, &attribute, attribute_text("KVM_GET_DEVICE_ATTR", group, number).c_str());
  value.resize(size);
  return value;
}

void KvmDeviceAttributes::set(std::uint32_t group, std::uint64_t number, const std::vector<std::uint8_t>& value) {
  std::vector<std::uint8_t> copy = value;
  // The kernel reads as much as the attribute has.
  copy.resize(std::max(copy.size(), largest_attribute));
  kvm_device_attr attribute = attribute_at(group, number, copy.data());
  checked_ioctl(fd_, KVM_SET_DEVICE_ATTR, &attribute, attribute_text("KVM_SET_DEVICE_ATTR", group, number).c_str());
}

MpState KvmVcpuState::mp_state() {
  kvm_mp_state state{};
  checked_ioctl(fd_, KVM_GET_MP_STATE, &state, "KVM_GET_MP_STATE");
  return static_cast<MpState>(state.mp_state);
}

void KvmVcpuState::set_mp_state(MpState state) {
  kvm_mp_state request{};
  request.mp_state = static_cast<std::uint32_t>(state);
  const std::string what = std::string("KVM_SET_MP_STATE ") + mp_state_name(state);
  checked_ioctl(fd_, KVM_SET_MP_STATE, &request, what.c_str());
}

void KvmVcpuState::require_registers(const std::string& what) const {
  if (::ioctl(vm_, KVM_CHECK_EXTENSION, KVM_CAP_ONE_REG) <= 0) throw_missing(what, "KVM_CAP_ONE_REG");
}

std::vector<std::uint64_t> KvmVcpuState::register_ids() {
  require_registers("KVM_GET_REG_LIST");
  std::vector<std::uint64_t> words(1);
  while (::ioctl(fd_, KVM_GET_REG_LIST, words.data()) < 0) {
    if (errno != E2BIG) throw_errno("KVM_GET_REG_LIST", errno);
    const std::uint64_t count = words[0];  // the kernel's answer: how many there are
    words.assign(count + 1, 0);
    words[0] = count;
  }
  words.resize(std::min<std::uint64_t>(words[0], words.size() - 1) + 1);
  words.erase(words.begin());
  return words;
}

std::vector<std::uint8_t> KvmVcpuState::register_value(std::uint64_t id) {
  const std::string what = register_text("KVM_GET_ONE_REG", id);
  require_registers(what);
  std::vector<std::uint8_t> value(register_size(id));
  kvm_one_reg request{id, reinterpret_cast<std::uintptr_t>(value.data())};
  checked_ioctl(fd_, KVM_GET_ONE_REG, &request, what.c_str());
  value.resize(register_size(id));
  return value;
}

void KvmVcpuState::set_register_value(std::uint64_t id, const std::vector<std::uint8_t>& value) {
  const std::string what = register_text("KVM_SET_ONE_REG", id);
  require_registers(what);
  if (value.size() != register_size(id))
    throw InvalidConfig(what + ": the register has " + std::to_string(register_size(id)) + " bytes, got " +
                        std::to_string(value.size()));
  std::vector<std::uint8_t> copy = value;
  kvm_one_reg request{id, reinterpret_cast<std::uintptr_t>(copy.data())};
  checked_ioctl(fd_, KVM_SET_ONE_REG, &request, what.c_str());
}

}  // namespace vm::accel::kvm
