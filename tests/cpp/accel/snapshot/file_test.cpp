// Files of snapshots: what comes out is what went in, and what is damaged stays out.

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "guest.hpp"
#include "vm/accel/snapshot/snapshot.hpp"

namespace vm::accel {
namespace {

namespace fs = std::filesystem;

class SnapshotFileTest : public GuestTest {
 protected:
  void SetUp() override {
    GuestTest::SetUp();
    if (IsSkipped()) return;
    folder_ = fs::temp_directory_path() /
              ("vm-snapshot-test-" + std::to_string(::testing::UnitTest::GetInstance()->random_seed()) + "-" +
               ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
    path_ = (folder_ / "guest.snapshot").string();
    vm_->map(*memory_);
    vcpu_ = vcpu_with(write_pages);
    run(*vcpu_, 3);
    const std::vector<std::uint8_t> noise(page, 0xA5);
    for (std::uint64_t i = 100; i < 120; i += 2) memory_->write(i * page, noise.data(), page);
    snapshot_ = Snapshot::take(*vm_);
    snapshot_->save(path_);
    after_ = run(*vcpu_, 5);
  }
  void TearDown() override { fs::remove_all(folder_); }

  static std::vector<char> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static void write_file(const std::string& path, const std::vector<char>& bytes) {
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  void expect_refused(const std::vector<char>& bytes, const std::string& what) {
    const std::string path = (folder_ / "damaged").string();
    write_file(path, bytes);
    try {
      Snapshot::load(path);
      ADD_FAILURE() << what << " was accepted";
    } catch (const InvalidConfig& error) {
      EXPECT_NE(std::string(error.what()).find("at offset 0x"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
    }
  }

  fs::path folder_;
  std::string path_;
  std::shared_ptr<Vcpu> vcpu_;
  std::vector<int> after_;
  std::shared_ptr<Snapshot> snapshot_;
};

TEST_F(SnapshotFileTest, WhatComesOutIsWhatWentIn) {
  const auto loaded = Snapshot::load(path_);
  EXPECT_EQ(loaded->parts().backend, "kvm");
  EXPECT_EQ(loaded->parts().vm_state, snapshot_->parts().vm_state);
  ASSERT_EQ(loaded->parts().vcpus.size(), 1U);
  EXPECT_EQ(loaded->parts().vcpus[0].state, snapshot_->parts().vcpus[0].state);
  EXPECT_EQ(loaded->parts().memory->present(), snapshot_->parts().memory->present());
  const auto vm = loaded->clone(*hypervisor_);
  EXPECT_EQ(run(*vm->vcpus()[0], 5), after_);
  EXPECT_TRUE(loaded->restore(*vm_).compared);  // the VM it was taken from, but another snapshot object
  EXPECT_EQ(run(*vm_->vcpus()[0], 5), after_);
  snapshot_->restore(*vm_);
  loaded->restore(*vm);
  EXPECT_EQ(bytes_of(*vm), bytes_of(*vm_));
  const std::string again = (folder_ / "again").string();
  loaded->save(again);
  EXPECT_EQ(read_file(again), read_file(path_));
}

TEST_F(SnapshotFileTest, ZerosTakeNoRoom) {
  const std::uint64_t pages = snapshot_->parts().memory->present_pages();
  EXPECT_LT(pages, 20U);
  EXPECT_LT(fs::file_size(path_), (pages + 16) * page);
}

TEST_F(SnapshotFileTest, MoreMemoryThanOneBlock) {
  const auto vm = hypervisor_->create_vm();
  constexpr std::uint64_t pages = 700;
  const auto memory = mem::GuestMemory::anonymous(pages * page);
  for (std::uint64_t i = 0; i < pages; i += 1 + i % 3) memory->write(i * page + i, &i, sizeof i);
  vm->map(*memory);
  const auto before = Snapshot::take(*vm);
  before->save(path_);
  const auto loaded = Snapshot::load(path_);
  ASSERT_EQ(loaded->parts().memory->present(), before->parts().memory->present());
  const auto child = loaded->clone(*hypervisor_);
  std::vector<char> expected(pages * page);
  std::vector<char> found(pages * page);
  memory->read(0, expected.data(), expected.size());
  child->memory()->read(0, found.data(), found.size());
  EXPECT_EQ(found, expected);
}

TEST_F(SnapshotFileTest, EveryByteIsChecked) {
  const std::vector<char> good = read_file(path_);
  std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
  const auto put = [&](std::size_t at, char byte) {
    file.seekp(static_cast<std::streamoff>(at));
    file.put(byte).flush();
  };
  // All of header and table, then samples that hit every section and every page.
  for (std::size_t at = 0; at < good.size(); at += at < 600 ? 1 : 509) {
    put(at, static_cast<char>(good[at] ^ 0x10));
    try {
      Snapshot::load(path_);
      FAIL() << "a flipped bit at " << at << " was accepted";
    } catch (const InvalidConfig& error) {
      ASSERT_NE(std::string(error.what()).find("at offset 0x"), std::string::npos) << error.what();
    }
    put(at, good[at]);
  }
  EXPECT_NO_THROW(Snapshot::load(path_));
}

TEST_F(SnapshotFileTest, PartsOfAFileAreRefused) {
  const std::vector<char> good = read_file(path_);
  for (const std::size_t length :
       {std::size_t{0}, std::size_t{63}, std::size_t{64}, std::size_t{200}, good.size() / 2, good.size() - 1}) {
    expect_refused({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length)}, "a cut");
  }
  std::vector<char> longer = good;
  longer.push_back(0);
  expect_refused(longer, "a byte more");
  EXPECT_THROW(Snapshot::load((folder_ / "absent").string()), PlatformError);
}

TEST_F(SnapshotFileTest, AFileIsReplacedAsAWhole) {
  const std::vector<char> good = read_file(path_);
  snapshot_->restore(*vm_);
  Snapshot::take(*vm_)->save(path_);
  EXPECT_EQ(read_file(path_).size(), good.size());
  EXPECT_THROW(snapshot_->save(folder_.string()), InvalidConfig);
  EXPECT_THROW(snapshot_->save((folder_ / "no" / "folder").string()), PlatformError);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

/// CRC-32C bit by bit, from its definition.
std::uint32_t slow_crc32c(const char* bytes, std::size_t size) {
  std::uint32_t crc = ~0U;
  for (std::size_t i = 0; i < size; ++i) {
    crc ^= static_cast<std::uint8_t>(bytes[i]);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78U : 0U);
  }
  return ~crc;
}

TEST_F(SnapshotFileTest, ChecksumsAreCrc32c) {
  const std::vector<char> good = read_file(path_);
  EXPECT_EQ(slow_crc32c("123456789", 9), 0xE3069283U);  // RFC 3720's check value
  std::uint32_t stored = 0;
  std::memcpy(&stored, &good[60], 4);
  EXPECT_EQ(stored, slow_crc32c(good.data(), 60));
  std::uint32_t sections = 0;
  std::memcpy(&sections, &good[24], 4);
  std::memcpy(&stored, &good[28], 4);
  EXPECT_EQ(stored, slow_crc32c(&good[64], sections * 32));
}

}  // namespace
}  // namespace vm::accel
