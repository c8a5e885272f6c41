#include "capability_set.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "abi.hpp"
#include "ioctl.hpp"
#include "vm/accel/kvm/probe.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::kvm {
namespace {

constexpr std::string_view prefix = "kvm_cap_";

std::uint32_t number_of(std::string_view name) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error == std::errc{} && end == name.data() + name.size()) return number;
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower.compare(0, prefix.size(), prefix) == 0) lower.erase(0, prefix.size());
  for (const KvmCapability& capability : kvm_capabilities()) {
    if (lower == capability.name) return capability.number;
  }
  throw InvalidConfig("no capability of KVM is known as \"" + std::string(name) +
                      "\"; give a name such as KVM_CAP_IRQFD, or the kernel's number for one that is younger than this "
                      "library");
}

}  // namespace

void throw_missing(const std::string& what, const char* capability) {
  throw NotSupported(what + ": this machine's KVM has no " + capability);
}

int CapabilitySet::check(std::string_view name) {
  return checked_ioctl(asked_, KVM_CHECK_EXTENSION, number_of(name), "KVM_CHECK_EXTENSION");
}

std::vector<CapabilityAnswer> CapabilitySet::all() {
  std::vector<CapabilityAnswer> answers;
  for (const KvmCapability& capability : kvm_capabilities()) {
    answers.push_back(
        {capability.name, checked_ioctl(asked_, KVM_CHECK_EXTENSION, capability.number, "KVM_CHECK_EXTENSION")});
  }
  return answers;
}

void CapabilitySet::enable(std::string_view name, const std::array<std::uint64_t, 4>& arguments, std::uint32_t flags) {
  kvm_enable_cap request{};
  request.cap = number_of(name);
  request.flags = flags;
  std::copy(arguments.begin(), arguments.end(), request.args);
  if (enabled_ < 0) throw NotSupported("a hypervisor has nothing to enable; a VM and a vCPU have");
  const std::string what = "KVM_ENABLE_CAP(" + std::string(name) + ")";
  checked_ioctl(enabled_, KVM_ENABLE_CAP, &request, what.c_str());
}

}  // namespace vm::accel::kvm
