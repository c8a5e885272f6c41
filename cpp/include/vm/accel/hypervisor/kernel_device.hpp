#pragma once
/// \file
/// A device that the hypervisor plays and that is configured by attributes (Linux, Documentation/virt/kvm/devices).

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vm::accel {

/// The values are KVM's (KVM_DEV_TYPE_*).
enum class KernelDeviceKind : std::uint32_t {
  vfio = 4,
  arm_vgic_v2 = 5,
  arm_vgic_v3 = 7,
  arm_vgic_its = 8,
  riscv_aia = 12,
};

/// Any thread. `group` and `attribute` are the device's own words. Every call throws PlatformError.
class KernelDevice {
 public:
  virtual ~KernelDevice() = default;

  /// The descriptor that other interfaces of the kernel want to see.
  virtual int descriptor() const noexcept = 0;
  virtual bool has(std::uint32_t group, std::uint64_t attribute) const = 0;
  /// The first `size` bytes of its value, at most 4096.
  virtual std::vector<std::byte> get(std::uint32_t group, std::uint64_t attribute, std::size_t size) const = 0;
  /// Attributes that are commands take no bytes.
  virtual void set(std::uint32_t group, std::uint64_t attribute, const std::vector<std::byte>& value) = 0;
};

}  // namespace vm::accel
