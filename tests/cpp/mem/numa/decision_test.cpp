// What is asked of the kernel, decided for machines that nobody here has; how an answer is judged; the kernel's files.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "vm/core/error.hpp"
#include "vm/core/topology.hpp"
#include "vm/mem/numa/allocator.hpp"
#include "vm/mem/numa/node_memory.hpp"
#include "vm/mem/numa/placement.hpp"
#include "vm/mem/numa/policy.hpp"

namespace vm::mem::numa {
namespace {

using Ints = std::vector<int>;

constexpr std::uint64_t gib = std::uint64_t{1} << 30;

// Nodes 0 and 1 have CPUs and memory, 2 has CPUs only, 3 has memory only; node 2 is nearest to node 1.
const std::string four_nodes = R"(<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
  <object type="Machine" os_index="0" cpuset="0x00000007">
    <object type="Package" os_index="0" cpuset="0x00000001">
      <object type="NUMANode" os_index="0" cpuset="0x00000001" local_memory="1073741824"/>
      <object type="NUMANode" os_index="3" cpuset="0x00000001" local_memory="4294967296"/>
      <object type="PU" os_index="0" cpuset="0x00000001"/>
    </object>
    <object type="Package" os_index="1" cpuset="0x00000002">
      <object type="NUMANode" os_index="1" cpuset="0x00000002" local_memory="1073741824"/>
      <object type="PU" os_index="1" cpuset="0x00000002"/>
    </object>
    <object type="Package" os_index="2" cpuset="0x00000004">
      <object type="NUMANode" os_index="2" cpuset="0x00000004" local_memory="0"/>
      <object type="PU" os_index="2" cpuset="0x00000004"/>
    </object>
  </object>
  <distances2 type="NUMANode" nbobjs="4" kind="5" name="NUMALatency" indexing="os">
    <indexes length="8">0 1 2 3 </indexes>
    <u64values length="48">10 20 30 17 20 10 15 30 30 15 10 40 17 30 40 10 </u64values>
  </distances2>
</topology>
)";

Topology xml() { return Topology::from_hwloc_xml(four_nodes); }

Decision on(const NumaPolicy& policy, int cpu = 0, const Ints& allowed = {}) {
  return decide(policy, xml(), Caller{cpu, allowed});
}

template <class Error>
std::string refusal(const NumaPolicy& policy, int cpu = 0, const Ints& allowed = {}) {
  try {
    on(policy, cpu, allowed);
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << policy.text() << " was not refused";
  return {};
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(NumaDecision, LocalIsTheNodeOfTheCpu) {
  const Decision decision = on(NumaPolicy::local(), 1);
  EXPECT_EQ(decision.mode, Mode::preferred);
  EXPECT_EQ(decision.nodes, Ints{1});
  EXPECT_FALSE(decision.strict);
  EXPECT_FALSE(decision.everywhere);
  EXPECT_EQ(decision.reason, "");
  EXPECT_EQ(on(NumaPolicy::local(3), 1).nodes, Ints{3});

  const Decision strict = on(NumaPolicy::local(std::nullopt, false), 1);
  EXPECT_EQ(strict.mode, Mode::bind);
  EXPECT_TRUE(strict.strict);
  EXPECT_THROW(on(NumaPolicy::local(), 9), OutOfRange);
}

TEST(NumaDecision, ANodeWithoutMemoryFallsBackToTheNearest) {
  const Decision decision = on(NumaPolicy::local(), 2);
  EXPECT_EQ(decision.nodes, Ints{1});
  EXPECT_EQ(decision.reason, "node 2 has no memory; node 1 is the nearest");
  // Node 1 forbidden: 0 is at 30, 3 at 40.
  EXPECT_EQ(on(NumaPolicy::local(), 2, {0, 3}).nodes, Ints{0});
  EXPECT_TRUE(contains(refusal<NotSupported>(NumaPolicy::local(2, false)), "choose node 1, the nearest"));
  EXPECT_TRUE(contains(refusal<NotSupported>(NumaPolicy::bind({1, 2})), "node 2 has no memory; choose of nodes 0-1,3"));
  EXPECT_THROW(on(NumaPolicy::interleave({0, 2})), NotSupported);
}

TEST(NumaDecision, WhatTheCgroupForbidsIsNotAskedFor) {
  // The kernel itself would silently bind to the rest.
  EXPECT_TRUE(contains(refusal<NotSupported>(NumaPolicy::bind({0, 1}), 0, {0}), "cgroup"));
  EXPECT_EQ(on(NumaPolicy::interleave(), 0, {0, 3}).nodes, (Ints{0, 3}));
  EXPECT_EQ(on(NumaPolicy::local(1), 0, {0, 3}).nodes, Ints{0});
  EXPECT_TRUE(on(NumaPolicy::bind({3}), 0, {3}).everywhere);
  EXPECT_THROW(on(NumaPolicy::local(), 0, {2}), NotSupported);
}

TEST(NumaDecision, BindInterleaveAndMany) {
  const Decision bind = on(NumaPolicy::bind({3, 0, 3}, 3));
  EXPECT_EQ(bind.mode, Mode::bind);
  EXPECT_EQ(bind.nodes, (Ints{0, 3}));
  EXPECT_EQ(bind.home_node, 3);
  EXPECT_TRUE(bind.strict);
  EXPECT_EQ(bind.text(), "bind to nodes 0,3, those near node 3 first");

  EXPECT_EQ(on(NumaPolicy::interleave()).nodes, (Ints{0, 1, 3}));
  EXPECT_TRUE(on(NumaPolicy::interleave()).everywhere);
  EXPECT_EQ(on(NumaPolicy::interleave({3, 1})).nodes, (Ints{1, 3}));

  const Decision many = on(NumaPolicy::preferred_many({1, 2}));
  EXPECT_EQ(many.mode, Mode::preferred_many);
  EXPECT_EQ(many.nodes, Ints{1});
  EXPECT_EQ(many.reason, "node 2 has no memory");
  EXPECT_THROW(on(NumaPolicy::preferred_many({2})), NotSupported);

  EXPECT_THROW(on(NumaPolicy::bind({})), InvalidConfig);
  EXPECT_THROW(on(NumaPolicy::preferred_many({})), InvalidConfig);
  EXPECT_TRUE(contains(refusal<OutOfRange>(NumaPolicy::bind({0, 4})), "no node 4; the nodes are 0-3"));
  EXPECT_THROW(on(NumaPolicy::local(-1)), OutOfRange);
  EXPECT_THROW(on(NumaPolicy::bind({0}, 7)), OutOfRange);
}

TEST(NumaDecision, WithoutDistancesOrSizesNumbersDecide) {
  Topology plain = xml();
  plain.distances.clear();
  EXPECT_EQ(decide(NumaPolicy::local(2), plain, Caller{}).nodes, Ints{0});
  for (NumaNode& node : plain.nodes) node.memory_bytes = 0;  // not known: nothing speaks against a node
  EXPECT_EQ(decide(NumaPolicy::local(2), plain, Caller{}).nodes, Ints{2});
}

TEST(NumaDecision, SyntheticMachines) {
  Topology made;
  try {
    made = Topology::from_synthetic("node:2 core:4 pu:2");
  } catch (const NotSupported& error) {
    GTEST_SKIP() << error.what();
  }
  for (const int cpu : made.cpus) {
    EXPECT_EQ(decide(NumaPolicy::local(), made, Caller{cpu, {}}).nodes, Ints{made.node_of(cpu).id});
  }
  EXPECT_EQ(decide(NumaPolicy::interleave(), made, Caller{}).nodes, (Ints{0, 1}));
  // It can be decided for, and nothing can be placed on it.
  NumaAllocator described(made);
  EXPECT_EQ(described.decide(NumaPolicy::bind({1})).nodes, Ints{1});
  EXPECT_THROW(described.allocate_on_node(4096, 1), NotSupported);
  EXPECT_THROW(described.allocate_local(4096), NotSupported);
  EXPECT_THROW(described.allocate_replicated(4096), NotSupported);
}

TEST(NumaDecision, PoliciesAreValues) {
  EXPECT_EQ(NumaPolicy::bind({1, 0, 1}), NumaPolicy::bind({0, 1}));
  EXPECT_NE(NumaPolicy::local(0), NumaPolicy::local(0, false));
  EXPECT_EQ(NumaPolicy::local().text(), "local()");
  EXPECT_EQ(NumaPolicy::local(1, false).text(), "local(1, no fallback)");
  EXPECT_EQ(NumaPolicy::bind({0, 1}, 1).text(), "bind(0-1, home 1)");
  EXPECT_EQ(NumaPolicy::preferred_many({2}).text(), "preferred-many(2)");
}

TEST(NumaJudgement, SaysWhatIsWrong) {
  Decision decision;
  decision.mode = Mode::bind;
  decision.nodes = {1};
  const Placement right{4096, {1, 1, 1}};
  EXPECT_EQ(judge(decision, right, 4096).verdict, Verdict::verified);
  const Verification wrong = judge(decision, {4096, {1, 0, Placement::absent}}, 4096);
  EXPECT_EQ(wrong.verdict, Verdict::elsewhere);
  EXPECT_EQ(wrong.reason, "asked: bind to node 1; found: 0x1000 bytes on node 0, 0x1000 bytes on node 1");
  const Verification missing = judge(decision, {4096, {1, Placement::absent, 1}}, 4096);
  EXPECT_EQ(missing.verdict, Verdict::unverified);
  EXPECT_TRUE(contains(missing.reason, "0x1000 of 0x3000 bytes have no page yet"));
  EXPECT_EQ(missing.placement.absent_bytes(), 4096U);

  decision.mode = Mode::interleave;
  decision.nodes = {0, 1};
  EXPECT_EQ(judge(decision, {4096, {0, 1, 0, 1, 0}}, 4096).verdict, Verdict::verified);
  EXPECT_TRUE(contains(judge(decision, {4096, {0, 0, 0, 0, 1}}, 4096).reason, "uneven"));
  EXPECT_EQ(judge(decision, {4096, {0, 0, 0, 0, 1}}, 4 * 4096).verdict, Verdict::verified);
}

/// The files of one node below a root of our own.
class NodeFiles : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(node_ / "hugepages" / "hugepages-2048kB"); }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void write(const std::string& name, const std::string& text) { std::ofstream(node_ / name) << text; }

  const std::filesystem::path root_ = std::filesystem::path(testing::TempDir()) / "numa-node-files";
  const std::filesystem::path node_ = root_ / "sys/devices/system/node/node1";
};

TEST_F(NodeFiles, Numbers) {
  write("meminfo",
        "Node 1 MemTotal:       1048576 kB\nNode 1 MemFree:         524288 kB\nNode 1 Active(file):      4 kB\n"
        "Node 1 Inactive(file):    8 kB\nNode 1 SReclaimable:     16 kB\nNode 1 HugePages_Total:     3\n");
  write("numastat", "numa_hit 11\nnuma_miss 12\nnuma_foreign 13\ninterleave_hit 14\nlocal_node 15\nother_node 16\n");
  write("hugepages/hugepages-2048kB/free_hugepages", "3\n");
  const NodeMemory memory = node_memory(1, root_.string());
  EXPECT_EQ(memory.node, 1);
  EXPECT_EQ(memory.total, gib);
  EXPECT_EQ(memory.free, gib / 2);
  EXPECT_EQ(memory.available, gib / 2 + 28 * 1024);
  EXPECT_EQ(memory.numa_hits, 11U);
  EXPECT_EQ(memory.numa_misses, 12U);
  EXPECT_EQ(memory.numa_foreign, 13U);
  EXPECT_EQ(memory.interleave_hits, 14U);
  EXPECT_EQ(memory.local_pages, 15U);
  EXPECT_EQ(memory.other_pages, 16U);
  EXPECT_EQ(free_huge_pages(1, HugePages::size_2m, root_.string()), 3U);
  EXPECT_EQ(free_huge_pages(1, HugePages::size_1g, root_.string()), 0U);
}

TEST_F(NodeFiles, WhatTheKernelWouldNotWrite) {
  EXPECT_THROW(node_memory(1, root_.string()), NotSupported);
  EXPECT_THROW(node_memory(2, root_.string()), NotSupported);
  write("meminfo", "Node 1 MemTotal: much\n");
  EXPECT_THROW(node_memory(1, root_.string()), InvalidConfig);
  write("meminfo", "");
  write("numastat", "numa_hit\n");
  EXPECT_THROW(node_memory(1, root_.string()), InvalidConfig);
}

}  // namespace
}  // namespace vm::mem::numa
