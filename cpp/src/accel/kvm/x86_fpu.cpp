// x87, SSE and what XSAVE stores beside them.

#include <algorithm>
#include <cstring>

#include "abi.hpp"
#include "capability_set.hpp"
#include "ioctl.hpp"
#include "vm.hpp"
#include "vm/core/error.hpp"
#include "x86_state.hpp"

namespace vm::accel::kvm {
namespace {

constexpr std::size_t first_xsave_size = 4096;  // of kvm_xsave before KVM_CAP_XSAVE2

}  // namespace

X86Fpu KvmX86State::fpu() {
  kvm_fpu k{};
  checked_ioctl(fd_, KVM_GET_FPU, &k, "KVM_GET_FPU");
  X86Fpu r;
  static_assert(sizeof r.fpr == sizeof k.fpr && sizeof r.xmm == sizeof k.xmm);
  std::memcpy(&r.fpr, k.fpr, sizeof k.fpr);
  std::memcpy(&r.xmm, k.xmm, sizeof k.xmm);
  r.fcw = k.fcw;
  r.fsw = k.fsw;
  r.ftw = k.ftwx;
  r.last_opcode = k.last_opcode;
  r.last_ip = k.last_ip;
  r.last_dp = k.last_dp;
  r.mxcsr = k.mxcsr;
  return r;
}

void KvmX86State::set_fpu(const X86Fpu& r) {
  kvm_fpu k{};
  // KVM_SET_FPU does not look at MXCSR's reserved bits, and the processor would fault on them inside the kernel's
  // XRSTOR (SDM vol. 1 §10.2.3).
  if ((r.mxcsr & 0xFFFF'0000) != 0) throw InvalidConfig("MXCSR has 16 bits, got " + hex(r.mxcsr));
  std::memcpy(k.fpr, &r.fpr, sizeof k.fpr);
  std::memcpy(k.xmm, &r.xmm, sizeof k.xmm);
  k.fcw = r.fcw;
  k.fsw = r.fsw;
  k.ftwx = r.ftw;
  k.last_opcode = r.last_opcode;
  k.last_ip = r.last_ip;
  k.last_dp = r.last_dp;
  k.mxcsr = r.mxcsr;
  checked_ioctl(fd_, KVM_SET_FPU, &k, "KVM_SET_FPU");
}

std::size_t KvmX86State::xsave_size() const noexcept {
  const int size = vm_.capability(KVM_CAP_XSAVE2);
  return std::max(first_xsave_size, size > 0 ? static_cast<std::size_t>(size) : 0);
}

X86Xsave KvmX86State::xsave() {
  std::vector<std::uint8_t> bytes(xsave_size());
  if (bytes.size() > first_xsave_size) {
    checked_ioctl(fd_, KVM_GET_XSAVE2, bytes.data(), "KVM_GET_XSAVE2");
  } else {
    checked_ioctl(fd_, KVM_GET_XSAVE, bytes.data(), "KVM_GET_XSAVE");
  }
  return X86Xsave(std::move(bytes));
}

void KvmX86State::set_xsave(const X86Xsave& xsave) {
  if (xsave.size() != xsave_size())
    throw InvalidConfig("this VM's XSAVE areas have " + std::to_string(xsave_size()) + " bytes (KVM_CAP_XSAVE2), got " +
                        std::to_string(xsave.size()));
  std::vector<std::uint8_t> bytes = xsave.bytes();
  checked_ioctl(fd_, KVM_SET_XSAVE, bytes.data(), "KVM_SET_XSAVE");
}

std::vector<X86Xcr> KvmX86State::xcrs() {
  if (vm_.capability(KVM_CAP_XCRS) <= 0) throw_missing("KVM_GET_XCRS", "KVM_CAP_XCRS");
  kvm_xcrs k{};
  checked_ioctl(fd_, KVM_GET_XCRS, &k, "KVM_GET_XCRS");
  std::vector<X86Xcr> result;
  for (std::uint32_t i = 0; i < k.nr_xcrs && i < KVM_MAX_XCRS; ++i) result.push_back({k.xcrs[i].xcr, k.xcrs[i].value});
  return result;
}

void KvmX86State::set_xcrs(const std::vector<X86Xcr>& xcrs) {
  kvm_xcrs k{};
  if (xcrs.size() > KVM_MAX_XCRS)
    throw InvalidConfig("KVM takes " + std::to_string(KVM_MAX_XCRS) + " extended control registers, got " +
                        std::to_string(xcrs.size()));
  // KVM looks at XCR0 only and passes the others over in silence.
  for (const X86Xcr& xcr : xcrs) {
    if (xcr.index != 0) throw InvalidConfig("XCR" + std::to_string(xcr.index) + " cannot be written; XCR0 can");
    k.xcrs[k.nr_xcrs].xcr = xcr.index;
    k.xcrs[k.nr_xcrs++].value = xcr.value;
  }
  checked_ioctl(fd_, KVM_SET_XCRS, &k, "KVM_SET_XCRS");
}

}  // namespace vm::accel::kvm
