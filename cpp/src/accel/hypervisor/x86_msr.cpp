#include "vm/accel/hypervisor/x86_msr.hpp"

#include <algorithm>
#include <cctype>

#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

std::string plain_name(std::string_view name) {
  std::string upper(name);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  for (const std::string_view prefix : {"MSR_", "IA32_"}) {
    if (upper.compare(0, prefix.size(), prefix) == 0) upper.erase(0, prefix.size());
  }
  return upper;
}

}  // namespace

const std::vector<MsrName>& msr_names() {
  static const std::vector<MsrName> names = {
      {"P5_MC_ADDR", 0x0},
      {"P5_MC_TYPE", 0x1},
      {"TSC", 0x10},
      {"PLATFORM_ID", 0x17},
      {"APIC_BASE", 0x1B},
      {"SMI_COUNT", 0x34},
      {"FEATURE_CONTROL", 0x3A},
      {"TSC_ADJUST", 0x3B},
      {"SPEC_CTRL", 0x48},
      {"PRED_CMD", 0x49},
      {"BIOS_UPDT_TRIG", 0x79},
      {"BIOS_SIGN_ID", 0x8B},
      {"SMBASE", 0x9E},
      {"PMC0", 0xC1},
      {"PMC1", 0xC2},
      {"PMC2", 0xC3},
      {"PMC3", 0xC4},
      {"PLATFORM_INFO", 0xCE},
      {"UMWAIT_CONTROL", 0xE1},
      {"MPERF", 0xE7},
      {"APERF", 0xE8},
      {"MTRRCAP", 0xFE},
      {"ARCH_CAPABILITIES", 0x10A},
      {"FLUSH_CMD", 0x10B},
      {"TSX_CTRL", 0x122},
      {"MISC_FEATURES_ENABLES", 0x140},
      {"SYSENTER_CS", 0x174},
      {"SYSENTER_ESP", 0x175},
      {"SYSENTER_EIP", 0x176},
      {"MCG_CAP", 0x179},
      {"MCG_STATUS", 0x17A},
      {"MCG_CTL", 0x17B},
      {"PERFEVTSEL0", 0x186},
      {"PERFEVTSEL1", 0x187},
      {"PERFEVTSEL2", 0x188},
      {"PERFEVTSEL3", 0x189},
      {"PERF_STATUS", 0x198},
      {"PERF_CTL", 0x199},
      {"MISC_ENABLE", 0x1A0},
      {"TEMPERATURE_TARGET", 0x1A2},
      {"ENERGY_PERF_BIAS", 0x1B0},
      {"XFD", 0x1C4},
      {"XFD_ERR", 0x1C5},
      {"LASTBRANCH_TOS", 0x1C9},
      {"DEBUGCTL", 0x1D9},
      {"LASTBRANCHFROMIP", 0x1DB},
      {"LASTBRANCHTOIP", 0x1DC},
      {"LASTINTFROMIP", 0x1DD},
      {"LASTINTTOIP", 0x1DE},
      {"POWER_CTL", 0x1FC},
      {"MTRR_PHYSBASE0", 0x200},
      {"MTRR_PHYSMASK0", 0x201},
      {"MTRR_PHYSBASE1", 0x202},
      {"MTRR_PHYSMASK1", 0x203},
      {"MTRR_PHYSBASE2", 0x204},
      {"MTRR_PHYSMASK2", 0x205},
      {"MTRR_PHYSBASE3", 0x206},
      {"MTRR_PHYSMASK3", 0x207},
      {"MTRR_PHYSBASE4", 0x208},
      {"MTRR_PHYSMASK4", 0x209},
      {"MTRR_PHYSBASE5", 0x20A},
      {"MTRR_PHYSMASK5", 0x20B},
      {"MTRR_PHYSBASE6", 0x20C},
      {"MTRR_PHYSMASK6", 0x20D},
      {"MTRR_PHYSBASE7", 0x20E},
      {"MTRR_PHYSMASK7", 0x20F},
      {"MTRR_FIX64K_00000", 0x250},
      {"MTRR_FIX16K_80000", 0x258},
      {"MTRR_FIX16K_A0000", 0x259},
      {"MTRR_FIX4K_C0000", 0x268},
      {"MTRR_FIX4K_C8000", 0x269},
      {"MTRR_FIX4K_D0000", 0x26A},
      {"MTRR_FIX4K_D8000", 0x26B},
      {"MTRR_FIX4K_E0000", 0x26C},
      {"MTRR_FIX4K_E8000", 0x26D},
      {"MTRR_FIX4K_F0000", 0x26E},
      {"MTRR_FIX4K_F8000", 0x26F},
      {"PAT", 0x277},
      {"MTRR_DEF_TYPE", 0x2FF},
      {"FIXED_CTR0", 0x309},
      {"FIXED_CTR1", 0x30A},
      {"FIXED_CTR2", 0x30B},
      {"PERF_CAPABILITIES", 0x345},
      {"FIXED_CTR_CTRL", 0x38D},
      {"PERF_GLOBAL_STATUS", 0x38E},
      {"PERF_GLOBAL_CTRL", 0x38F},
      {"PERF_GLOBAL_OVF_CTRL", 0x390},
      {"PEBS_ENABLE", 0x3F1},
      {"MC0_CTL", 0x400},
      {"MC0_STATUS", 0x401},
      {"MC0_ADDR", 0x402},
      {"MC0_MISC", 0x403},
      {"VMX_BASIC", 0x480},
      {"VMX_PINBASED_CTLS", 0x481},
      {"VMX_PROCBASED_CTLS", 0x482},
      {"VMX_EXIT_CTLS", 0x483},
      {"VMX_ENTRY_CTLS", 0x484},
      {"VMX_MISC", 0x485},
      {"VMX_CR0_FIXED0", 0x486},
      {"VMX_CR0_FIXED1", 0x487},
      {"VMX_CR4_FIXED0", 0x488},
      {"VMX_CR4_FIXED1", 0x489},
      {"VMX_VMCS_ENUM", 0x48A},
      {"VMX_PROCBASED_CTLS2", 0x48B},
      {"VMX_EPT_VPID_CAP", 0x48C},
      {"VMX_TRUE_PINBASED_CTLS", 0x48D},
      {"VMX_TRUE_PROCBASED_CTLS", 0x48E},
      {"VMX_TRUE_EXIT_CTLS", 0x48F},
      {"VMX_TRUE_ENTRY_CTLS", 0x490},
      {"VMX_VMFUNC", 0x491},
      {"DS_AREA", 0x600},
      {"U_CET", 0x6A0},
      {"S_CET", 0x6A2},
      {"PL0_SSP", 0x6A4},
      {"PL1_SSP", 0x6A5},
      {"PL2_SSP", 0x6A6},
      {"PL3_SSP", 0x6A7},
      {"INT_SSP_TAB", 0x6A8},
      {"TSC_DEADLINE", 0x6E0},
      {"PKRS", 0x6E1},
      {"X2APIC_ID", 0x802},
      {"X2APIC_VERSION", 0x803},
      {"X2APIC_TPR", 0x808},
      {"X2APIC_EOI", 0x80B},
      {"X2APIC_ICR", 0x830},
      {"XSS", 0xDA0},
      {"HV_GUEST_OS_ID", 0x40000000},
      {"HV_HYPERCALL", 0x40000001},
      {"HV_VP_INDEX", 0x40000002},
      {"HV_TIME_REF_COUNT", 0x40000020},
      {"HV_REFERENCE_TSC", 0x40000021},
      {"KVM_WALL_CLOCK_NEW", 0x4B564D00},
      {"KVM_SYSTEM_TIME_NEW", 0x4B564D01},
      {"KVM_ASYNC_PF_EN", 0x4B564D02},
      {"KVM_STEAL_TIME", 0x4B564D03},
      {"KVM_PV_EOI_EN", 0x4B564D04},
      {"KVM_POLL_CONTROL", 0x4B564D05},
      {"KVM_ASYNC_PF_INT", 0x4B564D06},
      {"KVM_ASYNC_PF_ACK", 0x4B564D07},
      {"KVM_MIGRATION_CONTROL", 0x4B564D08},
      {"EFER", 0xC0000080},
      {"STAR", 0xC0000081},
      {"LSTAR", 0xC0000082},
      {"CSTAR", 0xC0000083},
      {"SYSCALL_MASK", 0xC0000084},
      {"FS_BASE", 0xC0000100},
      {"GS_BASE", 0xC0000101},
      {"KERNEL_GS_BASE", 0xC0000102},
      {"TSC_AUX", 0xC0000103},
      {"TSC_RATIO", 0xC0000104},
      {"SYSCFG", 0xC0010010},
      {"HWCR", 0xC0010015},
      {"VM_CR", 0xC0010114},
      {"IGNNE", 0xC0010115},
      {"VM_HSAVE_PA", 0xC0010117},
      {"VIRT_SPEC_CTRL", 0xC001011F},
      {"DE_CFG", 0xC0011029},
  };
  return names;
}

std::uint32_t msr_index(std::string_view name) {
  const std::string wanted = plain_name(name);
  for (const MsrName& known : msr_names()) {
    if (wanted == known.name) return known.index;
  }
  throw InvalidConfig("no model-specific register is known as \"" + std::string(name) +
                      "\"; msr_names() lists those that are, and any can be given by its number");
}

std::string msr_name(std::uint32_t index) {
  const std::vector<MsrName>& names = msr_names();
  const auto at = std::lower_bound(names.begin(), names.end(), index,
                                   [](const MsrName& known, std::uint32_t i) { return known.index < i; });
  return at != names.end() && at->index == index ? at->name : hex(index);
}

}  // namespace vm::accel
