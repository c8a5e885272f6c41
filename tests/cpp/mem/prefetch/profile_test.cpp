// Profiles: recorded, saved, loaded, and files that lie.

#include "vm/mem/prefetch/profile.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "support.hpp"
#include "vm/core/error.hpp"

namespace {

using namespace vm::mem::prefetch;
using namespace vm::mem::prefetch::test;

class PrefetchProfileFile : public testing::Test {
 protected:
  ~PrefetchProfileFile() override { std::remove(path_.c_str()); }

  void write(const std::string& bytes) const {
    std::ofstream(path_, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  std::string read() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void expect_refused(const std::string& bytes, const std::string& why) const {
    write(bytes);
    try {
      Profile::load(path_);
      ADD_FAILURE() << "loaded: " << why;
    } catch (const vm::InvalidConfig& error) {
      EXPECT_NE(std::string(error.what()).find(why), std::string::npos) << error.what();
    }
  }

  std::string path_ = testing::TempDir() + "vm_profile_" + std::to_string(getpid());
};

TEST(PrefetchProfile, SortsByHeat) {
  Profile profile;
  for (const std::uint64_t page : {9U, 3U, 9U, 5U, 3U, 9U, 4U}) profile.record(page);
  EXPECT_EQ(profile.pages(), (Pages{9, 3, 4, 5}));
  EXPECT_EQ(profile.pages(2), (Pages{9, 3}));
  EXPECT_EQ(profile.pages(0), Pages{});
  EXPECT_EQ(profile.count(9), 3U);
  EXPECT_EQ(profile.count(10), 0U);
  EXPECT_EQ(profile.size(), 4U);
}

TEST(PrefetchProfile, SaturatesItsCounts) {
  Profile profile;
  profile.record(1, UINT64_MAX);
  profile.record(1);
  EXPECT_EQ(profile.count(1), UINT64_MAX);
  profile.record(2, 0);
  EXPECT_EQ(profile.size(), 1U);
}

TEST(PrefetchProfile, DropsPagesThatCannotExist) {
  Profile profile(21);
  profile.record(max_page >> 9);
  profile.record((max_page >> 9) + 1, 5);
  EXPECT_EQ(profile.size(), 1U);
  EXPECT_EQ(profile.dropped(), 5U);
}

TEST(PrefetchProfile, ComesFromARange) {
  EXPECT_EQ(Profile::from_range(0x1FFF, 2).pages(), (Pages{1, 2}));
  EXPECT_EQ(Profile::from_range(0x1000, 0x1000).pages(), (Pages{1}));
  EXPECT_EQ(Profile::from_range(0x1000, 0).size(), 0U);
  EXPECT_EQ(Profile::from_range(UINT64_MAX, 1).pages(), (Pages{max_page}));
  EXPECT_EQ(Profile::from_range(0x40'0000, 0x40'0000, 21).pages(), (Pages{2, 3}));
  EXPECT_THROW(Profile::from_range(UINT64_MAX, 2), vm::InvalidConfig);
  EXPECT_THROW(Profile::from_range(0, UINT64_MAX), vm::InvalidConfig);
  EXPECT_THROW(Profile(11), vm::InvalidConfig);
  EXPECT_THROW(Profile(31), vm::InvalidConfig);
}

TEST_F(PrefetchProfileFile, ComesBack) {
  Profile profile(14);
  for (const std::uint64_t page : random_pages(10000)) profile.record(page >> 2);
  profile.record(0, 7);
  profile.record(max_page >> 2, UINT64_MAX);
  profile.save(path_);
  const Profile loaded = Profile::load(path_);
  EXPECT_EQ(loaded.page_shift(), 14U);
  EXPECT_EQ(loaded.pages(), profile.pages());
  EXPECT_EQ(loaded.count(0), 7U);
  EXPECT_EQ(loaded.count(max_page >> 2), UINT64_MAX);
}

TEST_F(PrefetchProfileFile, MayBeEmpty) {
  Profile().save(path_);
  EXPECT_EQ(read().size(), 24U);
  EXPECT_EQ(Profile::load(path_).size(), 0U);
}

TEST_F(PrefetchProfileFile, IsLittleEndian) {
  Profile profile;
  profile.record(0x010203, 4);
  profile.save(path_);
  const std::string expected("VMPAGES1\x0C\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\3\2\1\0\0\0\0\0\4\0\0\0\0\0\0\0", 40);
  EXPECT_EQ(read(), expected);
}

TEST_F(PrefetchProfileFile, IsRefusedWhenItLies) {
  Profile profile;
  for (std::uint64_t page = 1; page < 4; ++page) profile.record(page);
  profile.save(path_);
  const std::string good = read();
  for (std::size_t size = 0; size < good.size(); ++size) {
    write(good.substr(0, size));
    EXPECT_THROW(Profile::load(path_), vm::InvalidConfig) << size;
  }
  const auto changed = [&](std::size_t at, char value) {
    std::string bytes = good;
    bytes[at] = value;
    return bytes;
  };
  expect_refused(good + "x", "damaged");
  expect_refused(changed(0, 'X'), "does not begin with VMPAGES1");
  expect_refused(changed(8, 11), "page_shift 11");
  expect_refused(changed(8, 31), "page_shift 31");
  expect_refused(changed(12, 1), "reserved 0x1");
  expect_refused(changed(16, 4), "claims 4 pages");
  expect_refused(changed(23, '\x10'), "at most 4194304 are allowed");  // times 16 it would wrap to the file's size
  expect_refused(changed(24, 2), "record 1 is page 0x2");
  expect_refused(changed(46, 0x20), "record 1 is page 0x20000000000002");
  expect_refused(changed(32, 0), "seen 0 times");
}

TEST_F(PrefetchProfileFile, NamesWhatTheSystemRefuses) {
  EXPECT_THROW(Profile::load(path_ + "/none"), vm::PlatformError);
  EXPECT_THROW(Profile().save(path_ + "/none"), vm::PlatformError);
}

}  // namespace
