// Opening by content: raw images, LiME, and the formats that are refused by name.
#include <gtest/gtest.h>
#include <unistd.h>

#include <string_view>

#include "support.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::mem {
namespace {

using test::Builder;
using test::Bytes;
using test::lime_range;
using test::mentions;
using test::message_of;
using test::pattern;
using test::TemporaryDirectory;

class Images : public ::testing::Test {
 protected:
  std::shared_ptr<GuestMemory> open(const Bytes& content, ImageFormat format = ImageFormat::automatic) {
    return GuestMemory::open(directory_.write("image", content), format);
  }
  std::string refusal(const Bytes& content, ImageFormat format = ImageFormat::automatic) {
    return message_of<InvalidConfig>([&] { open(content, format); });
  }

  TemporaryDirectory directory_;
};

Bytes read(const GuestMemory& memory, std::uint64_t paddr, std::size_t size) {
  Bytes bytes(size);
  memory.read(paddr, bytes.data(), size);
  return bytes;
}

using RawImages = Images;
using LimeImages = Images;
using ForeignImages = Images;

TEST_F(RawImages, AnythingElseIsRaw) {
  const Bytes content = pattern(0x1801);
  const auto memory = open(content);
  EXPECT_EQ(memory->format(), "raw");
  EXPECT_EQ(memory->base(), 0U);
  EXPECT_EQ(memory->size(), 0x1801U);
  EXPECT_EQ(read(*memory, 0, 0x1801), content);
  EXPECT_TRUE(memory->facts().cpu_states.empty());
  std::byte byte{};
  EXPECT_THROW(memory->write(0, &byte, 1), AccessViolation);
}

TEST_F(RawImages, OneByteIsAnImageAndNoneIsNot) {
  EXPECT_EQ(open(Bytes(1))->size(), 1U);
  EXPECT_TRUE(mentions(refusal({}), {"empty"}));
}

TEST_F(RawImages, WritableImagesChangeTheirFile) {
  const std::string path = directory_.write("raw", Bytes(0x1000));
  const Bytes data = pattern(16);
  GuestMemory::open(path, ImageFormat::raw, true)->write(0x20, data.data(), data.size());
  EXPECT_EQ(read(*GuestMemory::open(path), 0x20, 16), data);
}

TEST_F(RawImages, A64GigabyteSparseFileOpens) {
  const std::string path = directory_.write("sparse", {});
  const std::uint64_t size = std::uint64_t{64} << 30;
  ASSERT_EQ(::truncate(path.c_str(), static_cast<off_t>(size)), 0);
  const auto memory = GuestMemory::open(path);
  EXPECT_EQ(memory->size(), size);
  EXPECT_EQ(read(*memory, size - 8, 8), Bytes(8));
}

TEST_F(LimeImages, RangesKeepTheirAddressesAndHoles) {
  const Bytes low = pattern(0x1000, 1);
  const Bytes high = pattern(0x801, 2);
  const auto memory =
      open(Builder().raw(lime_range(0x1000, 0x1FFF, low)).raw(lime_range(0x100000000, 0x100000800, high)).bytes());
  EXPECT_EQ(memory->format(), "lime");
  ASSERT_EQ(memory->table()->regions().size(), 2U);
  EXPECT_EQ(read(*memory, 0x1000, 0x1000), low);
  EXPECT_EQ(read(*memory, 0x100000000, 0x801), high);
  EXPECT_THROW(read(*memory, 0x100000801, 1), OutOfRange);
  EXPECT_THROW(read(*memory, 0xFFF, 1), OutOfRange);
}

TEST_F(LimeImages, RangesMayComeInAnyOrder) {
  const auto memory =
      open(Builder().raw(lime_range(0x5000, 0x5003, pattern(4, 1))).raw(lime_range(0, 3, pattern(4, 2))).bytes());
  EXPECT_EQ(read(*memory, 0x5000, 4), pattern(4, 1));
  EXPECT_EQ(read(*memory, 0, 4), pattern(4, 2));
}

TEST_F(LimeImages, TheLastAddressOfAllCanBeInARange) {
  EXPECT_EQ(open(lime_range(UINT64_MAX - 3, UINT64_MAX, pattern(4)))->base(), UINT64_MAX - 3);
}

TEST_F(LimeImages, TruncationIsToldWithItsPlace) {
  EXPECT_TRUE(
      mentions(refusal(lime_range(0x1000, 0x1FFF, pattern(0xFFF))), {"file offset 0x0", "0x1000 bytes", "0xfff"}));
  const Bytes second = Builder().raw(lime_range(0, 15, pattern(16))).raw(Bytes(31)).bytes();
  EXPECT_TRUE(mentions(refusal(second), {"file offset 0x30", "truncated"}));
  EXPECT_TRUE(mentions(refusal(pattern(16), ImageFormat::lime), {"file offset 0x0", "truncated"}));
}

TEST_F(LimeImages, LyingHeadersAreRefused) {
  EXPECT_TRUE(mentions(refusal(lime_range(0x1000, 0xFFF, {})), {"0x1000 to 0xfff"}));
  EXPECT_TRUE(mentions(refusal(lime_range(0, UINT64_MAX, pattern(8))), {"0x0 to 0xffffffffffffffff"}));
  EXPECT_TRUE(mentions(refusal(lime_range(1, UINT64_MAX, pattern(8))), {"truncated"}));
  EXPECT_TRUE(mentions(refusal(lime_range(0, 7, pattern(8), 2)), {"version 2"}));
  const Bytes garbage = Builder().raw(lime_range(0, 7, pattern(8))).raw(pattern(40)).bytes();
  EXPECT_TRUE(mentions(refusal(garbage), {"file offset 0x28", "instead of 0x4c694d45"}));
  EXPECT_TRUE(mentions(refusal(pattern(64), ImageFormat::lime), {"instead of 0x4c694d45"}));
}

TEST_F(LimeImages, OverlapsAreRefusedEvenWithEqualBytes) {
  const Bytes content = Builder().raw(lime_range(0, 0xF, Bytes(16))).raw(lime_range(0xF, 0x1E, Bytes(16))).bytes();
  EXPECT_TRUE(mentions(refusal(content), {"file offset 0x30", "0xf-0x1e", "0x0-0xf", "overlap"}));
}

TEST_F(ForeignImages, AreRefusedByName) {
  using std::string_view_literals::operator""sv;
  struct Case {
    std::string_view begin;
    const char* name;
  };
  for (const Case& c :
       {Case{"KDUMP   "sv, "kdump"}, Case{"makedumpfile\0\0\0\0"sv, "flattened kdump"},
        Case{"PAGEDU64"sv, "64-bit Windows crash dump"}, Case{"PAGEDUMP"sv, "32-bit Windows crash dump"},
        Case{"AVML\x02\0\0\0"sv, "avml-convert"}, Case{"\xD2\xBE\xD2\xBE"sv, ".vmem"}, Case{"hibr"sv, "hibernation"},
        Case{"\x1F\x8B\x08\0"sv, "decompress"}}) {
    const Bytes content = Builder().raw(test::text(std::string(c.begin))).zeros(8192).bytes();
    EXPECT_TRUE(mentions(message_of<NotSupported>([&] { open(content); }), {c.name, "format=\"raw\""}));
    EXPECT_EQ(open(content, ImageFormat::raw)->size(), content.size());
  }
  const Bytes swap = Builder().zeros(4086).raw(test::text("S1SUSPEND")).zeros(4096).bytes();
  EXPECT_TRUE(mentions(message_of<NotSupported>([&] { open(swap); }), {"Linux hibernation"}));
}

TEST(ImageFormatNames, AreParsedOrRefused) {
  EXPECT_EQ(parse_image_format("raw"), ImageFormat::raw);
  EXPECT_EQ(parse_image_format("lime"), ImageFormat::lime);
  EXPECT_EQ(parse_image_format("elf"), ImageFormat::elf);
  EXPECT_TRUE(mentions(message_of<InvalidConfig>([] { parse_image_format("vmdk"); }), {"vmdk", "raw, lime or elf"}));
}

}  // namespace
}  // namespace vm::mem
