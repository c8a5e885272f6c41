// Roots are found among everything else that memory holds, ranked, and given ready for use; hostile memory costs
// bounded time and nothing else.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "support.hpp"
#include "vm/mem/paging/roots.hpp"

namespace vm::mem::paging::test {
namespace {

constexpr std::uint64_t mebibyte = std::uint64_t{1} << 20;
constexpr std::uint64_t memory_size = 16 * mebibyte;
constexpr std::uint64_t root_a = 0x7000;
constexpr std::uint64_t root_b = 0x9000;

struct Guest {
  const char* name;
  PagingConfig config;   ///< with `root_a` as root
  std::uint64_t kernel;  ///< where all memory is mapped for the supervisor
  std::uint64_t text;    ///< where the kernel's code is
};
void PrintTo(const Guest& guest, std::ostream* out) { *out << guest.name; }

X86Config x86(int levels, std::uint64_t root = root_a) {
  X86Config config;
  config.levels = levels;
  config.root = root;
  return config;
}
RiscVConfig riscv(RiscVMode mode, std::uint64_t root = root_a) {
  RiscVConfig config;
  config.mode = mode;
  config.root = root;
  return config;
}
/// Halves of 64 - `size_offset` bits, the upper one alone.
AArch64Config aarch64(std::uint64_t size_offset, std::uint64_t root = root_a) {
  AArch64Config config;
  config.ttbr1 = root;
  config.tcr = (AArch64Config::default_tcr(4096) & ~std::uint64_t{0x3F003F}) | size_offset | size_offset << 16 | bit(7);
  return config;
}

/// A kernel that maps all memory and its own code, and a process beside it when the format has user halves.
AddressSpace build(const std::shared_ptr<GuestMemory>& memory, const Guest& guest) {
  AddressSpace space(memory, guest.config, {TableRange{mebibyte, 2 * mebibyte - 1}, false});
  space.map({guest.kernel, 0, memory_size, rw, false, std::nullopt});
  space.map({guest.text, 4 * mebibyte, 0x60000, rx, false, 4096});
  if (!std::holds_alternative<AArch64Config>(guest.config)) space.map({0x400000, 0x600000, 0x3000, rx, true, 4096});
  return space;
}

void add_noise(GuestMemory& memory) {
  std::mt19937_64 random(7);
  std::vector<std::uint64_t> words(4 * mebibyte / 8);
  for (auto& word : words) word = random() >> (random() % 64);
  memory.write(10 * mebibyte, words.data(), words.size() * 8);
}

std::vector<RootCandidate> find(const Machine& machine, std::vector<PagingConfig> formats = {}) {
  RootScanOptions options;
  options.formats = std::move(formats);
  return find_roots(*machine.memory, options);
}

class FindRoots : public ::testing::TestWithParam<Guest> {};

TEST_P(FindRoots, PutsTheRealOnesFirst) {
  Machine machine(memory_size);
  add_noise(*machine.memory);
  const Guest& guest = GetParam();
  const AddressSpace space = build(machine.memory, guest);
  const auto found = find(machine);
  ASSERT_FALSE(found.empty());
  EXPECT_EQ(found[0].root, root_a);
  EXPECT_GE(found[0].score, 70);
  EXPECT_EQ(found[0].table_of, no_address);
  EXPECT_TRUE(found[0].maps_itself);
  EXPECT_EQ(found[0].broken_tables, 0U);
  EXPECT_EQ(describe(found[0].config), describe(guest.config));
  const AddressSpace again(machine.memory, found[0].config);
  EXPECT_EQ(again.translate(GuestVirtual{guest.text + 0x1234}).paddr, 4 * mebibyte + 0x1234);
  for (std::size_t i = 1; i < found.size(); ++i) EXPECT_LT(found[i].score, 60) << describe(found[i].config);
}

TEST_P(FindRoots, CountsWhatTheTablesHold) {
  Machine machine(memory_size);
  const AddressSpace space = build(machine.memory, GetParam());
  const auto found = find(machine, {GetParam().config});
  ASSERT_FALSE(found.empty());
  std::uint64_t bytes = 0;
  std::uint64_t pages = 0;
  std::uint64_t user_pages = 0;
  for (const Mapping& m : space.mappings()) {
    bytes += m.size;
    pages += m.size / m.page_size;
    if (m.user_access != Access::none) user_pages += m.size / m.page_size;
  }
  EXPECT_EQ(found[0].mapped_bytes, bytes);
  EXPECT_EQ(found[0].pages, pages);
  EXPECT_EQ(found[0].user_pages, user_pages);
  EXPECT_EQ(found[0].kernel_pages, pages - user_pages);
  EXPECT_EQ(found[0].accessed_pages, pages);
}

/// Formats whose roots hold a process and the kernel.
class FindProcesses : public ::testing::TestWithParam<Guest> {};

TEST_P(FindProcesses, RanksThoseOfOneKernelAsEquals) {
  Machine machine(memory_size);
  const AddressSpace space = build(machine.memory, GetParam());
  std::vector<std::byte> top(4096);
  machine.memory->read(root_a, top.data(), top.size());
  std::fill(top.begin(), top.begin() + 2048, std::byte{0});  // the kernel's half alone, as a process that has ended
  machine.memory->write(root_b, top.data(), top.size());
  const auto found = find(machine, {GetParam().config});
  ASSERT_GE(found.size(), 2U);
  EXPECT_EQ(found[0].root, root_a);
  EXPECT_EQ(found[1].root, root_b);
  EXPECT_EQ(found[0].score, found[1].score);
  EXPECT_GT(found[0].shared_entries, 0U);
}

const Guest both_halves[] = {{"x86_4_level", x86(4), 0xFFFF888000000000, 0xFFFFFFFF81000000},
                             {"la57", x86(5), 0xFF11000000000000, 0xFFFFFFFF81000000},
                             {"sv39", riscv(RiscVMode::sv39), 0xFFFFFFD800000000, 0xFFFFFFFF80000000},
                             {"sv48", riscv(RiscVMode::sv48), 0xFFFFAF8000000000, 0xFFFFFFFF80000000},
                             {"sv57", riscv(RiscVMode::sv57), 0xFF60000000000000, 0xFFFFFFFF80000000}};
const Guest upper_half[] = {{"aarch64_48", aarch64(16), 0xFFFF000000000000, 0xFFFF800008000000},
                            {"aarch64_39", aarch64(25), 0xFFFFFF8000000000, 0xFFFFFFC008000000}};
constexpr auto name_of = [](const auto& guest) { return std::string(guest.param.name); };
INSTANTIATE_TEST_SUITE_P(BothHalves, FindRoots, ::testing::ValuesIn(both_halves), name_of);
INSTANTIATE_TEST_SUITE_P(UpperHalf, FindRoots, ::testing::ValuesIn(upper_half), name_of);
INSTANTIATE_TEST_SUITE_P(BothHalves, FindProcesses, ::testing::ValuesIn(both_halves), name_of);

TEST(Roots, FindThePaeDirectoryPointersBetweenOtherThings) {
  Machine machine(memory_size);
  const Guest guest{"pae", x86(3, 0x7A20), 0xC0000000, 0xF8000000};
  const AddressSpace space = build(machine.memory, guest);
  machine.put(0x7A00, 0x123456789);
  machine.put(0x7A40, 0x42);
  const auto found = find(machine, {x86(3)});
  ASSERT_FALSE(found.empty());
  EXPECT_EQ(found[0].root, 0x7A20U);
  EXPECT_EQ(std::get<X86Config>(found[0].config).levels, 3);
}

TEST(Roots, ExplainTheLowerTablesOfDeeperFormats) {
  Machine machine(memory_size);
  const AddressSpace space =
      build(machine.memory, {"sv48", riscv(RiscVMode::sv48), 0xFFFFAF8000000000, 0xFFFFFFFF80000000});
  const auto found = find(machine);
  ASSERT_FALSE(found.empty());
  EXPECT_EQ(std::get<RiscVConfig>(found[0].config).mode, RiscVMode::sv48);
  const auto inner =
      std::find_if(found.begin(), found.end(), [](const RootCandidate& c) { return c.table_of == root_a; });
  ASSERT_NE(inner, found.end());
  EXPECT_EQ(std::get<RiscVConfig>(inner->config).mode, RiscVMode::sv39);
  EXPECT_LT(inner->score, found[0].score / 2);
}

TEST(Roots, TellARootFromALastLevelTableThatMapsItsPage) {
  // All memory in 4 KiB pages and nearly all of it zero: a last-level table, read as a root, leads to the real root.
  for (const int levels : {2, 4, 5}) {
    Machine machine(mebibyte);
    AddressSpace space(machine.memory, x86(levels), {TableRange{0x80000, mebibyte - 1}, false});
    space.map({levels == 2 ? 0xC0000000 : 0xFFFF888000000000, 0, mebibyte, rw, false, 4096});
    const auto found = find(machine, {x86(2), x86(4), x86(5)});
    ASSERT_FALSE(found.empty());
    EXPECT_EQ(describe(found[0].config), describe(x86(levels)));
  }
}

TEST(Roots, TellWhichHalfOfAArch64UsesATable) {
  Machine machine(memory_size);
  AArch64Config lower;
  lower.ttbr0 = root_b;
  lower.tcr = AArch64Config::default_tcr(4096) | bit(23);
  AddressSpace user_space(machine.memory, lower, {TableRange{mebibyte, 2 * mebibyte - 1}, false});
  user_space.map({0x400000, 0x600000, 0x8000, rx, true, 4096});
  const auto found = find(machine);
  ASSERT_FALSE(found.empty());
  const auto& config = std::get<AArch64Config>(found[0].config);
  EXPECT_EQ(config.ttbr0, root_b);
  EXPECT_EQ(config.ttbr1, 0U);
  EXPECT_EQ(AddressSpace(machine.memory, config).translate(GuestVirtual{0x400123}).paddr, 0x600123U);
}

TEST(Roots, ReportAnEntryThatPointsAtItsOwnTable) {
  Machine machine(memory_size);
  const AddressSpace space = build(machine.memory, {"", x86(4), 0xFFFF888000000000, 0xFFFFFFFF81000000});
  machine.put(root_a + 0x1ED * 8, root_a | 0x63);
  const auto found = find(machine, {x86(4)});
  ASSERT_FALSE(found.empty());
  EXPECT_EQ(found[0].root, root_a);
  EXPECT_TRUE(found[0].self_referring);
  EXPECT_EQ(found[0].table_of, no_address);
}

TEST(Roots, FindNothingInNothing) {
  EXPECT_TRUE(find(Machine(memory_size)).empty());
  EXPECT_TRUE(find_roots(GuestMemory({}, {})).empty());
}

TEST(Roots, EndInMemoryWhereEveryPageIsATableOfEveryOther) {
  for (const PagingConfig& config : default_root_formats()) {
    Machine machine(2 * mebibyte);
    const bool riscv = std::holds_alternative<RiscVConfig>(config);
    for (std::uint64_t page = 0; page < 512; ++page)
      for (std::uint64_t slot = 0; slot < 512; ++slot) {
        const std::uint64_t target = (page + slot) % 512 * 4096;
        machine.put(page * 4096 + slot * 8, riscv ? target >> 2 | 1 : target | 0x463);
      }
    for (const RootCandidate& c : find(machine, {config})) EXPECT_LE(c.score, 100);
  }
}

TEST(Roots, LookAtRegionsOfAnyPlaceAndSize) {
  Machine machine(memory_size);
  const AddressSpace space = build(machine.memory, {"", x86(4), 0xFFFF888000000000, 0xFFFFFFFF81000000});
  machine.memory->add(*GuestMemory::anonymous(100, memory_size + 12));
  machine.memory->add(*GuestMemory::anonymous(8192, UINT64_MAX - 8191));
  const auto found = find(machine);
  ASSERT_FALSE(found.empty());
  EXPECT_EQ(found[0].root, root_a);
}

TEST(Roots, ReportProgressUpToTheEnd) {
  Machine machine(memory_size);
  RootScanOptions options;
  std::uint64_t last = 0;
  std::uint64_t whole = 0;
  options.progress = [&](std::uint64_t done, std::uint64_t total) {
    EXPECT_GE(done, last);
    last = done;
    whole = total;
    return true;
  };
  find_roots(*machine.memory, options);
  EXPECT_EQ(last, memory_size);
  EXPECT_EQ(whole, memory_size);
}

TEST(Roots, StopWhenTold) {
  Machine machine(memory_size);
  const AddressSpace space = build(machine.memory, {"", x86(4), 0xFFFF888000000000, 0xFFFFFFFF81000000});
  RootScanOptions options;
  int calls = 0;
  options.progress = [&](std::uint64_t, std::uint64_t) { return ++calls < 3; };
  EXPECT_TRUE(find_roots(*machine.memory, options).empty());
  EXPECT_EQ(calls, 3);
}

TEST(Roots, KeepToTheLimit) {
  Machine machine(memory_size);
  const AddressSpace space = build(machine.memory, {"", x86(4), 0xFFFF888000000000, 0xFFFFFFFF81000000});
  RootScanOptions options;
  options.limit = 1;
  EXPECT_EQ(find_roots(*machine.memory, options).size(), 1U);
}

TEST(Roots, RefuseWhatNoProcessorCanBeSetTo) {
  Machine machine(memory_size);
  X86Config config;
  config.levels = 6;
  EXPECT_THROW(find(machine, {config}), InvalidConfig);
  machine.memory->close();
  EXPECT_THROW(find(machine), ClosedError);
}

}  // namespace
}  // namespace vm::mem::paging::test
