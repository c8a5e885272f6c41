#include "x86_irqchip.hpp"

#include <cerrno>
#include <string>

#include "abi.hpp"
#include "interrupts.hpp"
#include "ioctl.hpp"
#include "vm.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::kvm {
namespace {

constexpr std::uint64_t four_gib = std::uint64_t{1} << 32;
constexpr std::uint64_t page = 4096;  // what KVM means by a page here, whatever the host uses

PicState from_kvm(const kvm_pic_state& k) noexcept {
  return {k.last_irr,
          k.irr,
          k.imr,
          k.isr,
          k.priority_add,
          k.irq_base,
          k.read_reg_select,
          k.poll,
          k.special_mask,
          k.init_state,
          k.auto_eoi,
          k.rotate_on_auto_eoi,
          k.special_fully_nested_mode,
          k.init4,
          k.elcr,
          k.elcr_mask};
}

kvm_pic_state to_kvm(const PicState& s) noexcept {
  return {s.last_irr,
          s.irr,
          s.imr,
          s.isr,
          s.priority_add,
          s.irq_base,
          s.read_reg_select,
          s.poll,
          s.special_mask,
          s.init_state,
          s.auto_eoi,
          s.rotate_on_auto_eoi,
          s.special_fully_nested_mode,
          s.init4,
          s.elcr,
          s.elcr_mask};
}

IoapicState from_kvm(const kvm_ioapic_state& k) noexcept {
  IoapicState state{k.base_address, k.ioregsel, k.id, k.irr, {}};
  for (std::size_t i = 0; i < state.redirections.size(); ++i)
    state.redirections[i] = IoapicRedirection::from_bits(k.redirtbl[i].bits);
  return state;
}

kvm_ioapic_state to_kvm(const IoapicState& s) noexcept {
  kvm_ioapic_state k{};
  k.base_address = s.base;
  k.ioregsel = s.selected;
  k.id = s.id;
  k.irr = s.irr;
  for (std::size_t i = 0; i < s.redirections.size(); ++i) k.redirtbl[i].bits = s.redirections[i].bits();
  return k;
}

PitChannel from_kvm(const kvm_pit_channel_state& k) noexcept {
  return {k.count,      k.latched_count, k.count_latched,  k.status_latched, k.status,
          k.read_state, k.write_state,   k.write_latch,    k.rw_mode,        k.mode,
          k.bcd,        k.gate,          k.count_load_time};
}

kvm_pit_channel_state to_kvm(const PitChannel& s) noexcept {
  return {s.count,      s.latched_count, s.count_latched, s.status_latched, s.status,
          s.read_state, s.write_state,   s.write_latch,   s.rw_mode,        s.mode,
          s.bcd,        s.gate,          s.loaded_ns};
}

/// KVM_GET_IRQCHIP; `chip.chip_id` is set.
void read_chip(const KvmVm& vm, kvm_irqchip& chip) {
  checked_ioctl(vm.fd(), KVM_GET_IRQCHIP, &chip, "KVM_GET_IRQCHIP");
}

kvm_irqchip pic_request(IrqController controller) {
  if (controller == IrqController::ioapic) throw InvalidConfig("the IOAPIC is no PIC; its state is ioapic()");
  kvm_irqchip chip{};
  chip.chip_id = static_cast<std::uint32_t>(controller);
  return chip;
}

void check_pages(std::uint64_t paddr, std::uint64_t pages) {
  if (paddr % page == 0 && paddr <= four_gib - pages * page) return;
  throw InvalidConfig("KVM needs " + std::to_string(pages) + " free page(s) below 4 GiB for itself, got " + hex(paddr));
}

}  // namespace

void KvmX86Irqchip::require_kernel_irqchip(const char* what) const {
  const IrqchipKind kind = vm_.irq().irqchip();
  if (kind == IrqchipKind::kernel) return;
  throw InvalidConfig(std::string(what) + " is there when the whole irqchip is KVM's; this VM's irqchip is \"" +
                      irqchip_name(kind) + "\"");
}

void KvmX86Irqchip::require_pit() const {
  if (!has_pit_.load(std::memory_order_acquire)) throw InvalidConfig("this VM has no PIT; create one first");
}

PicState KvmX86Irqchip::pic(IrqController controller) {
  kvm_irqchip chip = pic_request(controller);
  require_kernel_irqchip("a PIC");
  read_chip(vm_, chip);
  return from_kvm(chip.chip.pic);
}

void KvmX86Irqchip::set_pic(IrqController controller, const PicState& state) {
  kvm_irqchip chip = pic_request(controller);
  require_kernel_irqchip("a PIC");
  chip.chip.pic = to_kvm(state);
  checked_ioctl(vm_.fd(), KVM_SET_IRQCHIP, &chip, "KVM_SET_IRQCHIP");
}

IoapicState KvmX86Irqchip::ioapic() {
  require_kernel_irqchip("the IOAPIC");
  kvm_irqchip chip{};
  chip.chip_id = KVM_IRQCHIP_IOAPIC;
  read_chip(vm_, chip);
  return from_kvm(chip.chip.ioapic);
}

void KvmX86Irqchip::set_ioapic(const IoapicState& state) {
  require_kernel_irqchip("the IOAPIC");
  kvm_irqchip chip{};
  chip.chip_id = KVM_IRQCHIP_IOAPIC;
  chip.chip.ioapic = to_kvm(state);
  checked_ioctl(vm_.fd(), KVM_SET_IRQCHIP, &chip, "KVM_SET_IRQCHIP");
}

void KvmX86Irqchip::create_pit(bool speaker) {
  require_kernel_irqchip("the PIT");
  vm_.require(KVM_CAP_PIT2, "KVM_CAP_PIT2");
  kvm_pit_config config{};
  if (speaker) config.flags = KVM_PIT_SPEAKER_DUMMY;
  try {
    checked_ioctl(vm_.fd(), KVM_CREATE_PIT2, &config, "KVM_CREATE_PIT2");
  } catch (const PlatformError& error) {
    if (error.code() != EEXIST) throw;
    throw InvalidConfig(std::string(error.what()) + "; this VM has a PIT already");
  }
  has_pit_.store(true, std::memory_order_release);
}

PitState KvmX86Irqchip::pit() {
  require_pit();
  kvm_pit_state2 k{};
  checked_ioctl(vm_.fd(), KVM_GET_PIT2, &k, "KVM_GET_PIT2");
  PitState state;
  for (std::size_t i = 0; i < state.channels.size(); ++i) state.channels[i] = from_kvm(k.channels[i]);
  state.hpet_legacy = (k.flags & KVM_PIT_FLAGS_HPET_LEGACY) != 0;
  state.speaker_on = (k.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON) != 0;
  return state;
}

void KvmX86Irqchip::set_pit(const PitState& state) {
  require_pit();
  kvm_pit_state2 k{};
  for (std::size_t i = 0; i < state.channels.size(); ++i) k.channels[i] = to_kvm(state.channels[i]);
  if (state.hpet_legacy) k.flags |= KVM_PIT_FLAGS_HPET_LEGACY;
  if (state.speaker_on) k.flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
  checked_ioctl(vm_.fd(), KVM_SET_PIT2, &k, "KVM_SET_PIT2");
}

void KvmX86Irqchip::set_pit_reinjection(bool on) {
  require_pit();
  vm_.require(KVM_CAP_REINJECT_CONTROL, "KVM_CAP_REINJECT_CONTROL");
  kvm_reinject_control control{};
  control.pit_reinject = on ? 1 : 0;
  checked_ioctl(vm_.fd(), KVM_REINJECT_CONTROL, &control, "KVM_REINJECT_CONTROL");
}

void KvmX86Irqchip::set_tss_address(std::uint64_t paddr) {
  check_pages(paddr, 3);
  vm_.require(KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR");
  checked_ioctl(vm_.fd(), KVM_SET_TSS_ADDR, static_cast<std::uintptr_t>(paddr), "KVM_SET_TSS_ADDR");
}

void KvmX86Irqchip::set_identity_map_address(std::uint64_t paddr) {
  check_pages(paddr, 1);
  vm_.require(KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR");
  std::uint64_t address = paddr;
  try {
    checked_ioctl(vm_.fd(), KVM_SET_IDENTITY_MAP_ADDR, &address, "KVM_SET_IDENTITY_MAP_ADDR");
  } catch (const PlatformError& error) {
    if (error.code() != EINVAL) throw;
    throw InvalidConfig(std::string(error.what()) + "; the identity map is placed before the first vCPU");
  }
}

void KvmX86Irqchip::set_boot_vcpu(unsigned id) {
  vm_.require(KVM_CAP_SET_BOOT_CPU_ID, "KVM_CAP_SET_BOOT_CPU_ID");
  try {
    checked_ioctl(vm_.fd(), KVM_SET_BOOT_CPU_ID, std::uintptr_t{id}, "KVM_SET_BOOT_CPU_ID");
  } catch (const PlatformError& error) {
    if (error.code() != EBUSY) throw;
    throw InvalidConfig(std::string(error.what()) + "; the vCPU that starts is chosen before the first is created");
  }
}

}  // namespace vm::accel::kvm
