// Model-specific registers.

#include <algorithm>
#include <cerrno>

#include "abi.hpp"
#include "fam.hpp"
#include "ioctl.hpp"
#include "vm/core/error.hpp"
#include "x86_state.hpp"

namespace vm::accel::kvm {
namespace {

using MsrRequest = WithArray<kvm_msrs, kvm_msr_entry>;

constexpr std::size_t most_at_once = 255;  // the kernel refuses MAX_IO_MSRS, 256, and more

kvm_msr_entry entry_of(std::uint32_t index, std::uint64_t value = 0) noexcept {
  kvm_msr_entry entry{};
  entry.index = index;
  entry.data = value;
  return entry;
}

std::string numbered(std::uint32_t index) {
  const std::string name = msr_name(index);
  return name == hex(index) ? name : name + " (" + hex(index) + ")";
}

}  // namespace

std::vector<X86Msr> KvmX86State::msrs(const std::vector<std::uint32_t>& indices) {
  std::vector<X86Msr> result;
  while (result.size() < indices.size()) {
    const std::size_t first = result.size();
    const std::size_t count = std::min(most_at_once, indices.size() - first);
    MsrRequest request(count);
    request->nmsrs = static_cast<std::uint32_t>(count);
    for (std::size_t i = 0; i < count; ++i) request.write(i, entry_of(indices[first + i]));
    const auto done = static_cast<std::size_t>(checked_ioctl(fd_, KVM_GET_MSRS, request.get(), "KVM_GET_MSRS"));
    if (done < count)
      throw PlatformError("KVM_GET_MSRS: this vCPU has no model-specific register " + numbered(indices[first + done]),
                          EINVAL);
    for (std::size_t i = 0; i < count; ++i) result.push_back({request.read(i).index, request.read(i).data});
  }
  return result;
}

void KvmX86State::set_msrs(const std::vector<X86Msr>& msrs) {
  forget();  // EFER and the base of the APIC are special registers too
  for (std::size_t first = 0; first < msrs.size();) {
    const std::size_t count = std::min(most_at_once, msrs.size() - first);
    MsrRequest request(count);
    request->nmsrs = static_cast<std::uint32_t>(count);
    for (std::size_t i = 0; i < count; ++i) request.write(i, entry_of(msrs[first + i].index, msrs[first + i].value));
    const auto done = static_cast<std::size_t>(checked_ioctl(fd_, KVM_SET_MSRS, request.get(), "KVM_SET_MSRS"));
    if (done < count) {
      const X86Msr& refused = msrs[first + done];
      throw PlatformError("KVM_SET_MSRS: this vCPU takes no " + hex(refused.value) + " for model-specific register " +
                              numbered(refused.index) + "; of " + std::to_string(msrs.size()) + " registers " +
                              std::to_string(first + done) + " are written",
                          EINVAL);
    }
    first += count;
  }
}

}  // namespace vm::accel::kvm
