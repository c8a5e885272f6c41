#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "ioctl.hpp"
#include "vm.hpp"
#include "vm/core/error.hpp"
#include "x86_saver.hpp"

namespace vm::accel::kvm {
namespace {

constexpr std::uint32_t most_cpuid_entries = 256;  // KVM_MAX_CPUID_ENTRIES
constexpr std::uint32_t ioapic_pins = 24;          // of every IOAPIC that KVM emulates

struct FeatureLeaf {
  std::uint32_t leaf;
  std::uint32_t subleaf;
  std::uint32_t reg;
  std::uint32_t volatile_bits;  // follow the state of the vCPU
};

// SDM vol. 2A, CPUID; AMD APM vol. 3 appendix E. OSXSAVE and OSPKE mirror CR4, the APIC bit mirrors its MSR.
constexpr FeatureLeaf feature_leaves[] = {
    {0x1, 0, 2, 1U << 27}, {0x1, 0, 3, 1U << 9}, {0x7, 0, 1, 0}, {0x7, 0, 2, 1U << 4},  {0x7, 0, 3, 0},
    {0x7, 1, 0, 0},        {0xD, 0, 0, 0},       {0xD, 1, 0, 0}, {0x80000001, 0, 2, 0}, {0x80000001, 0, 3, 1U << 9},
    {0x80000008, 0, 1, 0},
};

const char* const register_names[] = {"eax", "ebx", "ecx", "edx"};

std::uint32_t word_of(const std::vector<kvm_cpuid_entry2>& entries, std::uint32_t leaf, std::uint32_t subleaf,
                      std::uint32_t reg) {
  for (const kvm_cpuid_entry2& entry : entries) {
    if (entry.function != leaf) continue;
    if ((entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0 && entry.index != subleaf) continue;
    const std::uint32_t words[] = {entry.eax, entry.ebx, entry.ecx, entry.edx};
    return words[reg];
  }
  return 0;
}

std::vector<kvm_cpuid_entry2> offered_cpuid(int system) {
  std::vector<std::byte> buffer(sizeof(kvm_cpuid2) + most_cpuid_entries * sizeof(kvm_cpuid_entry2));
  kvm_cpuid2 head{};
  head.nent = most_cpuid_entries;
  std::memcpy(buffer.data(), &head, sizeof head);
  checked_ioctl(system, KVM_GET_SUPPORTED_CPUID, buffer.data(), "KVM_GET_SUPPORTED_CPUID");
  std::memcpy(&head, buffer.data(), sizeof head);
  std::vector<kvm_cpuid_entry2> entries(head.nent);
  if (head.nent != 0) std::memcpy(entries.data(), buffer.data() + sizeof head, head.nent * sizeof(kvm_cpuid_entry2));
  return entries;
}

/// False when the kernel answers that the VM has no such device.
template <class T>
bool read_device(int fd, unsigned long request, T& value, const char* name) {
  try {
    checked_ioctl(fd, request, &value, name);
    return true;
  } catch (const PlatformError& error) {
    if (error.code() == ENXIO) return false;
    throw;
  }
}

const SavedX86Vm& as_saved_vm(const SavedState& state) {
  const auto* saved = dynamic_cast<const SavedX86Vm*>(&state);
  if (saved == nullptr) throw InvalidConfig("this state was not saved from an x86 VM of KVM");
  return *saved;
}

/// Makes a device that only a VM without vCPUs can get.
template <class... Arguments>
void create_device(const char* what, Arguments... arguments) {
  try {
    checked_ioctl(arguments...);
  } catch (const PlatformError& error) {
    if (error.code() == ENOMEM) throw;
    throw InvalidConfig(std::string("the saved VM has ") + what +
                        " in the kernel, this one has none and cannot get it: " + error.what() +
                        "; restore into a new VM");
  }
}

}  // namespace

std::vector<kvm_irqchip> KvmX86VmSaver::read_irqchips() const {
  if (vm_.capability(KVM_CAP_IRQCHIP) <= 0) return {};
  std::vector<kvm_irqchip> chips;
  for (const int id : {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC}) {
    kvm_irqchip chip{};
    chip.chip_id = static_cast<decltype(chip.chip_id)>(id);
    if (!read_device(vm_.fd(), KVM_GET_IRQCHIP, chip, "KVM_GET_IRQCHIP")) return {};
    chips.push_back(chip);
  }
  return chips;
}

std::shared_ptr<const SavedState> KvmX86VmSaver::save(const std::vector<std::shared_ptr<const SavedState>>& vcpus) {
  auto state = std::make_shared<SavedX86Vm>();
  state->irqchips = read_irqchips();
  kvm_pit_state2 pit{};
  if (!state->irqchips.empty() && read_device(vm_.fd(), KVM_GET_PIT2, pit, "KVM_GET_PIT2")) state->pit = pit;
  if (vm_.capability(KVM_CAP_ADJUST_CLOCK) > 0) {
    kvm_clock_data clock{};
    checked_ioctl(vm_.fd(), KVM_GET_CLOCK, &clock, "KVM_GET_CLOCK");
    clock.flags = 0;  // what they say is about the moment of reading
    state->clock = clock;
  }
  const std::vector<kvm_cpuid_entry2> offered = offered_cpuid(vm_.system().fd());
  for (const auto& vcpu : vcpus) {
    const auto* saved = dynamic_cast<const SavedX86Vcpu*>(vcpu.get());
    if (saved == nullptr) throw InvalidConfig("this state was not saved from an x86 vCPU of KVM");
    if (saved->lapic && state->irqchips.empty()) state->split_irqchip = true;
    for (const FeatureLeaf& f : feature_leaves) {
      const std::uint32_t bits = word_of(saved->cpuid, f.leaf, f.subleaf, f.reg) &
                                 word_of(offered, f.leaf, f.subleaf, f.reg) & ~f.volatile_bits;
      if (bits != 0) state->needs.push_back({f.leaf, f.subleaf, f.reg, bits});
    }
  }
  return state;
}

void KvmX86VmSaver::check_features(const std::vector<FeatureWord>& needs) const {
  if (needs.empty()) return;
  const std::vector<kvm_cpuid_entry2> offered = offered_cpuid(vm_.system().fd());
  std::string missing;
  for (const FeatureWord& word : needs) {
    const std::uint32_t reg = word.reg & 3U;
    const std::uint32_t lost = word.bits & ~word_of(offered, word.leaf, word.subleaf, reg);
    if (lost == 0) continue;
    missing += (missing.empty() ? "" : ", ") + hex(word.leaf) + "." + std::to_string(word.subleaf) + " " +
               register_names[reg] + " bits " + hex(lost);
  }
  if (!missing.empty())
    throw InvalidConfig("the saved guest was told of processor features that KVM does not offer here: CPUID " +
                        missing);
}

void KvmX86VmSaver::prepare_devices(const SavedX86Vm& state) const {
  const int fd = vm_.fd();
  const bool has_irqchip = !read_irqchips().empty();
  if (has_irqchip && state.irqchips.empty())
    throw InvalidConfig(
        "this VM has interrupt controllers in the kernel, the saved one had none; restore into a new VM");
  if (!has_irqchip && !state.irqchips.empty())
    create_device("interrupt controllers", fd, static_cast<unsigned long>(KVM_CREATE_IRQCHIP), "KVM_CREATE_IRQCHIP");
  kvm_pit_state2 unused{};
  if (state.pit && !read_device(fd, KVM_GET_PIT2, unused, "KVM_GET_PIT2")) {
    kvm_pit_config config{};
    create_device("a PIT", fd, static_cast<unsigned long>(KVM_CREATE_PIT2), &config, "KVM_CREATE_PIT2");
  }
  if (!state.split_irqchip) return;
  kvm_enable_cap request{};
  request.cap = KVM_CAP_SPLIT_IRQCHIP;
  request.args[0] = ioapic_pins;
  try {
    checked_ioctl(fd, KVM_ENABLE_CAP, &request, "KVM_ENABLE_CAP(KVM_CAP_SPLIT_IRQCHIP)");
  } catch (const PlatformError& error) {
    if (error.code() != EEXIST) throw;  // it has one, or vCPUs; those are compared one by one
  }
}

void KvmX86VmSaver::prepare(const SavedState& state) {
  const SavedX86Vm& saved = as_saved_vm(state);
  check_features(saved.needs);
  prepare_devices(saved);
}

void KvmX86VmSaver::restore(const SavedState& state) {
  const SavedX86Vm& saved = as_saved_vm(state);
  for (const kvm_irqchip& chip : saved.irqchips) checked_ioctl(vm_.fd(), KVM_SET_IRQCHIP, &chip, "KVM_SET_IRQCHIP");
  if (saved.pit) checked_ioctl(vm_.fd(), KVM_SET_PIT2, &*saved.pit, "KVM_SET_PIT2");
  if (saved.clock) checked_ioctl(vm_.fd(), KVM_SET_CLOCK, &*saved.clock, "KVM_SET_CLOCK");
}

std::shared_ptr<const SavedState> KvmX86VmSaver::read_vm(const std::vector<std::byte>& bytes) {
  return std::make_shared<SavedX86Vm>(bytes);
}

std::shared_ptr<const SavedState> KvmX86VmSaver::read_vcpu(const std::vector<std::byte>& bytes) {
  return std::make_shared<SavedX86Vcpu>(bytes);
}

}  // namespace vm::accel::kvm
