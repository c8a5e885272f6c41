// What is about to happen, and the state of nested guests.

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

constexpr std::uint8_t highest_exception = 31;
constexpr std::uint8_t nmi_vector = 2;

void check(const X86Events& r) {
  if (r.exception.pending && r.exception.injected)
    throw InvalidConfig("an exception is either pending or injected, not both");
  if ((r.exception.pending || r.exception.injected) &&
      (r.exception.vector > highest_exception || r.exception.vector == nmi_vector))
    throw InvalidConfig("exceptions have vectors 0 to 31 without 2 (NMI), got " + std::to_string(r.exception.vector));
  if (r.exception.payload && !r.exception.pending)
    throw InvalidConfig("only a pending exception has a payload: the side effects of an injected one are done");
}

}  // namespace

X86Events KvmX86State::events() {
  kvm_vcpu_events k{};
  checked_ioctl(fd_, KVM_GET_VCPU_EVENTS, &k, "KVM_GET_VCPU_EVENTS");
  X86Events r;
  r.exception.pending = k.exception.pending != 0;
  r.exception.injected = k.exception.injected != 0;
  r.exception.vector = k.exception.nr;
  if (k.exception.has_error_code != 0) r.exception.error_code = k.exception.error_code;
  if ((k.flags & KVM_VCPUEVENT_VALID_PAYLOAD) != 0 && k.exception_has_payload != 0)
    r.exception.payload = k.exception_payload;
  r.interrupt.injected = k.interrupt.injected != 0;
  r.interrupt.vector = k.interrupt.nr;
  r.interrupt.soft = k.interrupt.soft != 0;
  r.interrupt.shadow_mov_ss = (k.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS) != 0;
  r.interrupt.shadow_sti = (k.interrupt.shadow & KVM_X86_SHADOW_INT_STI) != 0;
  r.nmi.injected = k.nmi.injected != 0;
  r.nmi.pending = k.nmi.pending != 0;
  r.nmi.masked = k.nmi.masked != 0;
  r.smi.active = k.smi.smm != 0;
  r.smi.pending = k.smi.pending != 0;
  r.smi.inside_nmi = k.smi.smm_inside_nmi != 0;
  r.smi.latched_init = k.smi.latched_init != 0;
  if ((k.flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR) != 0) r.sipi_vector = k.sipi_vector;
  r.triple_fault = (k.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) != 0 && k.triple_fault.pending != 0;
  return r;
}

void KvmX86State::set_events(const X86Events& r) {
  check(r);
  forget();
  kvm_vcpu_events k{};
  k.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
  k.exception.pending = r.exception.pending;
  k.exception.injected = r.exception.injected;
  k.exception.nr = r.exception.vector;
  k.exception.has_error_code = r.exception.error_code.has_value();
  k.exception.error_code = r.exception.error_code.value_or(0);
  if (vm_.has_exception_payload()) {
    k.flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
    k.exception_has_payload = r.exception.payload.has_value();
    k.exception_payload = r.exception.payload.value_or(0);
  } else if (r.exception.payload) {
    throw_missing("the payload of a pending exception", "KVM_CAP_EXCEPTION_PAYLOAD");
  }
  k.interrupt.injected = r.interrupt.injected;
  k.interrupt.nr = r.interrupt.vector;
  k.interrupt.soft = r.interrupt.soft;
  if (r.interrupt.shadow_mov_ss) k.interrupt.shadow |= KVM_X86_SHADOW_INT_MOV_SS;
  if (r.interrupt.shadow_sti) k.interrupt.shadow |= KVM_X86_SHADOW_INT_STI;
  k.nmi.injected = r.nmi.injected;
  k.nmi.pending = r.nmi.pending;
  k.nmi.masked = r.nmi.masked;
  if (vm_.capability(KVM_CAP_X86_SMM) > 0) {
    k.flags |= KVM_VCPUEVENT_VALID_SMM;
    k.smi.smm = r.smi.active;
    k.smi.pending = r.smi.pending;
    k.smi.smm_inside_nmi = r.smi.inside_nmi;
    k.smi.latched_init = r.smi.latched_init;
  } else if (r.smi.active || r.smi.pending || r.smi.inside_nmi || r.smi.latched_init) {
    throw_missing("system management mode", "KVM_CAP_X86_SMM");
  }
  if (r.sipi_vector) {
    k.flags |= KVM_VCPUEVENT_VALID_SIPI_VECTOR;
    k.sipi_vector = *r.sipi_vector;
  }
  if (vm_.has_triple_fault_event()) {
    k.flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
    k.triple_fault.pending = r.triple_fault;
  } else if (r.triple_fault) {
    throw_missing("a pending triple fault", "KVM_CAP_X86_TRIPLE_FAULT_EVENT");
  }
  checked_ioctl(fd_, KVM_SET_VCPU_EVENTS, &k, "KVM_SET_VCPU_EVENTS");
}

std::vector<std::uint8_t> KvmX86State::nested_state() {
  const int size = vm_.capability(KVM_CAP_NESTED_STATE);
  if (size <= 0) throw_missing("the state of nested guests", "KVM_CAP_NESTED_STATE");
  std::vector<std::uint8_t> state(std::max(static_cast<std::size_t>(size), sizeof(kvm_nested_state)));
  kvm_nested_state head{};
  head.size = static_cast<std::uint32_t>(state.size());
  std::memcpy(state.data(), &head, sizeof head);
  checked_ioctl(fd_, KVM_GET_NESTED_STATE, state.data(), "KVM_GET_NESTED_STATE");
  std::memcpy(&head, state.data(), sizeof head);
  state.resize(std::min<std::size_t>(head.size, state.size()));
  return state;
}

void KvmX86State::set_nested_state(const std::vector<std::uint8_t>& state) {
  if (vm_.capability(KVM_CAP_NESTED_STATE) <= 0) throw_missing("the state of nested guests", "KVM_CAP_NESTED_STATE");
  kvm_nested_state head{};
  if (state.size() < sizeof head)
    throw InvalidConfig("the state of nested guests has at least " + std::to_string(sizeof head) + " bytes, got " +
                        std::to_string(state.size()));
  std::memcpy(&head, state.data(), sizeof head);
  if (head.size != state.size())
    throw InvalidConfig("the state of nested guests says that it has " + std::to_string(head.size) + " bytes, got " +
                        std::to_string(state.size()));
  forget();
  std::vector<std::uint8_t> copy = state;
  checked_ioctl(fd_, KVM_SET_NESTED_STATE, copy.data(), "KVM_SET_NESTED_STATE");
}

}  // namespace vm::accel::kvm
