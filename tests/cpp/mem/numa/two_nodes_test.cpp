// Every policy on a machine with two nodes of memory: `nox -s numa` boots one. What was asked and what was got is
// printed, and is what the kernel says of every page.

#include "two_nodes.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <iostream>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "support.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"
#include "vm/mem/numa/allocator.hpp"
#include "vm/mem/numa/arrays.hpp"
#include "vm/mem/numa/node_memory.hpp"

namespace vm::mem::numa {
namespace {

using namespace test;

TEST_F(TwoNodes, OnNode) {
  for (const Through through : {Through::automatic, Through::system_calls}) {
    NumaAllocator allocator(NumaPolicy::local(), through);
    for (const int node : nodes_) {
      for (const HugePages kind : {HugePages::none, HugePages::automatic}) {
        const auto block = allocator.allocate_on_node(8 * mib, node, {kind, false});
        const Verification found = tell("on_node(" + std::to_string(node) + ")", *block);
        EXPECT_EQ(found.verdict, Verdict::verified) << found.reason;
        EXPECT_EQ(found.placement.pages, std::vector<int>(8 * mib / page, node));
      }
    }
  }
}

TEST_F(TwoNodes, LocalIsWhereTheThreadRuns) {
  NumaAllocator allocator;
  for (std::size_t i = 0; i < 2; ++i) {
    const OnCpu there(cpus_[i]);
    ASSERT_TRUE(static_cast<bool>(there));
    const auto block = allocator.allocate_local(size, small_pages);
    const Verification found = tell("local() from CPU " + std::to_string(cpus_[i]), *block);
    EXPECT_EQ(found.placement.pages, std::vector<int>(64, nodes_[i]));
    const auto strict = allocator.allocate(size, NumaPolicy::local(std::nullopt, false));
    EXPECT_EQ(tell("local(no fallback) from CPU " + std::to_string(cpus_[i]), *strict).placement.pages,
              std::vector<int>(64, nodes_[i]));
    const auto other = allocator.allocate(size, NumaPolicy::local(nodes_[1 - i]), small_pages);
    EXPECT_EQ(tell("local(" + std::to_string(nodes_[1 - i]) + ") from CPU " + std::to_string(cpus_[i]), *other)
                  .placement.pages,
              std::vector<int>(64, nodes_[1 - i]));
    const auto of_cpu = allocator.allocate_cpu_local(size, cpus_[1 - i]);
    EXPECT_EQ(tell("cpu_local(" + std::to_string(cpus_[1 - i]) + ")", *of_cpu).placement.pages,
              std::vector<int>(64, nodes_[1 - i]));
  }
}

TEST_F(TwoNodes, InterleavedPageAfterPage) {
  for (const Through through : {Through::automatic, Through::system_calls}) {
    NumaAllocator allocator(NumaPolicy::local(), through);
    const auto block = allocator.allocate_interleaved(size, nodes_, small_pages);
    const Verification found = tell("interleaved(both)", *block);
    EXPECT_EQ(found.verdict, Verdict::verified) << found.reason;
    const std::vector<int>& pages = found.placement.pages;
    for (std::size_t i = 0; i + 1 < pages.size(); ++i) EXPECT_NE(pages[i], pages[i + 1]) << i;
    const auto huge = allocator.allocate_interleaved(16 * mib, nodes_, {HugePages::automatic, true});
    EXPECT_EQ(tell("interleaved(both), huge pages", *huge).verdict, Verdict::verified);
  }
}

TEST_F(TwoNodes, ManyAndHomeNodes) {
  NumaAllocator allocator;
  for (std::size_t i = 0; i < 2; ++i) {
    const OnCpu there(cpus_[1 - i]);
    for (const NumaPolicy& policy :
         {NumaPolicy::bind(nodes_, nodes_[i]), NumaPolicy::preferred_many(nodes_, nodes_[i])}) {
      const auto block = allocator.allocate(size, policy, small_pages);
      const Verification found = tell(policy.text() + " from CPU " + std::to_string(cpus_[1 - i]), *block);
      EXPECT_EQ(found.verdict, Verdict::verified) << found.reason;
      if (block->binding().refusal.empty()) {
        EXPECT_EQ(found.placement.pages, std::vector<int>(64, nodes_[i]));
      }
    }
    const auto many = allocator.allocate(size, NumaPolicy::preferred_many({nodes_[i]}), small_pages);
    EXPECT_EQ(tell("preferred-many(" + std::to_string(nodes_[i]) + ")", *many).placement.pages,
              std::vector<int>(64, nodes_[i]));
  }
}

TEST_F(TwoNodes, Replicated) {
  NumaAllocator allocator;
  const auto replicas = allocator.allocate_replicated(size, nodes_);
  replicas->write(100, "replicated", 10);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(tell("replicated(both), copy " + std::to_string(nodes_[i]), *replicas->on(nodes_[i])).placement.pages,
              std::vector<int>(64, nodes_[i]));
    const OnCpu there(cpus_[i]);
    EXPECT_EQ(replicas->local(), replicas->on(nodes_[i]));
    EXPECT_EQ(std::memcmp(replicas->local()->data() + 100, "replicated", 10), 0);
  }
  std::memset(replicas->on(nodes_[1])->data(), 5, size);
  replicas->synchronize(nodes_[1]);
  EXPECT_EQ(std::memcmp(replicas->on(nodes_[0])->data(), replicas->on(nodes_[1])->data(), size), 0);
}

TEST_F(TwoNodes, MigrationKeepsTheBytes) {
  NumaAllocator allocator;
  for (const HugePages kind : {HugePages::none, HugePages::automatic}) {
    const auto block = allocator.allocate_on_node(8 * mib, nodes_[0], {kind, false});
    auto* words = reinterpret_cast<std::uint32_t*>(block->data());
    std::iota(words, words + 2 * mib, 1U);
    const Migration moved = block->migrate(NumaPolicy::bind({nodes_[1]}));
    tell("migrate " + std::to_string(nodes_[0]) + " to " + std::to_string(nodes_[1]), moved.binding,
         moved.verification);
    EXPECT_EQ(moved.moved_bytes, 8 * mib);
    EXPECT_EQ(moved.failed_bytes, 0U) << moved.reason;
    EXPECT_EQ(moved.verification.verdict, Verdict::verified) << moved.verification.reason;
    const Migration again = block->migrate(NumaPolicy::bind({nodes_[1]}));
    EXPECT_EQ(again.already_bytes, 8 * mib);
    const Migration spread = block->migrate(NumaPolicy::interleave(nodes_));
    tell("migrate to interleaved", spread.binding, spread.verification);
    EXPECT_EQ(spread.moved_bytes, 4 * mib);
    EXPECT_EQ(spread.verification.verdict, Verdict::verified) << spread.verification.reason;
    std::uint32_t wrong = 0;
    for (std::uint32_t i = 0; i < 2 * mib; ++i) wrong += words[i] == i + 1 ? 0U : 1U;
    EXPECT_EQ(wrong, 0U);
  }
  const auto statistics = allocator.statistics();
  for (const NodeStatistics& found : statistics) {
    std::cout << "node " << found.node << ": " << found.allocations << " allocations, " << found.migrated_bytes / 1024
              << " KiB migrated to it, " << found.blocks << " blocks alive" << std::endl;
    const bool second = found.node == nodes_[1];
    if (second || found.node == nodes_[0]) {
      EXPECT_EQ(found.migrated_bytes, (second ? 16 : 8) * mib);
    }
  }
}

TEST_F(TwoNodes, TheWholeProcessMoves) {
  EXPECT_EQ(in_child([this]() -> std::string {
              NumaAllocator allocator;
              // A block that is bound would stay: policies hold.
              const auto block = allocator.allocate(size, NumaPolicy::local(nodes_[0]), small_pages);
              migrate_process(nodes_[0], nodes_[1]);
              const Verification found = block->verify();
              if (found.verdict != Verdict::elsewhere) return "verdict " + std::string(to_string(found.verdict));
              return found.placement.pages == std::vector<int>(64, nodes_[1]) ? "" : found.reason;
            }),
            "");
  EXPECT_THROW(migrate_process(nodes_[0], 1023), NotSupported);
  EXPECT_THROW(migrate_process(nodes_[0], 1024), OutOfRange);
}

TEST_F(TwoNodes, ReservedHugePages) {
  const std::uint64_t huge = 2 * mib;
  NumaAllocator allocator;
  for (const int node : nodes_) {
    const std::uint64_t free = free_huge_pages(node, HugePages::size_2m);
    if (free == 0) GTEST_SKIP() << "node " << node << " has no reserved huge page";
    const auto block = allocator.allocate_on_node(huge, node, {HugePages::size_2m, false});
    EXPECT_EQ(tell("on_node(" + std::to_string(node) + "), reserved 2 MiB page", *block).verdict, Verdict::verified);
    // More than this node has, though both together have it.
    EXPECT_THROW(allocator.allocate_on_node((free + 1) * huge, node, {HugePages::size_2m, false}), ResourceExhausted);
  }
}

TEST_F(TwoNodes, GuestMemory) {
  NumaAllocator allocator;
  const std::vector<std::shared_ptr<GuestMemory>> memories = {GuestMemory::anonymous(4 * mib, 0, HugePages::none),
                                                              GuestMemory::anonymous(16 * mib),
                                                              GuestMemory::memfd(4 * mib, 0, "guest", HugePages::none)};
  for (const auto& memory : memories) {
    const std::uint64_t half = memory->size() / 2;
    memory->write(half, "wrong node at first", 19);
    for (std::size_t i = 0; i < 2; ++i) {
      const Migration placed =
          allocator.place(*memory, i * half, half, NumaPolicy::bind({nodes_[i]}), PlaceOptions{true});
      tell("place " + memory->format() + " guest memory, half " + std::to_string(i) + ", bind(" +
               std::to_string(nodes_[i]) + ")",
           placed.binding, placed.verification);
      EXPECT_EQ(placed.verification.verdict, Verdict::verified) << placed.verification.reason;
      EXPECT_EQ(placement_of(*memory, i * half, half).pages, std::vector<int>(half / page, nodes_[i]));
    }
    char text[5];
    memory->read(half, text, sizeof text);
    EXPECT_EQ(std::string(text, 5), "wrong");
    const Migration spread = allocator.place(*memory, 0, 2 * half, NumaPolicy::interleave(nodes_));
    tell("place " + memory->format() + " guest memory, interleave", spread.binding, spread.verification);
    EXPECT_EQ(spread.verification.verdict, Verdict::verified) << spread.verification.reason;
  }
}

TEST_F(TwoNodes, Arrays) {
  for (std::size_t i = 0; i < 2; ++i) {
    const OnCpu there(cpus_[1 - i]);
    ArrayAllocatorOptions options;
    options.huge_pages = i == 0;
    ArrayAllocator arrays(place_arrays(options, NumaPolicy::local(nodes_[i])));
    void* const array = arrays.allocate(4 * mib);
    ASSERT_NE(array, nullptr);
    std::memset(array, 1, 4 * mib);
    const Placement found = placement_of(array, 4 * mib);
    std::cout << "asked arrays on " << nodes_[i] << " from CPU " << cpus_[1 - i] << " | got "
              << found.bytes().at(nodes_[i]) / 1024 << " KiB on node " << nodes_[i] << std::endl;
    EXPECT_EQ(found.pages, std::vector<int>(4 * mib / page, nodes_[i]));
    arrays.free(array);
  }
}

}  // namespace
}  // namespace vm::mem::numa
