#pragma once
/// \file
/// The machine with two nodes that tests need, and the transcript of what was asked and got.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "vm/core/topology.hpp"
#include "vm/mem/numa/allocator.hpp"
#include "vm/mem/numa/block.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem::numa::test {

inline const std::uint64_t page = host_page_size();
inline const std::uint64_t size = 64 * page;
inline constexpr std::uint64_t mib = std::uint64_t{1} << 20;
inline const BlockOptions small_pages{HugePages::none, true};

inline std::string got(const Verification& found) {
  std::string text;
  for (const auto& [node, bytes] : found.placement.bytes()) {
    text += (text.empty() ? "" : ", ") + std::to_string(bytes / 1024) + " KiB on node " + std::to_string(node);
  }
  return (text.empty() ? "no page" : text) + " (" + to_string(found.verdict) + ")";
}

/// One line of the transcript.
inline void tell(const std::string& asked, const Binding& binding, const Verification& found) {
  std::cout << "asked " << asked << " | through " << (binding.bound() ? binding.through : "nothing") << " | got "
            << got(found) << std::endl;
}

inline Verification tell(const std::string& asked, const NumaBlock& block) {
  const Verification found = block.verify();
  tell(asked, block.binding(), found);
  return found;
}

class TwoNodes : public testing::Test {
 protected:
  void SetUp() override {
    const Topology topology = Topology::detect(TopologySource::sysfs);
    for (const NumaNode& node : topology.nodes) {
      if (node.memory_bytes == 0) continue;
      nodes_.push_back(node.id);
      cpus_.push_back(node.cpus.empty() ? -1 : node.cpus.front());
    }
    if (nodes_.size() < 2) GTEST_SKIP() << "this machine has one node of memory; `nox -s numa` boots one with two";
    nodes_.resize(2);
    if (std::find(cpus_.begin(), cpus_.begin() + 2, -1) != cpus_.begin() + 2) GTEST_SKIP() << "a node without a CPU";
    if (const auto reason = placement_unavailable()) GTEST_SKIP() << *reason;
  }

  std::vector<int> nodes_;
  std::vector<int> cpus_;  // one of each node
};

}  // namespace vm::mem::numa::test
