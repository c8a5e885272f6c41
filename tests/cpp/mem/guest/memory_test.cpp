// GuestMemory: reading and writing over borders, views, sharing, backings, life and death.
#include "vm/mem/guest/memory.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "support.hpp"
#include "vm/core/error.hpp"

namespace vm::mem {
namespace {

using test::Bytes;
using test::mentions;
using test::message_of;
using test::pattern;
using test::TemporaryDirectory;

constexpr std::uint64_t mib = std::uint64_t{1} << 20;
constexpr std::uint64_t gib = std::uint64_t{1} << 30;

Bytes read(const GuestMemory& memory, std::uint64_t paddr, std::size_t size) {
  Bytes bytes(size);
  memory.read(paddr, bytes.data(), size);
  return bytes;
}

TEST(GuestMemory, AnonymousBeginsAsZerosAndKeepsWhatIsWritten) {
  const auto memory = GuestMemory::anonymous(mib, 0x1000);
  EXPECT_EQ(read(*memory, 0x1000, 64), Bytes(64));
  const Bytes data = pattern(300);
  memory->write(0x2FF0, data.data(), data.size());
  EXPECT_EQ(read(*memory, 0x2FF0, data.size()), data);
  EXPECT_EQ(memory->size(), mib);
  EXPECT_EQ(memory->base(), 0x1000U);
  EXPECT_EQ(memory->format(), "anonymous");
}

TEST(GuestMemory, SizeNeedNotBeWholePages) {
  const auto memory = GuestMemory::anonymous(100);
  EXPECT_EQ(read(*memory, 99, 1), Bytes(1));
  EXPECT_THROW(read(*memory, 99, 2), OutOfRange);
}

TEST(GuestMemory, ReadsAndWritesCrossRegions) {
  const auto memory = GuestMemory::anonymous(0x1000, 0);
  memory->add(*GuestMemory::anonymous(0x1000, 0x1000));
  memory->add(*GuestMemory::memfd(0x1000, 0x2000));
  const Bytes data = pattern(0x1800);
  memory->write(0xC00, data.data(), data.size());
  EXPECT_EQ(read(*memory, 0xC00, data.size()), data);
  EXPECT_EQ(read(*memory, 0x1000, 0x10), Bytes(data.begin() + 0x400, data.begin() + 0x410));
}

TEST(GuestMemory, NothingIsWrittenWhenTheRangeHasAHole) {
  const auto memory = GuestMemory::anonymous(0x1000, 0);
  memory->add(*GuestMemory::anonymous(0x1000, 0x2000));
  const Bytes data = pattern(0x3000);
  EXPECT_TRUE(mentions(message_of<OutOfRange>([&] { memory->write(0, data.data(), data.size()); }), {"0x1000-0x1fff"}));
  EXPECT_EQ(read(*memory, 0, 0x1000), Bytes(0x1000));
}

TEST(GuestMemory, NothingIsWrittenWhenPartIsReadOnly) {
  const TemporaryDirectory directory;
  const auto memory = GuestMemory::anonymous(0x1000, 0);
  const Bytes content = pattern(0x1000, 3);
  FileOptions options;
  options.base = 0x1000;
  memory->add(*GuestMemory::file(directory.write("part", content), options));
  const Bytes data = pattern(0x20);
  EXPECT_THROW(memory->write(0xFF0, data.data(), data.size()), AccessViolation);
  EXPECT_EQ(read(*memory, 0xFF0, 0x10), Bytes(0x10));
  EXPECT_EQ(read(*memory, 0x1000, 0x10), Bytes(content.begin(), content.begin() + 0x10));
}

TEST(GuestMemory, ZeroBytesAreFineAnywhere) {
  const auto memory = GuestMemory::anonymous(0x1000, 0x1000);
  memory->read(0, nullptr, 0);
  memory->write(UINT64_MAX, nullptr, 0);
  EXPECT_EQ(memory->view(0, 0).host, nullptr);
}

TEST(GuestMemory, ViewsOutliveTheMemory) {
  auto memory = GuestMemory::anonymous(0x1000);
  const HostView view = memory->view(0x10, 0x20);
  EXPECT_TRUE(view.writable);
  memory->close();
  memory.reset();
  std::memset(view.host, 7, 0x20);
  EXPECT_EQ(view.host[0x1F], std::byte{7});
}

TEST(GuestMemory, AViewLiesInOneRegion) {
  const auto memory = GuestMemory::anonymous(0x1000, 0);
  memory->add(*GuestMemory::anonymous(0x1000, 0x1000));
  EXPECT_TRUE(mentions(message_of<OutOfRange>([&] { memory->view(0xFFF, 2); }), {"crosses", "0x1000"}));
  EXPECT_TRUE(mentions(message_of<OutOfRange>([&] { memory->view(0x1FFF, 2); }), {"no guest memory"}));
}

TEST(GuestMemory, AddSharesHostMemoryAndRefusesOverlaps) {
  const auto one = GuestMemory::anonymous(0x1000, 0);
  const auto two = GuestMemory::anonymous(0x1000, 0x4000);
  const std::uint64_t before = one->generation();
  one->add(*two);
  EXPECT_NE(one->generation(), before);
  const Bytes data = pattern(8);
  two->write(0x4000, data.data(), data.size());
  EXPECT_EQ(read(*one, 0x4000, 8), data);
  two->close();
  EXPECT_EQ(read(*one, 0x4000, 8), data);
  EXPECT_THROW(one->add(*one), InvalidConfig);
  EXPECT_THROW(one->add(*two), ClosedError);
  EXPECT_EQ(one->table()->regions().size(), 2U);
}

TEST(GuestMemory, CloseIsFinalAndMayBeRepeated) {
  const auto memory = GuestMemory::anonymous(0x1000);
  const auto table = memory->table();
  const std::uint64_t generation = memory->generation();
  memory->close();
  memory->close();
  EXPECT_TRUE(memory->closed());
  EXPECT_NE(memory->generation(), generation);
  std::byte byte{};
  EXPECT_THROW(memory->read(0, &byte, 1), ClosedError);
  EXPECT_THROW(memory->write(0, &byte, 1), ClosedError);
  EXPECT_THROW(memory->view(0, 1), ClosedError);
  EXPECT_THROW(memory->size(), ClosedError);
  EXPECT_THROW(memory->add(*GuestMemory::anonymous(1)), ClosedError);
  EXPECT_THROW(memory->save("/nonexistent/file", ImageFormat::raw), ClosedError);
  EXPECT_EQ(*table->at(0, 1), std::byte{0});  // the table still keeps its bytes
}

TEST(GuestMemory, RefusesImpossibleSizes) {
  EXPECT_THROW(GuestMemory::anonymous(0), InvalidConfig);
  EXPECT_THROW(GuestMemory::memfd(0), InvalidConfig);
  EXPECT_THROW(GuestMemory::anonymous(0x1000, UINT64_MAX - 0xFFE), InvalidConfig);
  EXPECT_NO_THROW(GuestMemory::anonymous(0x1000, UINT64_MAX - 0xFFF));
  EXPECT_THROW(GuestMemory::anonymous(UINT64_MAX), ResourceExhausted);
  EXPECT_THROW(GuestMemory::anonymous(std::uint64_t{1} << 60), ResourceExhausted);
}

TEST(GuestMemory, MemfdIsSharedThroughItsDescriptor) {
  const auto memory = GuestMemory::memfd(0x2000, 0x10000, "shared");
  void* other = ::mmap(nullptr, 0x2000, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd(), 0);
  ASSERT_NE(other, MAP_FAILED);
  const Bytes data = pattern(16);
  memory->write(0x11000, data.data(), data.size());
  EXPECT_EQ(std::memcmp(static_cast<std::byte*>(other) + 0x1000, data.data(), data.size()), 0);
  ::munmap(other, 0x2000);
  EXPECT_NE(::ftruncate(memory->fd(), 0x1000), 0) << "the size is sealed";
  EXPECT_EQ(::ftruncate(GuestMemory::memfd(0x2000, 0, "open", HugePages::none, false)->fd(), 0x1000), 0);
  EXPECT_THROW(GuestMemory::anonymous(0x1000)->fd(), NotSupported);
}

TEST(GuestMemory, TransparentHugePagesAreAlignedOrRefusedWithTheReason) {
  for (const bool shared : {false, true}) {
    const auto make = [shared] {
      return shared ? GuestMemory::memfd(4 * mib, 0, "huge", HugePages::transparent)
                    : GuestMemory::anonymous(4 * mib, 0, HugePages::transparent);
    };
    std::ifstream file(std::string("/sys/kernel/mm/transparent_hugepage/") + (shared ? "shmem_enabled" : "enabled"));
    std::string choices = "[never]";
    std::getline(file, choices);
    if (choices.find("[never]") != std::string::npos || choices.find("[deny]") != std::string::npos) {
      EXPECT_TRUE(mentions(message_of<NotSupported>(make), {"transparent huge pages"}));
      continue;
    }
    const auto memory = make();
    if (!shared) {
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory->view(0, 1).host) % (2 * mib), 0U);
    }
    const Bytes data = pattern(64);
    memory->write(4 * mib - 64, data.data(), data.size());
    EXPECT_EQ(read(*memory, 4 * mib - 64, 64), data);
  }
}

TEST(GuestMemory, ReservedHugePagesWorkOrSayWhatIsFree) {
  for (const bool shared : {false, true}) {
    try {
      const auto memory = shared ? GuestMemory::memfd(4 * mib, 0, "huge", HugePages::size_2m)
                                 : GuestMemory::anonymous(4 * mib, 0, HugePages::size_2m);
      const Bytes data = pattern(64);
      memory->write(2 * mib, data.data(), data.size());
      EXPECT_EQ(read(*memory, 2 * mib, 64), data);
    } catch (const ResourceExhausted& error) {
      EXPECT_TRUE(mentions(error.what(), {"2 huge pages of 2 MiB wanted", "free of", "nr_hugepages"}));
    } catch (const NotSupported& error) {
      EXPECT_TRUE(mentions(error.what(), {"no huge pages of 2 MiB"}));
    }
  }
  EXPECT_THROW(GuestMemory::anonymous(mib, 0, HugePages::size_2m), InvalidConfig);
  EXPECT_THROW(GuestMemory::memfd(2 * mib, 0, "huge", HugePages::size_1g), InvalidConfig);
  // More than this machine can have: refused at once, not by a signal at the first touch.
  EXPECT_THROW(GuestMemory::anonymous(4096 * gib, 0, HugePages::size_1g), VmError);
}

TEST(GuestMemoryFile, MapsAnyPartAndRefusesWritesUnlessAsked) {
  const TemporaryDirectory directory;
  const Bytes content = pattern(0x3005);
  const std::string path = directory.write("file", content);
  FileOptions options;
  options.base = 0x80000000;
  options.offset = 0x1003;
  const auto memory = GuestMemory::file(path, options);
  EXPECT_EQ(memory->size(), 0x3005U - 0x1003U);
  EXPECT_EQ(read(*memory, 0x80000000, memory->size()), Bytes(content.begin() + 0x1003, content.end()));
  EXPECT_FALSE(memory->view(0x80000000, 1).writable);
  EXPECT_THROW(memory->write(0x80000000, content.data(), 1), AccessViolation);
  options.size = 5;
  EXPECT_EQ(GuestMemory::file(path, options)->size(), 5U);
}

TEST(GuestMemoryFile, WritesReachTheFile) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("file", Bytes(0x2000));
  FileOptions options;
  options.writable = true;
  options.offset = 0x800;
  const Bytes data = pattern(100);
  GuestMemory::file(path, options)->write(0x10, data.data(), data.size());
  const Bytes content = test::read_file(path);
  EXPECT_EQ(Bytes(content.begin() + 0x810, content.begin() + 0x810 + 100), data);
}

TEST(GuestMemoryFile, ChecksTheFilesSize) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("file", Bytes(0x1000));
  const auto with = [&](std::uint64_t offset, std::optional<std::uint64_t> size) {
    FileOptions options;
    options.offset = offset;
    options.size = size;
    return [=] { GuestMemory::file(path, options); };
  };
  EXPECT_TRUE(mentions(message_of<InvalidConfig>(with(0x1000, {})), {"0x1000 bytes", "nothing to map"}));
  EXPECT_THROW(with(1, 0x1000)(), InvalidConfig);
  EXPECT_THROW(with(1, UINT64_MAX)(), InvalidConfig);
  EXPECT_THROW(with(UINT64_MAX, {})(), InvalidConfig);
  EXPECT_THROW(with(0, 0)(), InvalidConfig);
}

TEST(GuestMemoryFile, SaysWhyAFileCannotBeOpened) {
  const TemporaryDirectory directory;
  const std::string missing = directory.path("missing");
  EXPECT_TRUE(mentions(message_of<PlatformError>([&] { GuestMemory::file(missing); }), {"missing", "No such file"}));
  EXPECT_THROW(GuestMemory::open("/dev/null"), NotSupported);
  EXPECT_THROW(GuestMemory::open(directory.path("")), NotSupported);
  try {
    GuestMemory::open(missing);
  } catch (const PlatformError& error) {
    EXPECT_EQ(error.code(), ENOENT);
  }
}

}  // namespace
}  // namespace vm::mem
