// The values of an x86 vCPU's state, without a hypervisor: tables, names, areas.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "vm/accel/hypervisor/vcpu_state.hpp"
#include "vm/accel/hypervisor/x86_cpuid.hpp"
#include "vm/accel/hypervisor/x86_fpu.hpp"
#include "vm/accel/hypervisor/x86_lapic.hpp"
#include "vm/accel/hypervisor/x86_msr.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

/// An entry that does not depend on the index.
CpuidEntry plain(std::uint32_t function, std::uint32_t eax = 0, std::uint32_t ebx = 0, std::uint32_t ecx = 0,
                 std::uint32_t edx = 0) {
  return {function, 0, false, eax, ebx, ecx, edx};
}

CpuidTable machine() {
  return CpuidTable({plain(0, 0xD, 1, 2, 3),
                     plain(1, 0x806F8, 0x0020'0800, ~0U, ~0U),
                     {4, 0, true, 0xFC00'4121, 0, 0, 0},
                     {4, 1, true, 0xFC00'4163, 0, 0, 0},
                     {4, 2, true, 0, 0, 0, 0},
                     {7, 0, true, 1, ~0U, ~0U, ~0U},
                     {7, 1, true, ~0U, 0, 0, 0},
                     {0xB, 0, true, 0, 0, 0, 9},
                     plain(0x8000'0000, 0x8000'001F),
                     plain(0x8000'0001, 0, 0, ~0U, ~0U),
                     plain(0x8000'0008, 0x3030, ~0U, ~0U, 0),
                     {0x8000'001D, 0, true, 0x121, 0, 0, 0},
                     plain(0x8000'001E)});
}

TEST(CpuidTable, FindsByFunctionAndIndex) {
  CpuidTable table = machine();
  ASSERT_NE(table.find(7, 1), nullptr);
  EXPECT_EQ(table.find(7, 1)->eax, ~0U);
  EXPECT_EQ(table.find(7, 2), nullptr);
  EXPECT_EQ(table.find(1, 77), table.find(1));
  EXPECT_TRUE(std::is_sorted(table.entries().begin(), table.entries().end(), [](const auto& a, const auto& b) {
    return a.function != b.function ? a.function < b.function : a.index < b.index;
  }));
  table.set({7, 2, true, 0, 0, 0, 5});
  EXPECT_EQ(table.find(7, 2)->edx, 5U);
  EXPECT_TRUE(table.erase(7, 2));
  EXPECT_FALSE(table.erase(7, 2));
  EXPECT_EQ(table.physical_bits(), 48U);
  EXPECT_EQ(CpuidTable().physical_bits(), 36U);
}

TEST(CpuidTable, RefusesTwoAnswersToOneQuestion) {
  EXPECT_THROW(CpuidTable({plain(1), plain(1)}), InvalidConfig);
  EXPECT_THROW(CpuidTable({plain(7), {7, 1, true, 0, 0, 0, 0}}), InvalidConfig);
  EXPECT_THROW(CpuidTable({{1, 3, false, 0, 0, 0, 0}}), InvalidConfig);
  CpuidTable table = machine();
  EXPECT_THROW(table.set(plain(7)), InvalidConfig);
  EXPECT_THROW(table.set({1, 0, true, 0, 0, 0, 0}), InvalidConfig);
  EXPECT_THROW(table.mask(0x55, 0, {}), OutOfRange);
  EXPECT_EQ(table.entries(), machine().entries());
}

TEST(CpuidTable, KnowsFeaturesByName) {
  CpuidTable table = machine();
  EXPECT_TRUE(table.has("avx2"));
  table.set_feature("avx2", false);
  EXPECT_FALSE(table.has("avx2"));
  EXPECT_EQ(table.find(7)->ebx, ~(1U << 5));
  table.set_feature("avx2", true);
  EXPECT_EQ(table.entries(), machine().entries());
  EXPECT_THROW(table.has("avx3"), InvalidConfig);
  EXPECT_FALSE(table.has("xsaves"));  // leaf 0xD is not there
  table.set_feature("xsaves", false);
  EXPECT_THROW(table.set_feature("xsaves", true), OutOfRange);
  table.mask(7, 0, {7, 0, true, ~0U, 1U << 5, 0, 0});
  EXPECT_TRUE(table.has("avx2"));
  EXPECT_FALSE(table.has("bmi1"));
  std::set<std::string> names;
  for (const CpuidFeature& feature : cpuid_features()) {
    EXPECT_TRUE(names.insert(feature.name).second) << feature.name;
    EXPECT_LT(feature.bit, 32U);
  }
}

TEST(CpuidTable, IntersectsFeaturesOnly) {
  CpuidTable table = machine();
  CpuidTable other = machine();
  other.set_feature("sse4_2", false);
  other.erase(7, 1);
  other.find(1)->eax = 0;
  table.intersect(other);
  EXPECT_FALSE(table.has("sse4_2"));
  EXPECT_TRUE(table.has("sse4_1"));
  EXPECT_EQ(table.find(7, 1)->eax, 0U);
  EXPECT_EQ(table.find(1)->eax, 0x806F8U);
}

TEST(CpuidTable, MinimalClaimsNothingThatIsNotSupported) {
  const CpuidTable minimal = CpuidTable::minimal(machine());
  for (const char* name : {"fpu", "sse2", "apic", "nx", "lm", "syscall"}) EXPECT_TRUE(minimal.has(name)) << name;
  for (const char* name : {"avx", "xsave", "sse3", "avx2", "vmx"}) EXPECT_FALSE(minimal.has(name)) << name;
  EXPECT_EQ(minimal.find(0)->eax, 1U);
  EXPECT_EQ(minimal.find(0x8000'0000)->eax, 0x8000'0008U);
  CpuidTable poor = machine();
  poor.set_feature("nx", false);
  EXPECT_FALSE(CpuidTable::minimal(poor).has("nx"));
  EXPECT_TRUE(CpuidTable::minimal(CpuidTable()).entries().empty());
}

TEST(CpuidTable, SaysWhereTheVcpuIs) {
  CpuidTable table = machine();
  table.place({13, 2, 4});  // package 1, core 2, thread 1
  EXPECT_EQ(table.find(1)->ebx, 0x0D08'0800U);
  EXPECT_TRUE(table.has("ht"));
  EXPECT_EQ(table.find(4, 0)->eax >> 14 & 0xFFF, 1U);  // a core's two threads
  EXPECT_EQ(table.find(4, 0)->eax >> 26, 3U);          // four cores
  EXPECT_EQ(table.find(4, 1)->eax >> 14 & 0xFFF, 7U);  // level 3: everybody
  EXPECT_EQ(table.find(0x8000'001D, 0)->eax >> 14 & 0xFFF, 1U);
  EXPECT_EQ(*table.find(0xB, 0), (CpuidEntry{0xB, 0, true, 1, 2, 0x100, 13}));
  EXPECT_EQ(*table.find(0xB, 1), (CpuidEntry{0xB, 1, true, 3, 8, 0x201, 13}));
  EXPECT_EQ(*table.find(0xB, 2), (CpuidEntry{0xB, 2, true, 0, 0, 2, 13}));
  EXPECT_EQ(table.find(0x1F), nullptr);
  EXPECT_EQ(table.find(0x8000'0008)->ecx & 0xFF, 7U);
  EXPECT_EQ(table.find(0x8000'0008)->ecx >> 12 & 0xF, 3U);
  EXPECT_EQ(table.find(0x8000'001E)->eax, 13U);
  EXPECT_EQ(table.find(0x8000'001E)->ebx, 0x106U);
  EXPECT_EQ(table.find(0x8000'001E)->ecx, 1U);
  table.place({0, 1, 1});
  EXPECT_FALSE(table.has("ht"));
  EXPECT_THROW(table.place({0, 0, 1}), InvalidConfig);
  EXPECT_THROW(table.place({0, 1, 0x8001}), InvalidConfig);
  EXPECT_NO_THROW(table.place({0x7FFF, 1, 0x8000}));
}

TEST(Msr, HasNamesBothWays) {
  EXPECT_EQ(msr_index("EFER"), 0xC000'0080U);
  EXPECT_EQ(msr_index("ia32_tsc"), 0x10U);
  EXPECT_EQ(msr_index("MSR_IA32_PAT"), 0x277U);
  EXPECT_THROW(msr_index("NOPE"), InvalidConfig);
  EXPECT_THROW(msr_index(""), InvalidConfig);
  EXPECT_EQ(msr_name(0xC000'0082), "LSTAR");
  EXPECT_EQ(msr_name(0x1234), "0x1234");
  std::uint32_t before = 0;
  for (const MsrName& known : msr_names()) {
    EXPECT_TRUE(before < known.index || known.index == 0) << known.name;
    before = known.index;
    EXPECT_EQ(msr_index(known.name), known.index);
    EXPECT_EQ(msr_name(known.index), known.name);
  }
}

TEST(Lapic, RegistersAndSets) {
  X86Lapic lapic;
  lapic.write(0xF0, 0x1FF);
  EXPECT_EQ(lapic.read(0xF0), 0x1FFU);
  EXPECT_THROW(lapic.read(0xF1), OutOfRange);
  EXPECT_THROW(lapic.write(1024, 0), OutOfRange);
  lapic.write(X86Lapic::irr + 0x10, 1);         // vector 32
  lapic.write(X86Lapic::irr + 0x70, 1U << 31);  // vector 255
  EXPECT_EQ(lapic.vectors(X86Lapic::irr), (std::vector<std::uint8_t>{32, 255}));
  EXPECT_TRUE(lapic.vectors(X86Lapic::isr).empty());
  for (const LapicRegister& known : lapic_registers()) EXPECT_NO_THROW(lapic.read(known.offset)) << known.name;
}

TEST(Xsave, ShowsTheLegacyRegion) {
  EXPECT_THROW(X86Xsave(std::vector<std::uint8_t>(575)), InvalidConfig);
  X86Xsave xsave(std::vector<std::uint8_t>(4096));
  // Nothing is in use, so the registers have their initial values whatever the bytes say.
  EXPECT_EQ(xsave.legacy().fcw, 0x37F);
  X86Fpu fpu;
  fpu.fcw = 0x27F;
  fpu.fsw = 0x3800;
  fpu.ftw = 0x81;
  fpu.last_ip = 0x1234;
  fpu.mxcsr = 0x1FA0;
  fpu.fpr[7][9] = 0x40;
  fpu.xmm[15][15] = 0xEE;
  xsave.set_legacy(fpu);
  EXPECT_EQ(xsave.xstate_bv(), 3U);
  const X86Fpu back = xsave.legacy();
  EXPECT_EQ(back.fcw, fpu.fcw);
  EXPECT_EQ(back.fsw, fpu.fsw);
  EXPECT_EQ(back.ftw, fpu.ftw);
  EXPECT_EQ(back.last_ip, fpu.last_ip);
  EXPECT_EQ(back.mxcsr, fpu.mxcsr);
  EXPECT_EQ(back.fpr, fpu.fpr);
  EXPECT_EQ(back.xmm, fpu.xmm);
  xsave.set_xstate_bv(1);
  EXPECT_EQ(xsave.legacy().xmm[15][15], 0);
  EXPECT_EQ(xsave.xcomp_bv(), 0U);
}

TEST(MpState, HasNames) {
  EXPECT_STREQ(mp_state_name(MpState::halted), "halted");
  EXPECT_STREQ(mp_state_name(static_cast<MpState>(77)), "unknown");
}

}  // namespace
}  // namespace vm::accel
