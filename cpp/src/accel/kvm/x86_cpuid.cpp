#include <sys/ioctl.h>

#include <cerrno>

#include "abi.hpp"
#include "fam.hpp"
#include "ioctl.hpp"
#include "vm/core/error.hpp"
#include "x86_cpuid_io.hpp"
#include "x86_state.hpp"

namespace vm::accel::kvm {
namespace {

using CpuidRequest = WithArray<kvm_cpuid2, kvm_cpuid_entry2>;

// KVM_MAX_CPUID_ENTRIES was 80 for long and is 256 since Linux 5.12; a kernel that had more would say E2BIG.
constexpr std::uint32_t first_guess = 256;
constexpr std::uint32_t most = 1 << 16;

CpuidEntry from_kvm(const kvm_cpuid_entry2& k) noexcept {
  const bool indexed = (k.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0;
  return {k.function, indexed ? k.index : 0, indexed, k.eax, k.ebx, k.ecx, k.edx};
}

kvm_cpuid_entry2 to_kvm(const CpuidEntry& e) noexcept {
  kvm_cpuid_entry2 k{};
  k.function = e.function;
  k.index = e.index;
  if (e.indexed) k.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
  k.eax = e.eax;
  k.ebx = e.ebx;
  k.ecx = e.ecx;
  k.edx = e.edx;
  return k;
}

}  // namespace

CpuidTable read_cpuid(int fd, unsigned long request, const char* what) {
  for (std::uint32_t room = first_guess;; room *= 2) {
    CpuidRequest answer(room);
    answer->nent = room;
    if (::ioctl(fd, request, answer.get()) < 0) {
      if (errno == E2BIG && room < most) continue;
      throw_errno(what, errno);
    }
    CpuidTable table;
    for (std::uint32_t i = 0; i < answer->nent; ++i) table.set(from_kvm(answer.read(i)));
    return table;
  }
}

CpuidTable KvmX86State::cpuid() { return read_cpuid(fd_, KVM_GET_CPUID2, "KVM_GET_CPUID2"); }

void KvmX86State::set_cpuid(const CpuidTable& table) {
  forget();  // the kernel drops bits of CR4 and EFER that the table does not know
  CpuidRequest request(table.entries().size());
  request->nent = static_cast<std::uint32_t>(table.entries().size());
  for (std::size_t i = 0; i < table.entries().size(); ++i) request.write(i, to_kvm(table.entries()[i]));
  try {
    checked_ioctl(fd_, KVM_SET_CPUID2, request.get(), "KVM_SET_CPUID2");
  } catch (const PlatformError& error) {
    const char* hint = error.code() == E2BIG    ? "; that is more entries than this kernel takes"
                       : error.code() == EINVAL ? "; it refuses changes after the first run, and impossible values such"
                                                  " as widths of virtual addresses other than 48 and 57"
                                                : "";
    throw PlatformError(std::string(error.what()) + hint, error.code());
  }
}

}  // namespace vm::accel::kvm
