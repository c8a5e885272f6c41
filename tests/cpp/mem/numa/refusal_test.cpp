// What happens where the system refuses, or says yes and does nothing. Each in a child: such a process stays like that.

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <vector>

#include "support.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/numa/allocator.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem::numa {
namespace {

using test::answer;
using test::in_child;

const std::uint64_t size = 16 * host_page_size();

std::string expect(bool condition, const std::string& otherwise) { return condition ? "" : otherwise; }

TEST(NumaRefusal, WithoutTheCallsOnlyWhatCannotBeOtherwiseIsStrict) {
  for (const int code : {EPERM, ENOSYS}) {
    const std::string result = in_child([code]() -> std::string {
      if (!answer({SYS_mbind, SYS_move_pages, SYS_get_mempolicy}, code)) return "";
      NumaAllocator allocator;
      const auto local = allocator.allocate_local(size);
      if (local->binding().bound() || local->binding().refusal.empty()) return "a binding that nobody made";
      const bool only = allocator.topology().nodes.size() == 1;
      try {
        const auto block = allocator.allocate_on_node(size, allocator.topology().nodes.front().id);
        const Verification found = block->verify();
        if (!only) return "a strict block that nobody bound";
        if (found.verdict != Verdict::unverified) return "verified by nobody";
        if (found.reason.find("no other node") == std::string::npos) return "reason: " + found.reason;
        if (allocator.statistics().front().resident_bytes) return "counted by nobody";
        try {
          block->migrate(NumaPolicy::interleave());
          return "moved by nobody";
        } catch (const NotSupported&) {
          return "";
        }
      } catch (const NotSupported& error) {
        return expect(!only, error.what());
      }
    });
    EXPECT_EQ(result, "") << code;
  }
}

TEST(NumaRefusal, ASuccessThatTheKernelDoesNotConfirmIsNone) {
  const std::string result = in_child([]() -> std::string {
    if (!answer({SYS_mbind}, 0)) return "";
    NumaAllocator allocator;
    const auto block = allocator.allocate_local(size);
    if (block->binding().bound()) return "believed " + block->binding().through;
    if (block->binding().refusal.find("reports success") == std::string::npos) return block->binding().refusal;
    try {
      allocator.allocate(size, NumaPolicy::bind({allocator.topology().nodes.front().id}));
    } catch (const NotSupported& error) {
      return "";
    }
    return expect(allocator.topology().nodes.size() == 1, "a strict block that nobody bound");
  });
  EXPECT_EQ(result, "");
}

TEST(NumaRefusal, AMadeUpMachineOfHwlocIsNotBelieved) {
  // hwloc then "succeeds" without binding anything.
  EXPECT_EQ(in_child([]() -> std::string {
              ::setenv("HWLOC_SYNTHETIC", "node:2 core:4 pu:2", 1);
              NumaAllocator allocator;
              if (!allocator.topology().is_this_system) return "a description was taken for this machine";
              if (allocator.through().find("hwloc 2") == 0) return "through " + allocator.through();
              const auto block = allocator.allocate_local(size);
              if (!placement_unavailable() && block->binding().through != "mbind") return block->binding().through;
              try {
                NumaAllocator forced(NumaPolicy::local(), Through::hwloc);
              } catch (const NotSupported&) {
                return "";
              }
              return "hwloc was taken though it binds nothing";
            }),
            "");
}

TEST(NumaRefusal, ANodeThatTheKernelDoesNotHave) {
  // As under HWLOC_THISSYSTEM=1: a description that claims to be this machine.
  Topology lie = Topology::detect(TopologySource::sysfs);
  const int node = lie.nodes.back().id + 1;
  lie.nodes.push_back({node, {}, std::uint64_t{1} << 30});
  lie.distances.clear();
  NumaAllocator allocator(lie);
  EXPECT_THROW(allocator.allocate_on_node(size, node), NotSupported);
  const auto block = allocator.allocate(size, NumaPolicy::local(node), {HugePages::none, true});
  EXPECT_NE(block->decision().nodes, std::vector<int>{node});
  EXPECT_NE(block->decision().reason.find("may use the memory of"), std::string::npos) << block->decision().reason;

  // Where nobody may ask what is allowed, the kernel itself refuses.
  EXPECT_EQ(in_child([&]() -> std::string {
              if (!answer({SYS_get_mempolicy}, EPERM)) return "";
              for (const Through through : {Through::automatic, Through::system_calls}) {
                NumaAllocator blind(lie, NumaPolicy::local(), through);
                const auto unbound = blind.allocate(size, NumaPolicy::local(node), {HugePages::none, true});
                if (unbound->binding().bound()) return "a binding to a node that is not there";
                if (unbound->binding().refusal.find("no such nodes") == std::string::npos) {
                  return unbound->binding().refusal;
                }
                if (unbound->verify().verdict == Verdict::verified) return "verified";
                try {
                  blind.allocate_on_node(size, node);
                  return "a strict block on a node that is not there";
                } catch (const NotSupported&) {
                }
              }
              return "";
            }),
            "");
}

}  // namespace
}  // namespace vm::mem::numa
