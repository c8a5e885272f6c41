#pragma once
/// \file
/// What the Linux hypervisor KVM offers on this machine. A probe only: it opens the device, asks, and closes it.
/// Compiles everywhere; on other systems the answer is "not available" with the reason.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vm::accel {

/// A question that KVM_CHECK_EXTENSION answers (Linux, Documentation/virt/kvm/api.rst §4.4).
struct KvmCapability {
  const char* name;      ///< the kernel's name without KVM_CAP_, in lower case: "user_memory"
  std::uint32_t number;  ///< the kernel's KVM_CAP_* value
};

/// The capabilities that a probe asks about, sorted by number.
const std::vector<KvmCapability>& kvm_capabilities();

/// KVM's answer to one question: 0 is no; the meaning of a larger value is the capability's own (often a count).
struct KvmCapabilityValue {
  KvmCapability capability;
  int value = 0;
};

/// The answers of one probe.
struct KvmInfo {
  bool available = false;
  std::string reason;    ///< why KVM cannot be used, and what to do; empty when it is available
  int api_version = -1;  ///< 12 on every kernel since 2.6.22; -1 when the device could not be asked
  std::vector<KvmCapabilityValue> capabilities;  ///< one per kvm_capabilities(); empty when not available
  std::size_t vcpu_mmap_size = 0;                ///< bytes of the shared kvm_run area of one vCPU; 0 when not available
};

/// The API version that this library speaks; KVM promises to keep it.
inline constexpr int kvm_api_version = 12;

/// Asks the KVM device at `path`. Absence, missing permission and a file that is not KVM are answers, not errors.
/// Any number of threads.
KvmInfo probe_kvm(const std::string& path = "/dev/kvm");

}  // namespace vm::accel
