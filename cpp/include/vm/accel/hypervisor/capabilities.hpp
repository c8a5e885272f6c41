#pragma once
/// \file
/// What a hypervisor, a VM or a vCPU says that it can do, by name.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vm::accel {

/// The answer to one question: 0 is no; the meaning of a larger value is the capability's own, often a count.
struct CapabilityAnswer {
  std::string name;  ///< the kernel's name without KVM_CAP_, in lower case: "user_memory"
  int value = 0;
};

/// Implemented by backends. Any thread for those of a hypervisor and a VM.
class Capabilities {
 public:
  virtual ~Capabilities() = default;

  /// All that this library knows by name.
  virtual std::vector<CapabilityAnswer> all() = 0;
  /// "KVM_CAP_IRQFD", "irqfd" or a number, "32". Throws InvalidConfig for an unknown name.
  virtual int check(std::string_view name) = 0;
  /// Switches on what is off by default (Linux, Documentation/virt/kvm/api.rst §6 and §7). Throws InvalidConfig for an
  /// unknown name, NotSupported when the kernel does not have it, PlatformError when it refuses.
  virtual void enable(std::string_view name, const std::array<std::uint64_t, 4>& arguments = {},
                      std::uint32_t flags = 0) = 0;
};

}  // namespace vm::accel
