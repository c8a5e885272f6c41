// Whatever is cached, the MMU says what the page tables say: all configurations and formats against plain walks.

#include <gtest/gtest.h>

#include <random>

#include "support.hpp"

namespace vm::mem {
namespace {

struct Tables {
  std::string name;
  paging::PagingConfig config;
  std::uint64_t page;
  std::uint64_t large;
};

std::vector<Tables> all_tables() {
  paging::X86Config pae = long_mode(), two = long_mode(), keys = long_mode();
  pae.levels = 3;
  two.levels = 2;
  keys.smep = keys.smap = true;
  paging::RiscVConfig sv39;
  sv39.root = 0x1000;
  paging::AArch64Config arm;
  arm.ttbr0 = 0x10000;
  arm.ttbr1 = 0x20000;
  arm.tcr = paging::AArch64Config::default_tcr(4096);
  paging::AArch64Config arm64k = arm;
  arm64k.granule = 65536;
  arm64k.tcr = paging::AArch64Config::default_tcr(65536);
  return {{"x86_4", long_mode(), 4096, 2 * mib},    {"x86_pae", pae, 4096, 2 * mib}, {"x86_2", two, 4096, 4 * mib},
          {"x86_smap", keys, 4096, 2 * mib},        {"sv39", sv39, 4096, 2 * mib},   {"aarch64_4k", arm, 4096, 2 * mib},
          {"aarch64_64k", arm64k, 65536, 512 * mib}};
}

class MmuModelTest : public testing::TestWithParam<std::tuple<Tables, NamedConfig>> {
 protected:
  static constexpr std::uint64_t base = 0x1000'0000;
  static constexpr std::uint64_t pages = 48;

  std::uint64_t address(std::mt19937_64& random) const {
    const auto& tables = std::get<0>(GetParam());
    return base + random() % pages * tables.page + random() % tables.page;
  }
};

TEST_P(MmuModelTest, SaysWhatTheTablesSay) {
  const auto& [tables, named] = GetParam();
  auto memory = GuestMemory::anonymous(16 * mib);
  Mmu mmu(memory, tables.config, named.config);
  const paging::AddressSpace plain(memory, tables.config);
  std::mt19937_64 random(1);
  const Access accesses[] = {Access::read, Access::write, Access::execute, Access::read | Access::write, Access::none};
  int translated = 0;
  for (int step = 0; step < 6000; ++step) {
    const std::uint64_t vaddr = address(random);
    const std::uint64_t first = vaddr / tables.page * tables.page;
    const std::uint64_t size = (1 + random() % 4) * tables.page;
    const auto access = static_cast<Access>(1 | (random() & 6));
    try {
      switch (random() % 16) {
        case 0: {
          const std::uint64_t frame = (1 + random() % 64) * 65536;
          mmu.map({first, frame, size, access, random() % 2 == 0, std::nullopt});
          break;
        }
        case 1: mmu.unmap(first, size); break;
        case 2: mmu.protect(first, size, access, random() % 2 == 0); break;
        case 3: mmu.flush({static_cast<tlb::FlushScope>(random() % 5), vaddr, size, mmu.context()}); break;
        default: break;
      }
    } catch (const VmError&) {
      // Already mapped, a hole, no such rights: then nothing has changed.
    }
    const Access wanted = accesses[random() % 5];
    const Privilege privilege = random() % 2 == 0 ? Privilege::user : Privilege::supervisor;
    const paging::Translation expected = plain.try_translate(GuestVirtual(vaddr), wanted, privilege);
    const paging::Translation t = mmu.try_translate(GuestVirtual(vaddr), wanted, privilege);
    ASSERT_EQ(t.reason, expected.reason) << std::hex << vaddr << " step " << std::dec << step;
    ASSERT_EQ(t.level, expected.level);
    if (!t.ok()) continue;
    ++translated;
    ASSERT_EQ(t.paddr, expected.paddr) << std::hex << vaddr << " step " << std::dec << step;
    ASSERT_EQ(t.rights, expected.rights) << std::hex << vaddr << " step " << std::dec << step;
    ASSERT_EQ(t.size_log2, expected.size_log2);
  }
  EXPECT_GT(translated, 500);
  const MmuStats stats = mmu.stats();
  EXPECT_LT(stats.walks, 6000U) << "something was cached";
}

INSTANTIATE_TEST_SUITE_P(All, MmuModelTest,
                         testing::Combine(testing::ValuesIn(all_tables()), testing::ValuesIn(mmu_configs())),
                         [](const auto& i) { return std::get<0>(i.param).name + "_" + std::get<1>(i.param).name; });

}  // namespace
}  // namespace vm::mem
