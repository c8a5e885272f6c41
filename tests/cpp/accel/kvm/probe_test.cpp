#include "vm/accel/kvm/probe.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

#if defined(__linux__)
#include <linux/kvm.h>
#endif

namespace vm::accel {
namespace {

TEST(KvmCapabilities, NamesAndNumbersAreUniqueAndSorted) {
  const auto& list = kvm_capabilities();
  ASSERT_FALSE(list.empty());
  EXPECT_TRUE(std::is_sorted(list.begin(), list.end(), [](auto a, auto b) { return a.number < b.number; }));
  std::set<std::string> names;
  std::set<std::uint32_t> numbers;
  for (const auto& capability : list) {
    names.insert(capability.name);
    numbers.insert(capability.number);
  }
  EXPECT_EQ(names.size(), list.size());
  EXPECT_EQ(numbers.size(), list.size());
}

TEST(Kvm, AMissingDeviceIsAnAnswer) {
  const KvmInfo info = probe_kvm("/nonexistent/kvm");
  EXPECT_FALSE(info.available);
  EXPECT_NE(info.reason.find("/nonexistent/kvm"), std::string::npos) << info.reason;
  EXPECT_EQ(info.api_version, -1);
  EXPECT_EQ(info.vcpu_mmap_size, 0U);
  EXPECT_TRUE(info.capabilities.empty());
}

#if defined(__linux__)
// The oracle is the kernel's own header, as far as its age goes.
TEST(KvmCapabilities, NumbersAreTheKernels) {
  const std::map<std::string, std::uint32_t> kernel = {
      {"irqchip", KVM_CAP_IRQCHIP},
      {"user_memory", KVM_CAP_USER_MEMORY},
      {"nr_memslots", KVM_CAP_NR_MEMSLOTS},
      {"irqfd", KVM_CAP_IRQFD},
      {"ioeventfd", KVM_CAP_IOEVENTFD},
      {"xsave", KVM_CAP_XSAVE},
      {"max_vcpus", KVM_CAP_MAX_VCPUS},
      {"one_reg", KVM_CAP_ONE_REG},
      {"sync_regs", KVM_CAP_SYNC_REGS},
      {"readonly_mem", KVM_CAP_READONLY_MEM},
      {"device_ctrl", KVM_CAP_DEVICE_CTRL},
      {"immediate_exit", KVM_CAP_IMMEDIATE_EXIT},
      {"nested_state", KVM_CAP_NESTED_STATE},
      {"manual_dirty_log_protect2", KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2},
      {"dirty_log_ring", KVM_CAP_DIRTY_LOG_RING},
      {"xsave2", KVM_CAP_XSAVE2},
      {"x86_user_space_msr", KVM_CAP_X86_USER_SPACE_MSR},
  };
  std::size_t checked = 0;
  for (const auto& capability : kvm_capabilities()) {
    const auto found = kernel.find(capability.name);
    if (found == kernel.end()) continue;
    EXPECT_EQ(capability.number, found->second) << capability.name;
    ++checked;
  }
  EXPECT_EQ(checked, kernel.size());
}

TEST(Kvm, ADeviceThatIsNotKvmIsNamed) {
  const KvmInfo info = probe_kvm("/dev/null");
  EXPECT_FALSE(info.available);
  EXPECT_NE(info.reason.find("not a KVM device"), std::string::npos) << info.reason;
}

TEST(Kvm, ADirectoryIsNotADevice) {
  const KvmInfo info = probe_kvm("/");
  EXPECT_FALSE(info.available);
  EXPECT_FALSE(info.reason.empty());
}
#endif

TEST(Kvm, TheRealDeviceAnswers) {
  const KvmInfo info = probe_kvm();
  if (!info.available) GTEST_SKIP() << info.reason;
  EXPECT_TRUE(info.reason.empty());
  EXPECT_EQ(info.api_version, kvm_api_version);
  EXPECT_GE(info.vcpu_mmap_size, 4096U);
  ASSERT_EQ(info.capabilities.size(), kvm_capabilities().size());
  for (const auto& answer : info.capabilities) {
    if (std::string(answer.capability.name) == "user_memory") {
      EXPECT_GT(answer.value, 0);
    }
  }
}

}  // namespace
}  // namespace vm::accel
