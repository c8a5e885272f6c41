// What a walk records: tables from which it can be resumed with the same answer, and rights that a cache may use
// without walking.

#include <gtest/gtest.h>

#include <functional>

#include "random_tables.hpp"

namespace vm::mem::paging {
namespace {

class WalkRecordTest : public testing::TestWithParam<Format> {
 protected:
  static AddressSpace space(bool update) {
    AddressSpaceOptions options;
    options.update_accessed_dirty = update;
    return {random_memory(GetParam()), GetParam().config, options};
  }
};

bool same(const Translation& a, const Translation& b) {
  if (a.reason != b.reason || a.level != b.level || a.vaddr != b.vaddr) return false;
  return !a.ok() || (a.paddr == b.paddr && a.rights == b.rights && a.size_log2 == b.size_log2);
}

TEST_P(WalkRecordTest, AWalkResumedAtAnyRecordedTableSaysTheSame) {
  int resumed = 0;
  const AddressSpace plain = space(false), updating = space(true);
  for (const AddressSpace& tables : {std::cref(plain), std::cref(updating)})
    for (const std::uint64_t vaddr : random_addresses(GetParam(), 3, 4000)) {
      WalkRecord record;
      const Translation whole = tables.walk(*tables.memory()->table(), GuestVirtual(vaddr), Access::read,
                                            Privilege::user, nullptr, 0, record);
      ASSERT_TRUE(same(whole, tables.try_translate(GuestVirtual(vaddr), Access::read, Privilege::user)))
          << std::hex << vaddr;
      for (int level = record.top - 1; level >= whole.level; --level) {
        WalkRecord rest;
        const Translation t = tables.walk(*tables.memory()->table(), GuestVirtual(vaddr), Access::read, Privilege::user,
                                          &record.tables[level], level, rest);
        ASSERT_TRUE(same(whole, t)) << std::hex << vaddr << " from level " << level;
        EXPECT_EQ(rest.top, level);
        if (!whole.ok()) continue;
        EXPECT_EQ(rest.usable, record.usable);
        EXPECT_EQ(rest.global, record.global);
        EXPECT_EQ(rest.leaf_at, record.leaf_at);
        ++resumed;
      }
    }
  EXPECT_GT(resumed, 0);
}

// The processor's modes and the leaf's flags decide, one access at a time.
TEST_P(WalkRecordTest, UsableRightsAreWhatTheWalkerGrants) {
  const AddressSpace tables = space(false);
  int translated = 0;
  for (const std::uint64_t vaddr : random_addresses(GetParam(), 4, 4000)) {
    WalkRecord record;
    if (!tables
             .walk(*tables.memory()->table(), GuestVirtual(vaddr), Access::none, Privilege::supervisor, nullptr, 0,
                   record)
             .ok())
      continue;
    ++translated;
    for (const Privilege privilege : {Privilege::supervisor, Privilege::user})
      for (const Access access : {Access::read, Access::write, Access::execute})
        EXPECT_EQ(has(access_of(record.usable, privilege), access),
                  tables.try_translate(GuestVirtual(vaddr), access, privilege).ok())
            << std::hex << vaddr;
  }
  EXPECT_GT(translated, 0);
}

// With A/D updates, a right is usable only when using it would change nothing in memory any more.
TEST_P(WalkRecordTest, UsableRightsSetNoFlags) {
  const AddressSpace tables = space(true);
  int usable = 0;
  std::vector<std::byte> before(memory_size), after(memory_size);
  for (const std::uint64_t vaddr : random_addresses(GetParam(), 5, 300)) {
    WalkRecord record;
    if (!tables
             .walk(*tables.memory()->table(), GuestVirtual(vaddr), Access::read, Privilege::supervisor, nullptr, 0,
                   record)
             .ok())
      continue;
    tables.memory()->read(0, before.data(), before.size());
    for (const Privilege privilege : {Privilege::supervisor, Privilege::user})
      for (const Access access : {Access::read, Access::write, Access::execute}) {
        if (!has(access_of(record.usable, privilege), access)) continue;
        ++usable;
        ASSERT_TRUE(tables.try_translate(GuestVirtual(vaddr), access, privilege).ok()) << std::hex << vaddr;
      }
    tables.memory()->read(0, after.data(), after.size());
    ASSERT_EQ(before, after) << std::hex << vaddr;
  }
  EXPECT_GT(usable, 0);
}

INSTANTIATE_TEST_SUITE_P(Formats, WalkRecordTest, testing::ValuesIn(formats()),
                         [](const auto& i) { return i.param.name; });

AddressSpace mapped(const PagingConfig& config) {
  AddressSpace space(GuestMemory::anonymous(std::uint64_t{1} << 20), config);
  space.map({0x40'0000, 0x1'0000, 0x1'0000, Access::read | Access::write, false, std::nullopt});
  return space;
}

bool is_global(const AddressSpace& space) {
  WalkRecord record;
  EXPECT_TRUE(space
                  .walk(*space.memory()->table(), GuestVirtual(0x40'0000), Access::read, Privilege::supervisor, nullptr,
                        0, record)
                  .ok());
  return record.global;
}

void flip_leaf(const AddressSpace& space, std::uint64_t bits) {
  WalkRecord record;
  space.walk(*space.memory()->table(), GuestVirtual(0x40'0000), Access::read, Privilege::supervisor, nullptr, 0,
             record);
  std::uint64_t entry = 0;
  space.memory()->read(record.leaf_at, &entry, record.leaf_bytes);
  entry ^= bits;
  space.memory()->write(record.leaf_at, &entry, record.leaf_bytes);
}

TEST(WalkRecord, GlobalLeaves) {
  X86Config with = x86(4), without = x86(4);
  without.global_pages = false;
  const AddressSpace on = mapped(with), off = mapped(without);
  EXPECT_FALSE(is_global(on));
  flip_leaf(on, 0x100);
  flip_leaf(off, 0x100);
  EXPECT_TRUE(is_global(on));
  EXPECT_FALSE(is_global(off)) << "CR4.PGE is clear";
  EXPECT_FALSE(X86Config::from_registers(0x8000'0011, 0x1000, 0x20, 0xD00).global_pages);
  EXPECT_TRUE(X86Config::from_registers(0x8000'0011, 0x1000, 0xA0, 0xD00).global_pages);

  const AddressSpace arm = mapped(aarch64(4096, false));
  EXPECT_TRUE(is_global(arm));
  flip_leaf(arm, 0x800);  // nG
  EXPECT_FALSE(is_global(arm));
}

TEST(WalkRecord, BelowAGlobalRiscVTableEverythingIsGlobal) {
  const AddressSpace space = mapped(riscv(RiscVMode::sv39, false));
  EXPECT_FALSE(is_global(space));
  std::uint64_t top = 0;
  space.memory()->read(0, &top, sizeof top);
  top |= 0x20;
  space.memory()->write(0, &top, sizeof top);
  EXPECT_TRUE(is_global(space));
  WalkRecord whole, rest;
  space.walk(*space.memory()->table(), GuestVirtual(0x40'0000), Access::read, Privilege::supervisor, nullptr, 0, whole);
  space.walk(*space.memory()->table(), GuestVirtual(0x40'0000), Access::read, Privilege::supervisor, &whole.tables[0],
             0, rest);
  EXPECT_TRUE(rest.global) << "a cached table remembers";
}

}  // namespace
}  // namespace vm::mem::paging
