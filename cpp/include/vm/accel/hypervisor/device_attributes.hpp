#pragma once
/// \file
/// Settings of something in the kernel that are known by a group and a number (Linux, Documentation/virt/kvm/api.rst
/// §4.80, Documentation/virt/kvm/devices).

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vm::accel {

/// Implemented by backends. Throws PlatformError when the kernel refuses, NotSupported where there are none at all.
class DeviceAttributes {
 public:
  virtual ~DeviceAttributes() = default;

  virtual bool has(std::uint32_t group, std::uint64_t number) = 0;
  /// `size` is what the attribute's description says: the kernel does not tell, and writes that many bytes.
  virtual std::vector<std::uint8_t> get(std::uint32_t group, std::uint64_t number, std::size_t size) = 0;
  virtual void set(std::uint32_t group, std::uint64_t number, const std::vector<std::uint8_t>& value) = 0;
};

}  // namespace vm::accel
