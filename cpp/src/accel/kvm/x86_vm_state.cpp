#include "x86_vm_state.hpp"

#include <sys/ioctl.h>

#include "abi.hpp"
#include "capability_set.hpp"
#include "fam.hpp"
#include "ioctl.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::kvm {
namespace {

constexpr std::size_t most_events = 300;  // KVM_PMU_EVENT_FILTER_MAX_EVENTS, arch/x86/kvm/pmu.c

}  // namespace

int KvmX86VmState::capability(unsigned number) const noexcept {
  return ::ioctl(fd_, KVM_CHECK_EXTENSION, static_cast<unsigned long>(number));
}

bool KvmX86VmState::enable(unsigned number) noexcept {
  kvm_enable_cap request{};
  request.cap = number;
  request.args[0] = 1;
  return ::ioctl(fd_, KVM_ENABLE_CAP, &request) == 0;
}

bool KvmX86VmState::enable_exception_payload() noexcept { return enable(KVM_CAP_EXCEPTION_PAYLOAD); }

bool KvmX86VmState::enable_triple_fault_event() noexcept { return enable(KVM_CAP_X86_TRIPLE_FAULT_EVENT); }

VmClock KvmX86VmState::clock() {
  kvm_clock_data k{};
  checked_ioctl(fd_, KVM_GET_CLOCK, &k, "KVM_GET_CLOCK");
  VmClock clock;
  clock.ns = k.clock;
  clock.tsc_stable = (k.flags & KVM_CLOCK_TSC_STABLE) != 0;
  if ((k.flags & KVM_CLOCK_REALTIME) != 0) clock.realtime_ns = k.realtime;
  if ((k.flags & KVM_CLOCK_HOST_TSC) != 0) clock.host_tsc = k.host_tsc;
  return clock;
}

void KvmX86VmState::set_clock(const VmClock& clock) {
  kvm_clock_data k{};
  k.clock = clock.ns;
  if (clock.realtime_ns) {
    if ((capability(KVM_CAP_ADJUST_CLOCK) & KVM_CLOCK_REALTIME) == 0)
      throw_missing("a clock that goes on from a moment of the host's", "KVM_CLOCK_REALTIME in KVM_CAP_ADJUST_CLOCK");
    k.flags = KVM_CLOCK_REALTIME;
    k.realtime = *clock.realtime_ns;
  }
  checked_ioctl(fd_, KVM_SET_CLOCK, &k, "KVM_SET_CLOCK");
}

std::uint32_t KvmX86VmState::tsc_khz() {
  const int khz = ::ioctl(fd_, KVM_GET_TSC_KHZ, 0);
  if (khz < 0) throw_missing("the frequency that a VM's vCPUs begin with", "KVM_CAP_VM_TSC_CONTROL");
  return static_cast<std::uint32_t>(khz);
}

void KvmX86VmState::set_tsc_khz(std::uint32_t khz) {
  if (capability(KVM_CAP_VM_TSC_CONTROL) <= 0)
    throw_missing("another frequency of the time stamp counter for a VM", "KVM_CAP_VM_TSC_CONTROL");
  checked_ioctl(fd_, KVM_SET_TSC_KHZ, khz, "KVM_SET_TSC_KHZ");
}

void KvmX86VmState::set_pmu_event_filter(const PmuEventFilter& filter) {
  if (filter.events.size() > most_events)
    throw InvalidConfig("a filter of performance events has at most " + std::to_string(most_events) + ", got " +
                        std::to_string(filter.events.size()));
  if (capability(KVM_CAP_PMU_EVENT_FILTER) <= 0)
    throw_missing("a filter of performance events", "KVM_CAP_PMU_EVENT_FILTER");
  WithArray<kvm_pmu_event_filter, __u64> request(filter.events.size());
  request->action = filter.allow ? KVM_PMU_EVENT_ALLOW : KVM_PMU_EVENT_DENY;
  request->nevents = static_cast<std::uint32_t>(filter.events.size());
  request->fixed_counter_bitmap = filter.fixed_counters;
  for (std::size_t i = 0; i < filter.events.size(); ++i) request.write(i, filter.events[i]);
  checked_ioctl(fd_, KVM_SET_PMU_EVENT_FILTER, request.get(), "KVM_SET_PMU_EVENT_FILTER");
}

}  // namespace vm::accel::kvm
