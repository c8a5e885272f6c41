// Many VMs from one moment, and VMs that come and go.

#include <dirent.h>
#include <unistd.h>

#include <fstream>

#include "guest.hpp"
#include "vm/accel/snapshot/snapshot.hpp"

namespace vm::accel {
namespace {

using CloneTest = GuestTest;

TEST_F(CloneTest, AForkAndItsParentDoNotSeeEachOther) {
  vm_->map(*memory_);
  const auto vcpu = vcpu_with(write_pages);
  run(*vcpu, 3);
  const auto at_fork = bytes_of(*vm_);
  const auto child = fork(*vm_);
  ASSERT_EQ(child->vcpus().size(), 1U);
  EXPECT_EQ(bytes_of(*child), at_fork);
  EXPECT_EQ(run(*vcpu, 5), (std::vector<int>{4, 5, 6, 7, 8}));
  EXPECT_EQ(bytes_of(*child), at_fork);
  memory_->write(0x8000, "parent", 6);
  child->memory()->write(0x9000, "child", 5);
  const auto of_parent = bytes_of(*vm_);
  EXPECT_EQ(run(*child->vcpus()[0], 5), (std::vector<int>{4, 5, 6, 7, 8}));
  EXPECT_EQ(bytes_of(*vm_), of_parent);
  EXPECT_EQ(bytes_of(*child)[0x8000], 0);
  EXPECT_EQ(of_parent[0x9000], 0);
}

TEST_F(CloneTest, ClonesOutliveWhatTheyCameFrom) {
  vm_->map(*memory_);
  auto vcpu = vcpu_with(write_pages);
  run(*vcpu, 3);
  auto snapshot = Snapshot::take(*vm_);
  const auto before = bytes_of(*vm_);
  const auto first = snapshot->clone(*hypervisor_);
  const auto second = snapshot->clone(*hypervisor_);
  const auto of_clone = fork(*first);
  const auto without_vm = snapshot->clone(*hypervisor_)->vcpus();  // they keep the machine, not the object
  vm_->close();
  vcpu.reset();
  memory_.reset();
  const std::weak_ptr<Snapshot> gone = snapshot;
  snapshot.reset();
  EXPECT_TRUE(gone.expired());
  EXPECT_EQ(run(*first->vcpus()[0], 4), (std::vector<int>{4, 5, 6, 7}));
  EXPECT_EQ(bytes_of(*second), before);
  EXPECT_EQ(bytes_of(*of_clone), before);
  EXPECT_EQ(run(*second->vcpus()[0], 2), (std::vector<int>{4, 5}));
  EXPECT_EQ(run(*without_vm[0], 2), (std::vector<int>{4, 5}));
  hypervisor_->close();
  EXPECT_TRUE(first->closed());
}

TEST_F(CloneTest, AllClonesGoBackToOneSnapshot) {
  vm_->map(*memory_);
  const auto vcpu = vcpu_with(write_pages);
  const auto snapshot = Snapshot::take(*vm_, false);
  EXPECT_FALSE(vm_->slots()[0].flags.log_dirty);
  const auto before = bytes_of(*vm_);
  std::vector<std::shared_ptr<Vm>> clones;
  for (int i = 0; i < 3; ++i) clones.push_back(snapshot->clone(*hypervisor_));
  for (int i = 0; i < 3; ++i) run(*clones[static_cast<std::size_t>(i)]->vcpus()[0], i);
  for (int i = 0; i < 3; ++i) {
    Vm& clone = *clones[static_cast<std::size_t>(i)];
    const RestoreResult result = snapshot->restore(clone);
    EXPECT_EQ(result.pages, static_cast<std::uint64_t>(i));
    EXPECT_FALSE(result.compared);
    EXPECT_EQ(bytes_of(clone), before);
  }
  const auto untracked = snapshot->clone(*hypervisor_, false);
  run(*untracked->vcpus()[0], 2);
  EXPECT_TRUE(snapshot->restore(*untracked).compared);
  EXPECT_EQ(bytes_of(*untracked), before);
}

TEST_F(CloneTest, SlotsKeepTheirKindAndWhatTheyShare) {
  vm_->map(*memory_);
  vm_->map(*memory_, {true, false}, 0x4000'0000);  // the same memory again, read-only
  const auto rom = mem::GuestMemory::anonymous(page, 0x8000'0000);
  rom->write(0x8000'0000, "rom", 3);
  vm_->map(*rom, {true, false});
  const auto vcpu = vcpu_with(write_pages);
  const auto child = Snapshot::take(*vm_)->clone(*hypervisor_);
  const auto slots = child->slots();
  ASSERT_EQ(slots.size(), 3U);
  EXPECT_EQ(slots[0].host, slots[1].host);
  EXPECT_FALSE(slots[0].flags.read_only);
  EXPECT_TRUE(slots[1].flags.read_only);
  EXPECT_TRUE(slots[2].flags.read_only);
  EXPECT_EQ(*reinterpret_cast<const char*>(slots[2].host), 'r');
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return count;
}

std::uint64_t resident_bytes() {
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

TEST_F(CloneTest, VmsComeAndGoWithoutATrace) {
  constexpr int cycles = 1'000;
  const auto cycle = [&] {
    const auto vm = hypervisor_->create_vm();
    vm->map(*memory_);
    const auto vcpu = vm->create_vcpu();
    vm->close();
  };
  for (int i = 0; i < 50; ++i) cycle();
  const std::size_t descriptors = open_descriptors();
  const std::uint64_t resident = resident_bytes();
  for (int i = 0; i < cycles; ++i) cycle();
  EXPECT_EQ(open_descriptors(), descriptors);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they keep freed memory for a while
  EXPECT_LT(resident_bytes(), resident + (std::uint64_t{4} << 20));  // a leak of one 4 KiB page a VM would be as much
#else
  static_cast<void>(resident);
#endif
}

}  // namespace
}  // namespace vm::accel
