// This machine, and descriptions of others in hwloc's formats.

#include "vm/core/topology.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "vm/core/error.hpp"

namespace {

using vm::Cache;
using vm::CacheType;
using vm::Topology;
using vm::TopologySource;
using Ints = std::vector<int>;

// Written by hwloc 2.9.0 for three nodes out of order; shortened by attributes that are not read.
const std::string three_nodes = R"(<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
  <object type="Machine" os_index="0" cpuset="0x00000007" complete_cpuset="0x00000007" allowed_cpuset="0x00000006" gp_index="1">
    <info name="SyntheticDescription" value="node:3(indexes=2,0,1) core:1 pu:1"/>
    <object type="Core" os_index="0" cpuset="0x00000001" gp_index="3">
      <object type="NUMANode" os_index="2" cpuset="0x00000001" nodeset="0x00000004" gp_index="4" local_memory="1073741824">
        <page_type size="4096" count="262144"/>
      </object>
      <object type="PU" os_index="0" cpuset="0x00000001" gp_index="2"/>
    </object>
    <object type="Core" os_index="1" cpuset="0x00000002" gp_index="6">
      <object type="NUMANode" os_index="0" cpuset="0x00000002" nodeset="0x00000001" gp_index="7" local_memory="2147483648"/>
      <object type="PU" os_index="1" cpuset="0x00000002" gp_index="5"/>
    </object>
    <object type="Core" os_index="2" cpuset="0x00000004" gp_index="9">
      <object type="NUMANode" os_index="1" cpuset="0x00000004" nodeset="0x00000002" gp_index="10" local_memory="0"/>
      <object type="PU" os_index="2" cpuset="0x00000004" gp_index="8"/>
    </object>
  </object>
  <distances2 type="NUMANode" nbobjs="3" kind="6" name="NUMALatency" indexing="os">
    <indexes length="6">2 0 1 </indexes>
    <u64values length="27">10 20 30 21 10 31 22 32 10 </u64values>
  </distances2>
  <support name="discovery.pu"/>
</topology>
)";

std::string with(const std::string& from, const std::string& to) {
  std::string text = three_nodes;
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(HwlocXml, NodesCoresAndDistances) {
  const Topology topology = Topology::from_hwloc_xml(three_nodes);
  EXPECT_EQ(topology.source, "hwloc XML");
  EXPECT_FALSE(topology.is_this_system);
  EXPECT_EQ(topology.cpus, (Ints{0, 1, 2}));
  EXPECT_EQ(topology.allowed_cpus, (Ints{1, 2}));
  EXPECT_EQ(topology.nodes, (std::vector<vm::NumaNode>{{0, {1}, 2147483648}, {1, {2}, 0}, {2, {0}, 1073741824}}));
  EXPECT_EQ(topology.cores, (std::vector<vm::Core>{{0, -1, {0}}, {1, -1, {1}}, {2, -1, {2}}}));
  EXPECT_TRUE(topology.packages.empty());
  // The file's order is node 2, 0, 1.
  EXPECT_EQ(topology.distances, (std::vector<std::vector<std::uint64_t>>{{10, 31, 21}, {32, 10, 22}, {20, 30, 10}}));
}

TEST(HwlocXml, PackagesAndCaches) {
  const Topology topology = Topology::from_hwloc_xml(R"(<topology version="2.0">
    <object type="Machine" cpuset="0x3">
      <object type="Package" cpuset="0x3">
        <object type="L3Cache" cpuset="0x3" cache_size="1048576" depth="3" cache_linesize="64" cache_associativity="-1" cache_type="0">
          <object type="L1Cache" cpuset="0x1" cache_size="49152" depth="1" cache_linesize="64" cache_associativity="12" cache_type="1">
            <object type="L1iCache" cpuset="0x1" cache_size="32768" depth="1" cache_linesize="64" cache_associativity="8" cache_type="2">
              <object type="Core" cpuset="0x1"><object type="PU" os_index="0" cpuset="0x1"/></object>
            </object>
          </object>
        </object>
      </object>
      <object type="Package" os_index="7" cpuset="0x2">
        <object type="Core" cpuset="0x2"><object type="PU" os_index="1" cpuset="0x2"/></object>
      </object>
    </object></topology>)");
  EXPECT_EQ(topology.packages, (std::vector<vm::Package>{{0, {0, 1}}, {7, {1}}}));
  EXPECT_EQ(topology.cores, (std::vector<vm::Core>{{0, 0, {0}}, {1, 7, {1}}}));
  EXPECT_EQ(topology.caches, (std::vector<Cache>{{1, CacheType::data, 49152, 64, 12, {0}},
                                                 {1, CacheType::instruction, 32768, 64, 8, {0}},
                                                 {3, CacheType::unified, 1048576, 64, 16384, {0, 1}}}));
}

TEST(HwlocXml, WideAndEndlessBitmaps) {
  const std::string machine = R"(<topology version="2.0"><object type="Machine" cpuset="0xf...f">)"
                              R"(<object type="NUMANode" os_index="0" cpuset="0xf...f,0x00000001,,0x0"/>)"
                              R"(<object type="PU" os_index="0"/><object type="PU" os_index="64"/>)"
                              R"(<object type="PU" os_index="96"/></object></topology>)";
  const Topology topology = Topology::from_hwloc_xml(machine);
  EXPECT_EQ(topology.nodes[0].cpus, (Ints{64, 96}));
}

TEST(HwlocXml, WhatIsWrongIsSaid) {
  const auto message = [](const std::string& xml) -> std::string {
    try {
      Topology::from_hwloc_xml(xml);
      return "accepted";
    } catch (const vm::InvalidConfig& error) {
      return error.what();
    }
  };
  EXPECT_EQ(message(""), "XML, line 1: there is no element");
  EXPECT_EQ(message("topology"), "XML, line 1: text outside of the root element");
  EXPECT_EQ(message("<a></a>"), "hwloc XML: there is no <topology> element");
  EXPECT_EQ(message("<a></a><b/>"), "XML, line 1: a second root element");
  EXPECT_EQ(message("<a></b>"), "XML, line 1: </b> closes what is not open");
  EXPECT_EQ(message("<a b=c/>"), "XML, line 1: the value of b is not in quotes");
  EXPECT_EQ(message("<a\n\nb=\"c"), "XML, line 3: the text ends inside an attribute's value");
  EXPECT_EQ(message("<!DOCTYPE a [<!ENTITY b 'c'>]><a/>"), "XML, line 1: a DOCTYPE with declarations of its own");
  EXPECT_EQ(message("<topology version=\"2.0\"/>"), "hwloc XML: the topology has no PU object, so no CPU");
  EXPECT_NE(message(with("version=\"2.0\"", "")).find("format version ''"), std::string::npos);
  EXPECT_NE(message(with("version=\"2.0\"", "version=\"1.0\"")).find("hwloc 2 writes"), std::string::npos);
  EXPECT_NE(message(with("\"PU\" os_index=\"1\"", "\"PU\" os_index=\"0\"")).find("same os_index"), std::string::npos);
  EXPECT_NE(message(with("os_index=\"2\"", "os_index=\"two\"")).find("'two', not a number"), std::string::npos);
  EXPECT_NE(message(with("os_index=\"2\"", "os_index=\"4294967295\"")).find("at most"), std::string::npos);
  EXPECT_NE(message(with("1073741824", "99999999999999999999")).find("local_memory"), std::string::npos);
  EXPECT_NE(message(with("0x00000006", "0x1ffffffff")).find("a word of a bitmap"), std::string::npos);
  EXPECT_EQ(message(with("32 10 </u64", "32 </u64")), "hwloc XML: 8 distances between 3 nodes");
}

TEST(HwlocXml, DistancesOfOtherThingsAreLeftOut) {
  EXPECT_TRUE(Topology::from_hwloc_xml(with("kind=\"6\"", "kind=\"10\"")).distances.empty()) << "bandwidth";
  EXPECT_TRUE(
      Topology::from_hwloc_xml(with("distances2 type=\"NUMANode\"", "distances2 type=\"Core\"")).distances.empty());
  EXPECT_TRUE(Topology::from_hwloc_xml(with("2 0 1 <", "2 0 5 <")).distances.empty()) << "a node that is not there";
}

TEST(HwlocXml, DepthIsBounded) {
  std::string xml = "<topology version=\"2.0\">";
  for (int i = 0; i < 100000; ++i) xml += "<object type=\"Group\">";
  EXPECT_THROW(Topology::from_hwloc_xml(xml), vm::InvalidConfig);
}

TEST(HwlocXml, WorkIsBounded) {
  // Each of these lists every CPU again.
  std::string xml = "<topology version=\"2.0\"><object type=\"Machine\">";
  for (int i = 0; i < 10000; ++i) xml += "<object type=\"PU\"/><object type=\"Core\" cpuset=\"0xf...f\"/>";
  EXPECT_THROW(Topology::from_hwloc_xml(xml + "</object></topology>"), vm::InvalidConfig);
  EXPECT_THROW(Topology::from_hwloc_xml(std::string((16 << 20) + 1, ' ')), vm::InvalidConfig);
}

TEST(HwlocXml, EveryTruncationIsRefused) {
  // The last byte is a line feed, the text before it a whole document.
  for (std::size_t length = 0; length + 1 < three_nodes.size(); ++length) {
    EXPECT_THROW(Topology::from_hwloc_xml(three_nodes.substr(0, length)), vm::InvalidConfig) << length;
  }
}

TEST(HwlocXml, MutationsNeverDoWorseThanInvalidConfig) {
  std::mt19937 random(1);
  const char* pieces[] = {"\"", "<", ">", "/>", "0xf...f", "4294967295", "-1", "", "18446744073709551615"};
  for (int round = 0; round < 3000; ++round) {
    std::string xml = three_nodes;
    for (int change = 0; change < 3; ++change) {
      const std::size_t at = random() % xml.size();
      if (random() % 2 == 0) {
        xml[at] = static_cast<char>(random());
      } else {
        xml.replace(at, random() % 8, pieces[random() % std::size(pieces)]);
      }
    }
    try {
      Topology::from_hwloc_xml(xml);
    } catch (const vm::InvalidConfig&) {
      continue;
    }
  }
}

TEST(HwlocXml, FileThatCannotBeRead) {
  try {
    Topology::from_hwloc_xml_file("/nonexistent/topology.xml");
    FAIL() << "must be refused";
  } catch (const vm::PlatformError& error) {
    EXPECT_EQ(error.code(), ENOENT);
    EXPECT_NE(std::string(error.what()).find("/nonexistent/topology.xml"), std::string::npos);
  }
  EXPECT_THROW(Topology::from_hwloc_xml_file(testing::TempDir()), vm::PlatformError) << "a directory";
}

bool have_hwloc() {
  try {
    Topology::detect(TopologySource::hwloc);
    return true;
  } catch (const vm::NotSupported&) {
    return false;
  }
}

TEST(Synthetic, TwoNodes) {
  if (!have_hwloc()) {
    EXPECT_THROW(Topology::from_synthetic("node:2 core:4 pu:2"), vm::NotSupported);
    GTEST_SKIP() << "this build has no hwloc";
  }
  const Topology topology = Topology::from_synthetic("node:2 core:4 pu:2");
  EXPECT_EQ(topology.source.substr(0, 6), "hwloc ");
  EXPECT_FALSE(topology.is_this_system);
  EXPECT_EQ(topology.cpus.size(), 16U);
  ASSERT_EQ(topology.nodes.size(), 2U);
  EXPECT_EQ(topology.nodes[1].cpus, (Ints{8, 9, 10, 11, 12, 13, 14, 15}));
  EXPECT_EQ(topology.cores.size(), 8U);
  EXPECT_EQ(topology.node_of(3).id, 0);
}

TEST(Synthetic, WhatHwlocWouldChokeOnNeverReachesIt) {
  const char* descriptions[] = {
      "", " ", "rubbish", ":", "node", "node:", "node:0 pu:1", "node:two", "[", "[numa", "[numa(memory=1GB]", "[1]",
      // giants, in every way in which strtoul reads them
      "pu:99999999999", "core:65536 pu:2", "65536 65536", "10(memory=1)4294967295 pu:2",
      "3( pu:2(indexes=numa) 4294967295", "0x100000 pu:1", "04294967295 pu:2", "node:-1 pu:1",
      // these end the process inside of hwloc 2.9: assertions on types and on interleaved indexes
      "memcache:1 pack:2 pu:3", "[core] pu:2", "pack:2(indexes=2*1:1*2) pu:2", "node:2 pu:2(indexes=numa)",
      "pu:2(memory)", "pu:2(memory=)", "pu:2(color=3)", "pu:2(indexes=0,1", "pu:2(indexes=0,11588449838831255394)",
      "pu:2(indexes=0,)", "pu:2(indexes=1,1)"};
  for (const char* description : descriptions) {
    EXPECT_THROW(Topology::from_synthetic(description), vm::InvalidConfig) << description;
  }
  std::string deep;
  for (int level = 0; level < 200; ++level) deep += "group:1 ";
  EXPECT_THROW(Topology::from_synthetic(deep + "pu:1"), vm::InvalidConfig);
}

TEST(Synthetic, WhatHwlocItselfRefuses) {
  if (!have_hwloc()) GTEST_SKIP() << "this build has no hwloc";
  for (const char* description : {"node:2 core:4", "pu:2 core:2", "l1:2 l2:1 pu:2 pu:2"}) {
    EXPECT_THROW(Topology::from_synthetic(description), vm::InvalidConfig) << description;
  }
}

#if defined(__linux__)

TEST(ThisMachine, SysfsDescribesIt) {
  const Topology topology = Topology::detect(TopologySource::sysfs);
  EXPECT_EQ(topology.source, "sysfs");
  EXPECT_TRUE(topology.is_this_system);
  EXPECT_FALSE(topology.cpus.empty());
  EXPECT_FALSE(topology.allowed_cpus.empty());
  EXPECT_TRUE(std::includes(topology.cpus.begin(), topology.cpus.end(), topology.allowed_cpus.begin(),
                            topology.allowed_cpus.end()));
  EXPECT_FALSE(topology.nodes.empty());
}

TEST(ThisMachine, HwlocAndSysfsAgree) {
  if (!have_hwloc()) GTEST_SKIP() << "this build has no hwloc";
  // A machine's memory may grow and shrink under it, hence the second look.
  for (int attempt = 0; attempt < 10; ++attempt) {
    const Topology before = Topology::detect(TopologySource::sysfs);
    Topology topology = Topology::detect(TopologySource::hwloc);
    const Topology after = Topology::detect(TopologySource::sysfs);
    if (!topology.is_this_system) GTEST_SKIP() << "hwloc is told by its environment to describe another machine";
    if (before != after) continue;
    EXPECT_EQ(topology.source.substr(0, 6), "hwloc ");
    topology.source = before.source;
    EXPECT_EQ(topology.cpus, before.cpus);
    EXPECT_EQ(topology.allowed_cpus, before.allowed_cpus);
    EXPECT_EQ(topology.nodes, before.nodes);
    EXPECT_EQ(topology.packages, before.packages);
    EXPECT_EQ(topology.cores, before.cores);
    EXPECT_EQ(topology.caches, before.caches);
    EXPECT_EQ(topology.distances, before.distances);
    return;
  }
  GTEST_SKIP() << "the machine changes too fast to be looked at twice";
}

#endif

}  // namespace
