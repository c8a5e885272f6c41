// The order of restoring: CPUID decides which values the rest may have; the special registers place the local APIC; the
// local APIC comes before MSRs, because the TSC deadline is dropped unless its timer mode is set; events come after the
// general registers, because setting those cancels a pending exception (Linux, arch/x86/kvm/x86.c, __set_regs).

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "ioctl.hpp"
#include "vcpu.hpp"
#include "vm/core/error.hpp"
#include "x86_saver.hpp"

namespace vm::accel::kvm {
namespace {

constexpr std::uint64_t cr0_pg = std::uint64_t{1} << 31;
constexpr std::uint64_t cr4_pae = std::uint64_t{1} << 5;
constexpr std::uint64_t efer_lma = std::uint64_t{1} << 10;
constexpr std::uint64_t most_cr8 = 15;
constexpr std::uint32_t most_cpuid_entries = 256;  // KVM_MAX_CPUID_ENTRIES
constexpr std::uint64_t synchronized = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
// Frequencies closer than this count as the same: what NTP corrects (Linux, kernel/time, tsc_tolerance_ppm of KVM).
constexpr std::uint64_t tolerated_ppm = 250;

bool has_lapic(int fd, kvm_lapic_state& state) {
  try {
    checked_ioctl(fd, KVM_GET_LAPIC, &state, "KVM_GET_LAPIC");
    return true;
  } catch (const PlatformError& error) {
    if (error.code() == EINVAL) return false;  // no local APIC in the kernel
    throw;
  }
}

std::vector<std::uint32_t> msr_list(int system) {
  std::vector<std::uint32_t> list(1);
  try {
    checked_ioctl(system, KVM_GET_MSR_INDEX_LIST, list.data(), "KVM_GET_MSR_INDEX_LIST");
  } catch (const PlatformError& error) {
    if (error.code() != E2BIG) throw;  // E2BIG: list[0] is how many there are
  }
  list.resize(1 + std::size_t{list[0]});
  checked_ioctl(system, KVM_GET_MSR_INDEX_LIST, list.data(), "KVM_GET_MSR_INDEX_LIST");
  list.erase(list.begin());
  return list;
}

/// A kvm_msrs with these entries.
std::vector<std::byte> msr_batch(const kvm_msr_entry* entries, std::size_t count) {
  std::vector<std::byte> batch(sizeof(kvm_msrs) + count * sizeof(kvm_msr_entry));
  kvm_msrs head{};
  head.nmsrs = static_cast<__u32>(count);
  std::memcpy(batch.data(), &head, sizeof head);
  if (count != 0) std::memcpy(batch.data() + sizeof head, entries, count * sizeof(kvm_msr_entry));
  return batch;
}

std::vector<kvm_cpuid_entry2> read_cpuid(int fd) {
  std::vector<std::byte> buffer(sizeof(kvm_cpuid2) + most_cpuid_entries * sizeof(kvm_cpuid_entry2));
  kvm_cpuid2 head{};
  head.nent = most_cpuid_entries;
  std::memcpy(buffer.data(), &head, sizeof head);
  checked_ioctl(fd, KVM_GET_CPUID2, buffer.data(), "KVM_GET_CPUID2");
  std::memcpy(&head, buffer.data(), sizeof head);
  std::vector<kvm_cpuid_entry2> entries(head.nent);
  if (head.nent != 0) std::memcpy(entries.data(), buffer.data() + sizeof head, head.nent * sizeof(kvm_cpuid_entry2));
  return entries;
}

void write_cpuid(int fd, const std::vector<kvm_cpuid_entry2>& entries) {
  std::vector<std::byte> buffer(sizeof(kvm_cpuid2) + entries.size() * sizeof(kvm_cpuid_entry2));
  kvm_cpuid2 head{};
  head.nent = static_cast<__u32>(entries.size());
  std::memcpy(buffer.data(), &head, sizeof head);
  if (!entries.empty())
    std::memcpy(buffer.data() + sizeof head, entries.data(), entries.size() * sizeof(kvm_cpuid_entry2));
  try {
    checked_ioctl(fd, KVM_SET_CPUID2, buffer.data(), "KVM_SET_CPUID2");
  } catch (const PlatformError& error) {
    if (error.code() != EINVAL && error.code() != E2BIG) throw;
    throw InvalidConfig(
        "the CPUID of the saved vCPU does not fit this one, which has another and has run already, or "
        "a processor without some of it; restore into a new VM");
  }
}

std::size_t xsave_size(const KvmVm& vm) {
  const int size = vm.capability(KVM_CAP_XSAVE2);
  return size > static_cast<int>(sizeof(kvm_xsave)) ? static_cast<std::size_t>(size) : sizeof(kvm_xsave);
}

/// Whether the guest runs guests itself; their state is not saved.
bool uses_nested_virtualization(const KvmVm& vm, int fd) {
  if (vm.capability(KVM_CAP_NESTED_STATE) <= 0) return false;
  kvm_nested_state nested{};
  nested.size = sizeof nested;
  try {
    checked_ioctl(fd, KVM_GET_NESTED_STATE, &nested, "KVM_GET_NESTED_STATE");
  } catch (const PlatformError& error) {
    if (error.code() == E2BIG) return true;
    throw;
  }
  const bool vmx_on = nested.format == KVM_STATE_NESTED_FORMAT_VMX && nested.hdr.vmx.vmxon_pa != ~std::uint64_t{0};
  return vmx_on || (nested.flags & (KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_RUN_PENDING)) != 0;
}

}  // namespace

std::vector<kvm_msr_entry> KvmX86VcpuSaver::read_msrs() const {
  std::vector<kvm_msr_entry> entries;
  for (const std::uint32_t index : msr_list(vcpu_.vm().system().fd())) {
    kvm_msr_entry entry{};
    entry.index = index;
    entries.push_back(entry);
  }
  for (std::size_t done = 0; done < entries.size();) {
    std::vector<std::byte> batch = msr_batch(entries.data() + done, entries.size() - done);
    const auto read = static_cast<std::size_t>(checked_ioctl(vcpu_.fd(), KVM_GET_MSRS, batch.data(), "KVM_GET_MSRS"));
    if (read != 0) std::memcpy(entries.data() + done, batch.data() + sizeof(kvm_msrs), read * sizeof(kvm_msr_entry));
    done += read;
    // The kernel stops at one that this vCPU does not have.
    if (done < entries.size()) entries.erase(entries.begin() + static_cast<std::ptrdiff_t>(done));
  }
  return entries;
}

std::shared_ptr<const SavedState> KvmX86VcpuSaver::save() {
  vcpu_.complete();
  if (vcpu_.has_early_exit())
    throw InvalidConfig("the guest is between two accesses of one instruction; call run() for the next exit first");
  const KvmVm& vm = vcpu_.vm();
  const int fd = vcpu_.fd();
  if (uses_nested_virtualization(vm, fd))
    throw NotSupported("the guest runs guests itself (VMX or SVM), and their state is not part of a snapshot");
  auto state = std::make_shared<SavedX86Vcpu>();
  checked_ioctl(fd, KVM_GET_MP_STATE, &state->mp_state, "KVM_GET_MP_STATE");
  checked_ioctl(fd, KVM_GET_REGS, &state->regs, "KVM_GET_REGS");
  checked_ioctl(fd, KVM_GET_SREGS, &state->sregs, "KVM_GET_SREGS");
  if (vm.capability(KVM_CAP_SREGS2) > 0) {
    state->sregs2.emplace();
    checked_ioctl(fd, KVM_GET_SREGS2, &*state->sregs2, "KVM_GET_SREGS2");
  } else if ((state->sregs.cr0 & cr0_pg) != 0 && (state->sregs.cr4 & cr4_pae) != 0 &&
             (state->sregs.efer & efer_lma) == 0) {
    throw NotSupported(
        "the guest uses PAE paging, whose page-directory pointers this kernel's KVM does not tell "
        "(KVM_CAP_SREGS2, Linux 5.14)");
  }
  state->xsave.resize(xsave_size(vm));
  if (vm.capability(KVM_CAP_XSAVE2) > 0) {
    checked_ioctl(fd, KVM_GET_XSAVE2, state->xsave.data(), "KVM_GET_XSAVE2");
  } else {
    checked_ioctl(fd, KVM_GET_XSAVE, state->xsave.data(), "KVM_GET_XSAVE");
  }
  checked_ioctl(fd, KVM_GET_XCRS, &state->xcrs, "KVM_GET_XCRS");
  checked_ioctl(fd, KVM_GET_DEBUGREGS, &state->debug, "KVM_GET_DEBUGREGS");
  kvm_lapic_state lapic{};
  if (has_lapic(fd, lapic)) state->lapic = lapic;
  state->msrs = read_msrs();
  checked_ioctl(fd, KVM_GET_VCPU_EVENTS, &state->events, "KVM_GET_VCPU_EVENTS");
  state->cpuid = read_cpuid(fd);
  if (vm.capability(KVM_CAP_GET_TSC_KHZ) > 0)
    state->tsc_khz = static_cast<std::uint32_t>(checked_ioctl(fd, KVM_GET_TSC_KHZ, "KVM_GET_TSC_KHZ"));
  return state;
}

void KvmX86VcpuSaver::check_clock(std::uint32_t khz) const {
  if (khz == 0 || vcpu_.vm().capability(KVM_CAP_GET_TSC_KHZ) <= 0) return;
  const auto here = static_cast<std::uint64_t>(checked_ioctl(vcpu_.fd(), KVM_GET_TSC_KHZ, "KVM_GET_TSC_KHZ"));
  const std::uint64_t apart = here > khz ? here - khz : khz - here;
  if (apart * 1'000'000 <= std::uint64_t{khz} * tolerated_ppm) return;
  if (vcpu_.vm().capability(KVM_CAP_TSC_CONTROL) <= 0)
    throw InvalidConfig("the saved guest's time-stamp counter runs at " + std::to_string(khz) +
                        " kHz, this machine's at " + std::to_string(here) +
                        " kHz, and its KVM cannot change that (KVM_CAP_TSC_CONTROL)");
  checked_ioctl(vcpu_.fd(), KVM_SET_TSC_KHZ, std::uintptr_t{khz}, "KVM_SET_TSC_KHZ");
}

void KvmX86VcpuSaver::prepare(const std::shared_ptr<const SavedState>& state) {
  auto saved = std::dynamic_pointer_cast<const SavedX86Vcpu>(state);
  if (!saved) throw InvalidConfig("this state was not saved from an x86 vCPU of KVM");
  if (saved->xsave.size() != xsave_size(vcpu_.vm()))
    throw InvalidConfig("the saved XSAVE area has " + std::to_string(saved->xsave.size()) +
                        " bytes, this processor's " + std::to_string(xsave_size(vcpu_.vm())) +
                        ": it has other extended registers");
  // The kernel takes any value and then refuses to enter (Linux, arch/x86/kvm/x86.c, kvm_set_cr8).
  if (saved->sregs.cr8 > most_cr8)
    throw InvalidConfig("the saved CR8 is " + hex(saved->sregs.cr8) + "; it has four bits");
  kvm_lapic_state unused{};
  if (has_lapic(vcpu_.fd(), unused) != saved->lapic.has_value())
    throw InvalidConfig(saved->lapic ? "the saved vCPU has a local APIC in the kernel, this one has none"
                                     : "this vCPU has a local APIC in the kernel, the saved one had none");
  write_cpuid(vcpu_.fd(), saved->cpuid);
  check_clock(saved->tsc_khz);
  msrs_ = msr_batch(saved->msrs.data(), saved->msrs.size());
  state_ = std::move(saved);
}

/// General and special registers and events in one request instead of three: entering takes them from the shared area,
/// and the request to come back at once is looked at after that (Documentation/virt/kvm/api.rst §5, KVM_CAP_SYNC_REGS).
bool KvmX86VcpuSaver::restore_by_entering() {
  if (state_->has_pdptrs() || (vcpu_.synchronized_fields() & synchronized) != synchronized) return false;
  kvm_run& area = vcpu_.area();
  area.s.regs.regs = state_->regs;
  area.s.regs.sregs = state_->sregs;
  area.s.regs.events = state_->events;
  area.kvm_dirty_regs = synchronized;
  bool exited = false;
  try {
    exited = vcpu_.enter_and_return();
  } catch (const PlatformError&) {
    area.kvm_dirty_regs = 0;  // else every later entry would be refused for the same values
    return false;             // one by one says which they are
  }
  const bool taken = area.kvm_dirty_regs == 0;  // not by a vCPU that waits for its start-up message
  area.kvm_dirty_regs = 0;
  return taken && !exited;
}

void KvmX86VcpuSaver::restore_one_by_one() {
  const int fd = vcpu_.fd();
  if (state_->sregs2) {
    auto* sregs2 = const_cast<kvm_sregs2*>(&*state_->sregs2);  // the kernel only reads it
    checked_ioctl(fd, KVM_SET_SREGS2, sregs2, "KVM_SET_SREGS2");
  } else {
    checked_ioctl(fd, KVM_SET_SREGS, &state_->sregs, "KVM_SET_SREGS");
  }
  checked_ioctl(fd, KVM_SET_REGS, &state_->regs, "KVM_SET_REGS");
  checked_ioctl(fd, KVM_SET_VCPU_EVENTS, &state_->events, "KVM_SET_VCPU_EVENTS");
}

void KvmX86VcpuSaver::drop_msr(std::size_t index) {
  const auto at = static_cast<std::ptrdiff_t>(sizeof(kvm_msrs) + index * sizeof(kvm_msr_entry));
  kvm_msr_entry wanted{};
  std::memcpy(&wanted, msrs_.data() + at, sizeof wanted);
  kvm_msr_entry asked{};
  asked.index = wanted.index;
  std::vector<std::byte> one = msr_batch(&asked, 1);
  const int read = checked_ioctl(vcpu_.fd(), KVM_GET_MSRS, one.data(), "KVM_GET_MSRS");
  std::memcpy(&asked, one.data() + sizeof(kvm_msrs), sizeof asked);
  if (read != 1 || asked.data != wanted.data)
    throw InvalidConfig("MSR " + hex(wanted.index) + " of the saved vCPU has the value " + hex(wanted.data) +
                        ", which cannot be set here");
  msrs_.erase(msrs_.begin() + at, msrs_.begin() + at + static_cast<std::ptrdiff_t>(sizeof wanted));
  kvm_msrs head{};
  std::memcpy(&head, msrs_.data(), sizeof head);
  --head.nmsrs;
  std::memcpy(msrs_.data(), &head, sizeof head);
}

void KvmX86VcpuSaver::write_msrs() {
  for (;;) {
    const std::size_t count = (msrs_.size() - sizeof(kvm_msrs)) / sizeof(kvm_msr_entry);
    if (count == 0) return;
    const auto written =
        static_cast<std::size_t>(checked_ioctl(vcpu_.fd(), KVM_SET_MSRS, msrs_.data(), "KVM_SET_MSRS"));
    if (written == count) return;
    // Some MSRs can be read and not written (without a local APIC, for one); fine as long as they never change.
    drop_msr(written);
  }
}

void KvmX86VcpuSaver::restore() {
  if (!state_) throw InvalidConfig("this vCPU was not prepared for any saved state");
  vcpu_.discard_exit();
  const int fd = vcpu_.fd();
  vcpu_.area().cr8 = state_->sregs.cr8;  // every entry takes CR8 from there
  if (!restore_by_entering()) restore_one_by_one();
  auto* xsave = const_cast<std::byte*>(state_->xsave.data());  // the kernel only reads it
  checked_ioctl(fd, KVM_SET_XSAVE, xsave, "KVM_SET_XSAVE");
  checked_ioctl(fd, KVM_SET_XCRS, &state_->xcrs, "KVM_SET_XCRS");
  checked_ioctl(fd, KVM_SET_DEBUGREGS, &state_->debug, "KVM_SET_DEBUGREGS");
  checked_ioctl(fd, KVM_SET_MP_STATE, &state_->mp_state, "KVM_SET_MP_STATE");
  if (state_->lapic) checked_ioctl(fd, KVM_SET_LAPIC, &*state_->lapic, "KVM_SET_LAPIC");
  write_msrs();
  vcpu_.forget_copies();
}

}  // namespace vm::accel::kvm
