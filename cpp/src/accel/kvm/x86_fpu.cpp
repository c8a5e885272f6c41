// x87, SSE and what XSAVE stores beside them.

#include <algorithm>

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

// Not KVM_GET_FPU and KVM_SET_FPU: they leave MXCSR out, and show registers that XSTATE_BV calls unused.
X86Fpu KvmX86State::fpu() { return xsave().legacy(); }

void KvmX86State::set_fpu(const X86Fpu& fpu) {
  X86Xsave area = xsave();
  area.set_legacy(fpu);
  set_xsave(area);
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
