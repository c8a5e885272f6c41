#include "kernel_device.hpp"

#include <algorithm>
#include <cerrno>
#include <string>

#include "abi.hpp"
#include "ioctl.hpp"
#include "vm.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/unique_fd.hpp"

namespace vm::accel::kvm {
namespace {

// KVM writes a value of the size that it knows, so there is always room for the largest that a device has.
constexpr std::size_t room = 4096;

class Device final : public KernelDevice {
 public:
  explicit Device(int fd) noexcept : fd_(fd) {}

  int descriptor() const noexcept override { return fd_.get(); }

  bool has(std::uint32_t group, std::uint64_t attribute) const override {
    kvm_device_attr request = about(group, attribute, nullptr);
    try {
      checked_ioctl(fd_.get(), KVM_HAS_DEVICE_ATTR, &request, "KVM_HAS_DEVICE_ATTR");
    } catch (const PlatformError& error) {
      if (error.code() == ENXIO) return false;
      throw;
    } catch (const NotSupported&) {  // a device that has no attributes at all
      return false;
    }
    return true;
  }

  std::vector<std::byte> get(std::uint32_t group, std::uint64_t attribute, std::size_t size) const override {
    if (size > room) throw InvalidConfig("attributes have at most 4096 bytes, asked for " + std::to_string(size));
    std::vector<std::byte> value(room);
    kvm_device_attr request = about(group, attribute, value.data());
    checked_ioctl(fd_.get(), KVM_GET_DEVICE_ATTR, &request, "KVM_GET_DEVICE_ATTR");
    value.resize(size);
    return value;
  }

  void set(std::uint32_t group, std::uint64_t attribute, const std::vector<std::byte>& value) override {
    if (value.size() > room)
      throw InvalidConfig("attributes have at most 4096 bytes, got " + std::to_string(value.size()));
    std::vector<std::byte> padded(room);  // it reads as much as it knows, too
    std::copy(value.begin(), value.end(), padded.begin());
    kvm_device_attr request = about(group, attribute, value.empty() ? nullptr : padded.data());
    checked_ioctl(fd_.get(), KVM_SET_DEVICE_ATTR, &request, "KVM_SET_DEVICE_ATTR");
  }

 private:
  static kvm_device_attr about(std::uint32_t group, std::uint64_t attribute, std::byte* value) noexcept {
    kvm_device_attr request{};
    request.group = group;
    request.attr = attribute;
    request.addr = reinterpret_cast<std::uintptr_t>(value);
    return request;
  }

  const mem::UniqueFd fd_;
};

}  // namespace

std::shared_ptr<KernelDevice> create_device(const KvmVm& vm, KernelDeviceKind kind) {
  vm.require(KVM_CAP_DEVICE_CTRL, "KVM_CAP_DEVICE_CTRL");
  kvm_create_device request{};
  request.type = static_cast<std::uint32_t>(kind);
  try {
    checked_ioctl(vm.fd(), KVM_CREATE_DEVICE, &request, "KVM_CREATE_DEVICE");
  } catch (const PlatformError& error) {
    if (error.code() != ENODEV) throw;
    throw NotSupported(std::string(error.what()) + "; this KVM has no device of kind " + std::to_string(request.type) +
                       " (KVM_DEV_TYPE_*)");
  }
  return std::make_shared<Device>(static_cast<int>(request.fd));
}

}  // namespace vm::accel::kvm
