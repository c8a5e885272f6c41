// Saving: every format gives back the same memory, zeros stay holes, and a failure leaves nothing behind.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stdexcept>

#include "support.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::mem {
namespace {

using test::Bytes;
using test::elf_core;
using test::mentions;
using test::message_of;
using test::note;
using test::pattern;
using test::TemporaryDirectory;

constexpr std::uint64_t mib = std::uint64_t{1} << 20;
constexpr std::uint64_t gib = std::uint64_t{1} << 30;
constexpr std::uint32_t note_segment = 4;

Bytes read(const GuestMemory& memory, std::uint64_t paddr, std::size_t size) {
  Bytes bytes(size);
  memory.read(paddr, bytes.data(), size);
  return bytes;
}

std::uint64_t bytes_on_disk(const std::string& path) {
  struct stat status = {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

/// Two regions with a hole between them, some data at odd places.
std::shared_ptr<GuestMemory> sample() {
  auto memory = GuestMemory::anonymous(0x5003, 0x1000);
  memory->add(*GuestMemory::memfd(3 * mib, 16 * mib));
  const Bytes data = pattern(0x1234);
  memory->write(0x1801, data.data(), data.size());
  memory->write(17 * mib + 3, data.data(), data.size());
  memory->write(19 * mib - 1, data.data(), 1);
  return memory;
}

void expect_same_bytes(const GuestMemory& one, const GuestMemory& other) {
  const auto table = one.table();
  for (const Region& region : table->regions()) {
    EXPECT_EQ(read(one, region.base, region.size), read(other, region.base, region.size)) << region.base;
  }
}

TEST(Save, LimeAndElfKeepRegionsAndBytes) {
  const TemporaryDirectory directory;
  const auto memory = sample();
  for (const ImageFormat format : {ImageFormat::lime, ImageFormat::elf}) {
    memory->save(directory.path("saved"), format);
    const auto again = GuestMemory::open(directory.path("saved"));
    EXPECT_EQ(again->format(), format == ImageFormat::lime ? "lime" : "elf");
    const auto regions = again->table()->regions();
    ASSERT_EQ(regions.size(), 2U);
    EXPECT_EQ(regions[0].base, 0x1000U);
    EXPECT_EQ(regions[0].size, 0x5003U);
    EXPECT_EQ(regions[1].base, 16 * mib);
    EXPECT_EQ(regions[1].size, 3 * mib);
    expect_same_bytes(*memory, *again);
  }
}

TEST(Save, RawBeginsAtAddressZero) {
  const TemporaryDirectory directory;
  const auto memory = sample();
  memory->save(directory.path("saved"), ImageFormat::raw);
  const auto again = GuestMemory::open(directory.path("saved"));
  EXPECT_EQ(again->size(), 19 * mib);
  expect_same_bytes(*memory, *again);
  EXPECT_EQ(read(*again, 0, 0x1000), Bytes(0x1000));
}

TEST(Save, ElfKeepsTheNotesOfBothClasses) {
  const TemporaryDirectory directory;
  for (const std::size_t word : {8U, 4U}) {
    const Bytes status = note("CORE", 1, pattern(376));
    const std::string path = directory.write(
        "core", elf_core({{0, status, 0, note_segment}, {0x1000, pattern(64)}, {0x3000, pattern(4)}}, 243, word));
    const auto memory = GuestMemory::open(path);
    memory->save(directory.path("saved"), ImageFormat::elf);
    const auto again = GuestMemory::open(directory.path("saved"));
    expect_same_bytes(*memory, *again);
    ASSERT_EQ(again->facts().cpu_states.size(), 1U);
    EXPECT_EQ(again->facts().cpu_states[0].architecture, word == 8 ? "riscv64" : "riscv32");
    EXPECT_EQ(again->facts().cpu_states[0].program_counter(), memory->facts().cpu_states[0].program_counter());
  }
}

TEST(Save, ElfKeepsNotesOfSeveralSegmentsWithPadding) {
  const TemporaryDirectory directory;
  Bytes first = note("CORE", 1, pattern(376, 1));
  first.resize(first.size() + 7);  // too short for a note
  const Bytes second = note("CORE", 1, pattern(376, 2));
  const auto memory = GuestMemory::open(directory.write(
      "core", elf_core({{0, first, 0, note_segment}, {0, second, 0, note_segment}, {0x1000, pattern(64)}}, 243)));
  memory->save(directory.path("saved"), ImageFormat::elf);
  const auto again = GuestMemory::open(directory.path("saved"));
  ASSERT_EQ(again->facts().cpu_states.size(), 2U);
  for (const std::size_t i : {0U, 1U}) {
    EXPECT_EQ(again->facts().cpu_states[i].get("pc"), memory->facts().cpu_states[i].get("pc"));
  }
}

TEST(Save, A32BitCoreCannotGrowBeyond4GiB) {
  const TemporaryDirectory directory;
  const auto memory = GuestMemory::open(directory.write("core", elf_core({{0x1000, pattern(64)}}, 243, 4)));
  memory->add(*GuestMemory::anonymous(0x1000, 4 * gib));
  const auto save = [&] { memory->save(directory.path("saved"), ImageFormat::elf); };
  EXPECT_TRUE(mentions(message_of<InvalidConfig>(save), {"32-bit", "lime or raw"}));
  EXPECT_EQ(directory.file_count(), 1U);
}

TEST(Save, ManyRegionsNeedExtendedNumbering) {
  const TemporaryDirectory directory;
  const auto backing = HostMapping::anonymous(0x1000);
  backing->data()[0] = std::byte{42};
  constexpr std::uint64_t count = 70000;
  std::vector<Region> regions(count);
  for (std::uint64_t i = 0; i < count; ++i) regions[i] = {2 * i, 1, backing->data(), true, "byte", backing};
  const GuestMemory memory(RegionTable(std::move(regions)), ImageFacts());
  memory.save(directory.path("saved"), ImageFormat::elf);
  const auto again = GuestMemory::open(directory.path("saved"));
  EXPECT_EQ(again->table()->regions().size(), count);
  EXPECT_EQ(read(*again, 2 * (count - 1), 1), Bytes(1, std::byte{42}));
}

TEST(Save, ZerosStayHoles) {
  const TemporaryDirectory directory;
  const auto memory = GuestMemory::anonymous(256 * mib);
  memory->add(*GuestMemory::memfd(64 * gib, gib));
  const Bytes data = pattern(100);
  const Bytes zeros(mib);
  memory->write(100 * mib, data.data(), data.size());
  memory->write(120 * mib, zeros.data(), zeros.size());  // touched, but still zeros
  memory->write(50 * gib, data.data(), data.size());
  for (const ImageFormat format : {ImageFormat::raw, ImageFormat::lime, ImageFormat::elf}) {
    const std::string path = directory.path("saved");
    memory->save(path, format);
    EXPECT_LT(bytes_on_disk(path), mib);
    const auto again = GuestMemory::open(path);
    EXPECT_EQ(read(*again, 100 * mib, 100), data);
    EXPECT_EQ(read(*again, 50 * gib, 100), data);
    // A sparse file is saved again without reading its holes.
    again->save(directory.path("copy"), ImageFormat::lime);
    EXPECT_EQ(read(*GuestMemory::open(directory.path("copy")), 50 * gib, 100), data);
  }
}

TEST(Save, FreshWritesIntoAFilesHolesAreNotMissed) {
  // The file system is asked for holes while the written pages are still in the page cache only.
  const TemporaryDirectory directory;
  const std::string path = directory.write("sparse", {});
  ASSERT_EQ(::truncate(path.c_str(), static_cast<off_t>(gib)), 0);
  const auto memory = GuestMemory::open(path, ImageFormat::raw, true);
  const Bytes data = pattern(5000);
  memory->write(700 * mib + 1, data.data(), data.size());
  memory->save(directory.path("saved"), ImageFormat::lime);
  EXPECT_EQ(read(*GuestMemory::open(directory.path("saved")), 700 * mib + 1, data.size()), data);
}

TEST(Save, ReportsProgressUpToTheEnd) {
  const TemporaryDirectory directory;
  const auto memory = GuestMemory::anonymous(100 * mib);
  const Bytes data = pattern(60 * mib);
  memory->write(0, data.data(), data.size());
  std::vector<std::uint64_t> calls;
  memory->save(directory.path("saved"), ImageFormat::raw, [&](std::uint64_t done, std::uint64_t total) {
    EXPECT_EQ(total, 100 * mib);
    EXPECT_TRUE(calls.empty() || done > calls.back());
    calls.push_back(done);
  });
  ASSERT_GE(calls.size(), 4U);
  EXPECT_EQ(calls.back(), 100 * mib);
}

TEST(Save, StoppingLeavesTheOldFileAndNothingElse) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("saved", pattern(8));
  const auto memory = GuestMemory::anonymous(mib);
  const auto stop = [](std::uint64_t, std::uint64_t) { throw std::runtime_error("stop"); };
  EXPECT_THROW(memory->save(path, ImageFormat::raw, stop), std::runtime_error);
  EXPECT_EQ(test::read_file(path), pattern(8));
  EXPECT_EQ(directory.file_count(), 1U);
}

TEST(Save, AnImageCanBeSavedOverItsOwnFile) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("image", pattern(0x3000));
  const auto memory = GuestMemory::open(path);
  memory->save(path, ImageFormat::lime);
  EXPECT_EQ(read(*memory, 0, 0x3000), pattern(0x3000));
  EXPECT_EQ(read(*GuestMemory::open(path), 0, 0x3000), pattern(0x3000));
}

TEST(Save, FollowsLinksAndLeavesOtherThingsAlone) {
  const TemporaryDirectory directory;
  const auto memory = GuestMemory::anonymous(0x1000);
  const std::string target = directory.write("target", pattern(1));
  ASSERT_EQ(::symlink(target.c_str(), directory.path("link").c_str()), 0);
  memory->save(directory.path("link"), ImageFormat::raw);
  EXPECT_EQ(test::read_file(target).size(), 0x1000U);
  EXPECT_THROW(memory->save("/dev/null", ImageFormat::raw), InvalidConfig);
  EXPECT_THROW(memory->save(directory.path(""), ImageFormat::raw), InvalidConfig);
  EXPECT_THROW(memory->save(directory.path("no/such/place"), ImageFormat::raw), PlatformError);
}

TEST(Save, RefusesWhatNoFileCanHold) {
  const TemporaryDirectory directory;
  const auto memory = GuestMemory::anonymous(0x1000, UINT64_MAX - 0xFFF);
  const auto save = [&] { memory->save(directory.path("saved"), ImageFormat::raw); };
  EXPECT_TRUE(mentions(message_of<InvalidConfig>(save), {"0xffffffffffffffff", "lime or elf"}));
  memory->save(directory.path("saved"), ImageFormat::lime);
  EXPECT_EQ(GuestMemory::open(directory.path("saved"))->base(), UINT64_MAX - 0xFFF);
}

}  // namespace
}  // namespace vm::mem
