// Topologies laid out as sysfs trees: machines that are not here, and trees that the kernel would never write.

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "fake_system.hpp"
#include "vm/core/error.hpp"
#include "vm/core/topology.hpp"

namespace {

using vm::Cache;
using vm::CacheType;
using vm::Topology;
using vm::test::FakeSystem;
using Ints = std::vector<int>;

/// Two packages of two cores with two threads each, one node for each package and a third of memory only. CPU 7 is off.
void lay_out_two_packages(const FakeSystem& system) {
  system.write("sys/devices/system/cpu/online", "0-6");
  for (int cpu = 0; cpu < 7; ++cpu) {
    const int package = cpu / 4, core = cpu / 2;
    system.cpu(cpu, "topology/physical_package_id", std::to_string(package));
    system.cpu(cpu, "topology/core_id", std::to_string(core % 2));  // counts anew in each package, as on real machines
    system.cpu(cpu, "topology/thread_siblings_list",
               cpu == 6 ? "6" : std::to_string(core * 2) + "-" + std::to_string(core * 2 + 1));
    system.cpu(cpu, "cache/index0/level", "1");
    system.cpu(cpu, "cache/index0/type", "Data");
    system.cpu(cpu, "cache/index0/size", "32K");
    system.cpu(cpu, "cache/index0/coherency_line_size", "64");
    system.cpu(cpu, "cache/index0/ways_of_associativity", "8");
    system.cpu(cpu, "cache/index0/shared_cpu_list", std::to_string(core * 2) + "-" + std::to_string(core * 2 + 1));
    system.cpu(cpu, "cache/index3/level", "3");
    system.cpu(cpu, "cache/index3/type", "Unified");
    system.cpu(cpu, "cache/index3/size", "2M");
    system.cpu(cpu, "cache/index3/shared_cpu_list", package == 0 ? "0-3" : "4-7");
  }
  system.write("sys/devices/system/node/online", "0,2-3");
  system.node(0, "cpulist", "0-3");
  system.node(0, "meminfo", "Node 0 MemTotal:       1024 kB\nNode 0 MemFree:         512 kB");
  system.node(0, "distance", "10 21 17");
  system.node(2, "cpulist", "4-7");
  system.node(2, "meminfo", "Node 2 MemTotal:       2048 kB");
  system.node(2, "distance", "21 10 28");
  system.node(3, "cpulist", "");
  system.node(3, "meminfo", "Node 3 MemTotal:       4096 kB");
  system.node(3, "distance", "17 28 10");
}

TEST(SysfsTopology, TwoPackagesWithThreads) {
  const FakeSystem system;
  lay_out_two_packages(system);
  const Topology topology = Topology::from_sysfs(system.root());
  EXPECT_EQ(topology.source, "sysfs");
  EXPECT_FALSE(topology.is_this_system);
  EXPECT_EQ(topology.cpus, (Ints{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(topology.allowed_cpus, topology.cpus);
  EXPECT_EQ(topology.nodes,
            (std::vector<vm::NumaNode>{{0, {0, 1, 2, 3}, 1 << 20}, {2, {4, 5, 6}, 2 << 20}, {3, {}, 4 << 20}}));
  EXPECT_EQ(topology.packages, (std::vector<vm::Package>{{0, {0, 1, 2, 3}}, {1, {4, 5, 6}}}));
  EXPECT_EQ(topology.cores, (std::vector<vm::Core>{{0, 0, {0, 1}}, {1, 0, {2, 3}}, {0, 1, {4, 5}}, {1, 1, {6}}}));
  EXPECT_EQ(topology.distances, (std::vector<std::vector<std::uint64_t>>{{10, 21, 17}, {21, 10, 28}, {17, 28, 10}}));
  const std::vector<Cache> caches = {
      {1, CacheType::data, 32768, 64, 8, {0, 1}},           {1, CacheType::data, 32768, 64, 8, {2, 3}},
      {1, CacheType::data, 32768, 64, 8, {4, 5}},           {1, CacheType::data, 32768, 64, 8, {6}},
      {3, CacheType::unified, 2 << 20, 0, 0, {0, 1, 2, 3}}, {3, CacheType::unified, 2 << 20, 0, 0, {4, 5, 6}}};
  EXPECT_EQ(topology.caches, caches);
  EXPECT_EQ(topology.node_of(5).id, 2);
  EXPECT_THROW(topology.node_of(7), vm::OutOfRange) << "it is off";
}

TEST(SysfsTopology, KernelWithoutNumaIsOneNode) {
  const FakeSystem system;
  system.write("sys/devices/system/cpu/online", "0-1");
  system.write("proc/meminfo", "MemTotal:        4548820 kB\nMemFree:         100 kB");
  const Topology topology = Topology::from_sysfs(system.root());
  EXPECT_EQ(topology.nodes, (std::vector<vm::NumaNode>{{0, {0, 1}, std::uint64_t{4548820} << 10}}));
  EXPECT_TRUE(topology.distances.empty());
}

TEST(SysfsTopology, WhatIsNotThereStaysEmpty) {
  const FakeSystem system;
  system.write("sys/devices/system/cpu/online", "0");
  const Topology topology = Topology::from_sysfs(system.root());
  EXPECT_EQ(topology.cpus, Ints{0});
  EXPECT_EQ(topology.nodes, (std::vector<vm::NumaNode>{{0, {0}, 0}}));
  EXPECT_TRUE(topology.packages.empty());
  EXPECT_TRUE(topology.cores.empty());
  EXPECT_TRUE(topology.caches.empty());
}

TEST(SysfsTopology, ArmFirmwareThatDescribesLittle) {
  const FakeSystem system;
  system.write("sys/devices/system/cpu/online", "0-1");
  for (int cpu = 0; cpu < 2; ++cpu) {
    system.cpu(cpu, "topology/physical_package_id", "-1");
    system.cpu(cpu, "topology/core_id", std::to_string(cpu));
    system.cpu(cpu, "topology/thread_siblings_list", std::to_string(cpu));
    system.cpu(cpu, "cache/index0/level", "1");
    system.cpu(cpu, "cache/index0/type", "Instruction");  // no size, no list of CPUs
  }
  const Topology topology = Topology::from_sysfs(system.root());
  EXPECT_TRUE(topology.packages.empty());
  EXPECT_EQ(topology.cores, (std::vector<vm::Core>{{0, -1, {0}}, {1, -1, {1}}}));
  EXPECT_EQ(topology.caches,
            (std::vector<Cache>{{1, CacheType::instruction, 0, 0, 0, {0}}, {1, CacheType::instruction, 0, 0, 0, {1}}}));
}

TEST(SysfsTopology, NoMachineThere) {
  const FakeSystem system;
  EXPECT_THROW(Topology::from_sysfs(system.root()), vm::InvalidConfig);
  EXPECT_THROW(Topology::from_sysfs("/nonexistent"), vm::InvalidConfig);
}

struct Lie {
  const char* name;
  std::function<void(const FakeSystem&)> tell;
  const char* file;  // that the message must name
};

class SysfsLies : public testing::TestWithParam<Lie> {};

TEST_P(SysfsLies, AreRefusedByTheFilesName) {
  const FakeSystem system;
  lay_out_two_packages(system);
  GetParam().tell(system);
  try {
    Topology::from_sysfs(system.root());
    FAIL() << "must be refused";
  } catch (const vm::InvalidConfig& error) {
    EXPECT_NE(std::string(error.what()).find(GetParam().file), std::string::npos) << error.what();
  }
}

const auto online = [](const char* text) {
  return [text](const FakeSystem& system) { system.write("sys/devices/system/cpu/online", text); };
};
const auto cache = [](const char* file, const char* text) {
  return [file, text](const FakeSystem& system) { system.cpu(1, std::string("cache/index0/") + file, text); };
};
const auto node = [](const char* file, const char* text) {
  return [file, text](const FakeSystem& system) { system.node(2, file, text); };
};

INSTANTIATE_TEST_SUITE_P(
    Files, SysfsLies,
    testing::Values(
        Lie{"NothingOnline", online(""), "cpu/online"}, Lie{"Words", online("all of them"), "cpu/online"},
        Lie{"HalfARange", online("0-"), "cpu/online"}, Lie{"Backwards", online("3-0"), "cpu/online"},
        Lie{"Negative", online("-1"), "cpu/online"}, Lie{"TrailingComma", online("0,,1"), "cpu/online"},
        Lie{"HugeRange", online("0-99999999999999999999"), "cpu/online"},
        Lie{"MoreThanAnyKernel", online("0-4294967295"), "cpu/online"},
        Lie{"OftenRepeated", online("0-1048575,0-1048575"), "cpu/online"},
        Lie{"BinaryRubbish", online("\x7f\x45\x4c\x46"), "cpu/online"},
        Lie{"SizeWithoutNumber", cache("size", "K"), "index0/size"},
        Lie{"SizeBeyond64Bits", cache("size", "99999999999999999999K"), "index0/size"},
        Lie{"SizeThatOverflows", cache("size", "18446744073709551615K"), "index0/size"},
        Lie{"UnknownUnit", cache("size", "3X"), "index0/size"},
        Lie{"LevelTooHigh", cache("level", "4096"), "index0/level"},
        Lie{"UnknownCacheType", cache("type", "Trace"), "index0/type"},
        Lie{"LineSizeIsText", cache("coherency_line_size", "wide"), "coherency_line_size"},
        Lie{"WaysBeyond32Bits", cache("ways_of_associativity", "4294967296"), "ways_of_associativity"},
        Lie{"MatrixTooShort", node("distance", "21 10"), "node2/distance"},
        Lie{"MatrixTooLong", node("distance", "21 10 28 30"), "node2/distance"},
        Lie{"DistanceIsText", node("distance", "21 near 28"), "node2/distance"},
        Lie{"MemoryWithoutNumber", node("meminfo", "Node 2 MemTotal:"), "node2/meminfo"},
        Lie{"MemoryInOtherUnits", node("meminfo", "Node 2 MemTotal: 5 pages"), "node2/meminfo"},
        Lie{"MemoryThatOverflows", node("meminfo", "Node 2 MemTotal: 18446744073709551615 kB"), "node2/meminfo"},
        Lie{"CoreWithoutItsCpu", [](const FakeSystem& s) { s.cpu(2, "topology/thread_siblings_list", "3"); },
            "cpu2/topology/thread_siblings_list"},
        Lie{"PackageIdTooLarge", [](const FakeSystem& s) { s.cpu(0, "topology/physical_package_id", "4294967296"); },
            "physical_package_id"}),
    [](const testing::TestParamInfo<Lie>& lie) { return lie.param.name; });

TEST(CpuList, IsWrittenAsTheKernelDoes) {
  EXPECT_EQ(vm::cpu_list({}), "");
  EXPECT_EQ(vm::cpu_list({3}), "3");
  EXPECT_EQ(vm::cpu_list({0, 1, 2, 5, 7, 8}), "0-2,5,7-8");
}

}  // namespace
