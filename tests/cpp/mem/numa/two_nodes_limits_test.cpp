// Two nodes where not everything can be had: one is full, or has no memory, or is forbidden; or somebody lies.

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "support.hpp"
#include "two_nodes.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"
#include "vm/mem/numa/allocator.hpp"
#include "vm/mem/numa/node_memory.hpp"

namespace vm::mem::numa {
namespace {

using namespace test;

TEST_F(TwoNodes, AFullNode) {
  const std::uint64_t total = node_memory(nodes_[1]).total;
  if (total > 512 * mib) GTEST_SKIP() << "filling a node of " << total / mib << " MiB would disturb this machine";
  NumaAllocator allocator;
  EXPECT_THROW(allocator.allocate_on_node(total + 8 * mib, nodes_[1]), ResourceExhausted);
  const auto spilled = allocator.allocate(total + 8 * mib, NumaPolicy::local(nodes_[1]), {HugePages::automatic, true});
  const Verification found = tell("local(" + std::to_string(nodes_[1]) + "), larger than the node", *spilled);
  EXPECT_EQ(found.verdict, Verdict::elsewhere);
  EXPECT_GT(found.placement.bytes().at(nodes_[0]), 0U);
  EXPECT_GT(found.placement.bytes().at(nodes_[1]), 0U);
  for (const NodeStatistics& node : allocator.statistics()) {
    if (node.node == nodes_[0]) {
      EXPECT_EQ(node.stray_bytes, found.placement.bytes().at(nodes_[0]));
    }
  }
}

TEST_F(TwoNodes, ANodeOfProcessorsOnly) {
  NumaAllocator allocator;
  const auto& nodes = allocator.topology().nodes;
  const auto bare = std::find_if(nodes.begin(), nodes.end(),
                                 [](const NumaNode& node) { return node.memory_bytes == 0 && !node.cpus.empty(); });
  if (bare == nodes.end()) GTEST_SKIP() << "every node with processors has memory";
  const int cpu = bare->cpus.front();
  const OnCpu there(cpu);
  const Decision decision = allocator.decide(NumaPolicy::local());
  std::cout << "decided: " << decision.reason << std::endl;
  EXPECT_FALSE(decision.reason.empty());
  EXPECT_EQ(tell("cpu_local(" + std::to_string(cpu) + ")", *allocator.allocate_cpu_local(size, cpu)).placement.pages,
            std::vector<int>(64, decision.nodes.front()));
  EXPECT_EQ(tell("local() from CPU " + std::to_string(cpu), *allocator.allocate_local(size, small_pages)).verdict,
            Verdict::verified);
  EXPECT_THROW(allocator.allocate_on_node(size, bare->id), NotSupported);
}

TEST_F(TwoNodes, ACgroupThatForbidsANode) {
  if (std::getenv("VM_NUMA_GUEST") == nullptr) GTEST_SKIP() << "only `nox -s numa` has a machine to make cgroups on";
  const std::string root = "/tmp/cgroup";
  ::mkdir(root.c_str(), 0755);
  ASSERT_EQ(::mount("cpuset", root.c_str(), "cgroup", 0, "cpuset"), 0);
  EXPECT_EQ(in_child([&]() -> std::string {
              const std::string group = root + "/one";
              ::mkdir(group.c_str(), 0755);
              std::ofstream(group + "/cpuset.cpus") << "0";
              std::ofstream(group + "/cpuset.mems") << nodes_[0];
              std::ofstream(group + "/tasks") << ::getpid();
              NumaAllocator allocator;
              if (allocator.decide(NumaPolicy::interleave()).nodes != std::vector<int>{nodes_[0]}) return "interleave";
              const auto near = allocator.allocate(size, NumaPolicy::local(nodes_[1]), small_pages);
              if (tell("local(1), forbidden by the cgroup", *near).placement.pages != std::vector<int>(64, nodes_[0])) {
                return "local";
              }
              try {
                // The kernel would bind to what is left of the two.
                allocator.allocate(size, NumaPolicy::bind(nodes_));
              } catch (const NotSupported& error) {
                std::cout << "asked bind(both) | got NotSupported: " << error.what() << std::endl;
                return "";
              }
              return "bound to a node that is forbidden";
            }),
            "");
}

TEST_F(TwoNodes, APageThatAnotherProcessMapsStays) {
  NumaAllocator allocator;
  const auto memory = GuestMemory::memfd(size, 0, "guest", HugePages::none);
  allocator.place(*memory, 0, size, NumaPolicy::bind({nodes_[0]}), PlaceOptions{true});
  EXPECT_EQ(in_child([&]() -> std::string {
              char byte = 0;
              memory->read(0, &byte, 1);  // mapped by the parent, and now here
              NumaAllocator own;
              const Migration moved = own.place(*memory, 0, page, NumaPolicy::bind({nodes_[1]}));
              tell("place a page that another process maps", moved.binding, moved.verification);
              if (moved.failed_bytes != page || moved.verification.verdict != Verdict::elsewhere) {
                return "moved " + std::to_string(moved.moved_bytes) + " bytes that others map";
              }
              return moved.reason.find("another process") == std::string::npos ? moved.reason : "";
            }),
            "");
}

TEST_F(TwoNodes, ASuccessThatTheKernelDoesNotConfirmIsNone) {
  EXPECT_EQ(in_child([this]() -> std::string {
              if (!test::answer({SYS_mbind}, 0)) return "";
              NumaAllocator allocator;
              try {
                allocator.allocate_on_node(size, nodes_[1]);
              } catch (const NotSupported& error) {
                std::cout << "asked on_node(" << nodes_[1] << "), mbind lies | got NotSupported: " << error.what()
                          << std::endl;
                return "";
              }
              return "claimed a node that nobody bound";
            }),
            "");
}

TEST_F(TwoNodes, APolicyThatTheKernelBreaksIsSeen) {
  EXPECT_EQ(in_child([this]() -> std::string {
              const OnCpu there(cpus_[0]);
              // Nobody can read the policy back either: only looking at the pages tells.
              if (!test::answer({SYS_mbind}, 0) || !test::answer({SYS_get_mempolicy}, EPERM)) return "";
              NumaAllocator allocator(NumaPolicy::local(), Through::system_calls);
              try {
                allocator.allocate_on_node(size, nodes_[1]);
              } catch (const NotSupported& error) {
                const std::string said = error.what();
                std::cout << "asked on_node(" << nodes_[1]
                          << "), mbind lies, nobody may ask | got NotSupported: " << said << std::endl;
                return said.find("did not keep it") == std::string::npos ? said : "";
              }
              return "claimed a node that nobody bound";
            }),
            "");
}

}  // namespace
}  // namespace vm::mem::numa
