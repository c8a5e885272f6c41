// Pages given back to the host and had again.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "vm/core/error.hpp"
#include "vm/mem/guest/lazy_memory.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::mem {
namespace {

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t size = 64 * page;

std::vector<std::byte> bytes(const GuestMemory& memory, std::uint64_t paddr, std::uint64_t count) {
  std::vector<std::byte> result(count);
  memory.read(paddr, result.data(), count);
  return result;
}

void fill(GuestMemory& memory, std::uint64_t paddr, std::uint64_t count) {
  const std::vector<std::byte> source(count, std::byte{0xA5});
  memory.write(paddr, source.data(), count);
}

/// Bytes of this process in memory: the second number of /proc/self/statm, in pages.
std::uint64_t resident_set() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  file >> total >> resident;
  return resident * page;
}

class Discard : public testing::TestWithParam<bool> {
 protected:
  static std::shared_ptr<GuestMemory> make(std::uint64_t bytes, std::uint64_t base) {
    return GetParam() ? GuestMemory::memfd(bytes, base, "discard", HugePages::none)
                      : GuestMemory::anonymous(bytes, base, HugePages::none);
  }
};

TEST_P(Discard, PagesReadAsZerosAndTheirNeighboursStay) {
  const auto memory = make(size, 0x10000);
  fill(*memory, 0x10000, size);
  EXPECT_EQ(memory->resident(0x10000, size), size);
  memory->discard(0x10000 + 2 * page, 3 * page);
  EXPECT_EQ(memory->resident(0x10000, size), size - 3 * page);
  EXPECT_EQ(memory->resident(0x10000 + 2 * page + 100, page), 0U);  // two pages, both gone
  EXPECT_EQ(bytes(*memory, 0x10000 + 2 * page, 3 * page), std::vector<std::byte>(3 * page));
  EXPECT_EQ(bytes(*memory, 0x10000 + 5 * page, 1)[0], std::byte{0xA5});
  EXPECT_EQ(bytes(*memory, 0x10000 + 2 * page - 1, 1)[0], std::byte{0xA5});
  memory->discard(0x10000, 0);
}

TEST_P(Discard, TheProcessBecomesSmaller) {
  constexpr std::uint64_t large = 32 << 20;
  const auto memory = make(large, 0);
  fill(*memory, 0, large);
  const std::uint64_t before = resident_set();
  memory->discard(0, large);
  EXPECT_LT(resident_set(), before - large / 2);
  EXPECT_EQ(memory->resident(0, large), 0U);
}

TEST_P(Discard, PopulateBringsPagesAndChangesNothing) {
  const auto memory = make(size, 0);
  fill(*memory, page, page);
  try {
    memory->populate(0, size);
  } catch (const NotSupported& error) {
    GTEST_SKIP() << error.what();
  }
  EXPECT_EQ(memory->resident(0, size), size);
  EXPECT_EQ(bytes(*memory, page, 1)[0], std::byte{0xA5});
  EXPECT_EQ(bytes(*memory, 0, 1)[0], std::byte{0});
}

TEST_P(Discard, RefusalsChangeNothing) {
  const auto memory = make(size, 0);
  memory->add(*make(size, size));
  fill(*memory, 0, 2 * size);
  memory->discard(size - page, 2 * page);  // across two regions
  fill(*memory, 0, 2 * size);
  EXPECT_THROW(memory->discard(page, 100), InvalidConfig);
  EXPECT_THROW(memory->discard(100, page), InvalidConfig);
  EXPECT_THROW(memory->discard(size, 2 * size), OutOfRange);
  EXPECT_THROW(memory->resident(size, 2 * size), OutOfRange);
  EXPECT_THROW(memory->populate(size, 2 * size), OutOfRange);
  EXPECT_THROW(memory->require_discardable(1, page), InvalidConfig);
  EXPECT_NO_THROW(memory->require_discardable(0, page));
  EXPECT_EQ(bytes(*memory, 0, 2 * size), std::vector<std::byte>(2 * size, std::byte{0xA5}));
  memory->close();
  EXPECT_THROW(memory->discard(0, page), ClosedError);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Discard, testing::Bool(),
                         [](const auto& kind) { return kind.param ? "memfd" : "anonymous"; });

TEST(DiscardOf, FilesIsRefused) {
  const std::string path = testing::TempDir() + "vm-discard-test";
  std::ofstream(path) << std::string(2 * page, 'x');
  FileOptions options;
  EXPECT_THROW(GuestMemory::file(path, options)->discard(0, page), AccessViolation);
  options.writable = true;
  const auto memory = GuestMemory::file(path, options);
  EXPECT_THROW(memory->discard(0, page), NotSupported);
  memory->add(*GuestMemory::anonymous(page, 2 * page));
  EXPECT_THROW(memory->discard(page, 2 * page), NotSupported);
  EXPECT_EQ(bytes(*memory, 0, 1)[0], std::byte{'x'});
  std::remove(path.c_str());
}

TEST(DiscardOf, LazyPagesIsRefused) {
  if (const auto reason = LazyMemory::unavailable()) GTEST_SKIP() << *reason;
  const auto file = GuestMemory::anonymous(size);
  LazyMemory lazy(size, memory_source(file, 0));
  EXPECT_THROW(lazy.memory()->discard(0, page), NotSupported);
}

TEST(DiscardOf, ReservedHugePagesGoesByTheirSize) {
  constexpr std::uint64_t huge = 2 << 20;
  std::shared_ptr<GuestMemory> memory;
  try {
    memory = GuestMemory::anonymous(2 * huge, 0, HugePages::size_2m);
  } catch (const VmError& error) {
    GTEST_SKIP() << error.what();
  }
  fill(*memory, 0, 2 * huge);
  EXPECT_THROW(memory->discard(0, page), InvalidConfig);
  memory->discard(huge, huge);
  EXPECT_EQ(bytes(*memory, huge, 1)[0], std::byte{0});
}

}  // namespace
}  // namespace vm::mem
