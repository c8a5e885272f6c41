#include "x86_state.hpp"

#include <cerrno>
#include <string>
#include <utility>

#include "vm/core/access.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/paging/address_space.hpp"

namespace vm::accel::scripted {
namespace {

constexpr std::uint64_t cr0_pg = std::uint64_t{1} << 31;
constexpr std::uint64_t cr4_pae = std::uint64_t{1} << 5;
constexpr std::uint64_t efer_lma = std::uint64_t{1} << 10;

X86Segment segment_after_reset(std::uint8_t type, bool code_or_data) {
  X86Segment segment;
  segment.limit = 0xFFFF;
  segment.type = type;
  segment.present = true;
  segment.code_or_data = code_or_data;
  return segment;
}

X86SpecialRegs sregs_after_reset(bool boots) {
  X86SpecialRegs r;
  r.cs = segment_after_reset(0xB, true);
  r.cs.selector = 0xF000;
  r.cs.base = 0xFFFF0000;
  r.ds = r.es = r.fs = r.gs = r.ss = segment_after_reset(0x3, true);
  r.tr = segment_after_reset(0xB, false);
  r.ldt = segment_after_reset(0x2, false);
  r.gdt.limit = r.idt.limit = 0xFFFF;
  r.cr0 = 0x60000010;
  r.apic_base = boots ? 0xFEE00900 : 0xFEE00800;  // §11.4.4: bit 8 tells which one boots
  return r;
}

X86Regs regs_after_reset() {
  X86Regs r;
  r.rip = 0xFFF0;
  return r;
}

}  // namespace

ScriptedX86State::ScriptedX86State(const ScriptedVm& vm, unsigned vcpu)
    : vm_(vm), vcpu_(vcpu), regs_(regs_after_reset()), sregs_(sregs_after_reset(vcpu == 0)) {}

void ScriptedX86State::write_down(CallValue value, CallKind kind) const {
  vm_.stage().take({kind, vm_.number(), vcpu_, 0, std::move(value)});
}

void ScriptedX86State::set_regs(const X86Regs& regs) {
  write_down(regs, CallKind::set_regs);
  regs_ = regs;
}

void ScriptedX86State::set_sregs(const X86SpecialRegs& sregs) {
  write_down(sregs, CallKind::set_sregs);
  sregs_ = sregs;
  if (!pae_paging()) return;
  // Pointers outside memory stay as they were.
  const std::uint64_t table = sregs_.cr3 & 0xFFFFFFE0;  // SDM vol. 3, table 4-7
  const std::shared_ptr<const mem::RegionTable> regions = vm_.memory()->table();
  if (regions->at(table, sizeof pdptrs_) != nullptr) vm_.memory()->read(table, pdptrs_.data(), sizeof pdptrs_);
}

bool ScriptedX86State::pae_paging() const noexcept {
  return (sregs_.cr0 & cr0_pg) != 0 && (sregs_.cr4 & cr4_pae) != 0 && (sregs_.efer & efer_lma) == 0;
}

std::optional<X86Pdptrs> ScriptedX86State::pdptrs() {
  if (!pae_paging()) return {};
  return pdptrs_;
}

void ScriptedX86State::set_pdptrs(const X86Pdptrs& pdptrs) {
  if (!pae_paging()) throw InvalidConfig("the page-directory pointers exist with PAE paging only, which is off");
  write_down("pdptrs");
  pdptrs_ = pdptrs;
}

void ScriptedX86State::set_debug_regs(const X86DebugRegs& regs) {
  write_down("debug_regs");
  debug_regs_ = regs;
}

X86Translation ScriptedX86State::translate(std::uint64_t vaddr) {
  if ((sregs_.cr0 & cr0_pg) == 0) return {true, vaddr, true, true};
  const auto config = mem::paging::X86Config::from_registers(sregs_.cr0, sregs_.cr3, sregs_.cr4, sregs_.efer);
  const auto found = mem::paging::AddressSpace(vm_.memory(), config).try_translate(GuestVirtual(vaddr), Access::none);
  if (!found.ok()) return {};
  return {true, found.paddr, has(supervisor_access(found.rights), Access::write),
          user_access(found.rights) != Access::none};
}

void ScriptedX86State::set_fpu(const X86Fpu& fpu) {
  write_down("fpu");
  xsave_.set_legacy(fpu);
}

void ScriptedX86State::set_xsave(const X86Xsave& xsave) {
  if (xsave.size() != xsave_.size()) {
    throw InvalidConfig("the XSAVE area of this vCPU has " + std::to_string(xsave_.size()) + " bytes, got " +
                        std::to_string(xsave.size()));
  }
  write_down("xsave");
  xsave_ = xsave;
}

void ScriptedX86State::set_xcrs(const std::vector<X86Xcr>& xcrs) {
  write_down("xcrs");
  xcrs_ = xcrs;
}

std::uint64_t* ScriptedX86State::part_of_sregs(std::uint32_t msr) noexcept {
  switch (msr) {  // SDM vol. 4, table 2-2
    case 0x1B: return &sregs_.apic_base;
    case 0xC0000080: return &sregs_.efer;
    case 0xC0000100: return &sregs_.fs.base;
    case 0xC0000101: return &sregs_.gs.base;
    default: return nullptr;
  }
}

std::vector<X86Msr> ScriptedX86State::msrs(const std::vector<std::uint32_t>& indices) {
  std::vector<X86Msr> result;
  for (const std::uint32_t index : indices) {
    const std::uint64_t* part = part_of_sregs(index);
    const auto found = msrs_.find(index);
    result.push_back({index, part != nullptr ? *part : found != msrs_.end() ? found->second : 0});
  }
  return result;
}

void ScriptedX86State::set_msrs(const std::vector<X86Msr>& msrs) {
  write_down("msrs");
  for (const X86Msr& msr : msrs) {
    if (std::uint64_t* part = part_of_sregs(msr.index)) {
      *part = msr.value;
    } else {
      msrs_[msr.index] = msr.value;
    }
  }
}

void ScriptedX86State::set_cpuid(const CpuidTable& table) {
  write_down("cpuid");
  cpuid_ = table;
}

void ScriptedX86State::set_events(const X86Events& events) {
  write_down("events");
  events_ = events;
}

X86Lapic ScriptedX86State::lapic() { throw InvalidConfig("a scripted VM has no interrupt controller"); }

void ScriptedX86State::set_lapic(const X86Lapic& /*lapic*/) {
  throw InvalidConfig("a scripted VM has no interrupt controller");
}

void ScriptedX86State::set_tsc_khz(std::uint32_t khz) {
  write_down("tsc_khz");
  tsc_khz_ = khz;
}

void ScriptedX86State::kvmclock_ctrl() { throw PlatformError("a scripted guest has switched no kvmclock on", EINVAL); }

std::vector<std::uint8_t> ScriptedX86State::nested_state() {
  throw NotSupported("a scripted vCPU is no hypervisor itself (KVM_CAP_NESTED_STATE)");
}

void ScriptedX86State::set_nested_state(const std::vector<std::uint8_t>& /*state*/) {
  throw NotSupported("a scripted vCPU is no hypervisor itself (KVM_CAP_NESTED_STATE)");
}

}  // namespace vm::accel::scripted
