#include "x86_system.hpp"

#include <sys/ioctl.h>

#include <cerrno>

#include "abi.hpp"
#include "fam.hpp"
#include "ioctl.hpp"
#include "x86_cpuid_io.hpp"

namespace vm::accel::kvm {
namespace {

std::vector<std::uint32_t> read_list(int fd, unsigned long request, const char* what) {
  using MsrList = WithArray<kvm_msr_list, __u32>;
  std::uint32_t room = 0;
  for (;;) {
    MsrList list(room);
    list->nmsrs = room;
    if (::ioctl(fd, request, list.get()) < 0) {
      // E2BIG comes with the number that would fit.
      if (errno != E2BIG || list->nmsrs <= room) throw_errno(what, errno);
      room = list->nmsrs;
      continue;
    }
    std::vector<std::uint32_t> indices(list->nmsrs);
    for (std::size_t i = 0; i < indices.size(); ++i) indices[i] = list.read(i);
    return indices;
  }
}

}  // namespace

CpuidTable KvmX86System::supported_cpuid() {
  return read_cpuid(fd_, KVM_GET_SUPPORTED_CPUID, "KVM_GET_SUPPORTED_CPUID");
}

CpuidTable KvmX86System::emulated_cpuid() { return read_cpuid(fd_, KVM_GET_EMULATED_CPUID, "KVM_GET_EMULATED_CPUID"); }

std::vector<std::uint32_t> KvmX86System::msr_indices() {
  return read_list(fd_, KVM_GET_MSR_INDEX_LIST, "KVM_GET_MSR_INDEX_LIST");
}

std::vector<X86Msr> KvmX86System::feature_msrs() {
  std::vector<X86Msr> result;
  for (const std::uint32_t index : read_list(fd_, KVM_GET_MSR_FEATURE_INDEX_LIST, "KVM_GET_MSR_FEATURE_INDEX_LIST")) {
    WithArray<kvm_msrs, kvm_msr_entry> request(1);
    request->nmsrs = 1;
    kvm_msr_entry entry{};
    entry.index = index;
    request.write(0, entry);
    // One at a time: a kernel may list a register that this processor does not have.
    if (checked_ioctl(fd_, KVM_GET_MSRS, request.get(), "KVM_GET_MSRS") == 1)
      result.push_back({index, request.read(0).data});
  }
  return result;
}

}  // namespace vm::accel::kvm
