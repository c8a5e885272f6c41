// Allocation on whatever machine this is, one node or many.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"
#include "vm/mem/numa/allocator.hpp"
#include "vm/mem/numa/arrays.hpp"
#include "vm/mem/numa/node_memory.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem::numa {
namespace {

const std::uint64_t page = host_page_size();
const std::uint64_t size = 16 * page;

/// The first node with memory: every test machine has one.
int some_node(const NumaAllocator& allocator) { return allocator.decide(NumaPolicy::interleave()).nodes.front(); }

bool is_filled(const NumaBlock& block, std::uint64_t count, unsigned char value) {
  return std::all_of(block.data(), block.data() + count, [value](std::byte b) { return b == std::byte{value}; });
}

class NumaMachine : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = placement_unavailable()) GTEST_SKIP() << *reason;
  }
};

TEST_F(NumaMachine, AStrictBlockIsWhereItWasAsked) {
  NumaAllocator allocator;
  const int node = some_node(allocator);
  for (const Through through : {Through::automatic, Through::system_calls}) {
    NumaAllocator chosen(NumaPolicy::local(), through);
    const auto block = chosen.allocate_on_node(size + 1, node);
    EXPECT_EQ(block->size(), size + 1);
    EXPECT_TRUE(is_filled(*block, block->size(), 0));
    EXPECT_TRUE(block->binding().bound());
    EXPECT_EQ(block->decision().mode, Mode::bind);
    const Verification found = block->verify();
    EXPECT_EQ(found.verdict, Verdict::verified) << found.reason;
    EXPECT_EQ(found.placement.pages, std::vector<int>(17, node));
    EXPECT_EQ(found.placement.bytes().at(node), 17 * page);
  }
  NumaAllocator calls(NumaPolicy::local(), Through::system_calls);
  EXPECT_EQ(calls.through(), "mbind");
  EXPECT_EQ(calls.allocate_on_node(size, node)->binding().through, "mbind");
}

TEST_F(NumaMachine, ARangeOfSomebodyElseIsBound) {
  NumaAllocator allocator;
  const int node = some_node(allocator);
  const auto mapping = HostMapping::anonymous(size, HugePages::none);
  EXPECT_EQ(bind_range(mapping->data(), size, allocator.decide(NumaPolicy::bind({node}))), 0);
  std::memset(mapping->data(), 1, size);
  EXPECT_EQ(placement_of(mapping->data(), size).pages, std::vector<int>(16, node));
  Decision impossible = allocator.decide(NumaPolicy::bind({node}));
  impossible.nodes = {1 << 20};
  EXPECT_EQ(bind_range(mapping->data(), size, impossible), EINVAL);
  EXPECT_EQ(bind_range(mapping->data() + 1, size, allocator.decide(NumaPolicy::bind({node}))), EINVAL);
}

TEST_F(NumaMachine, OthersAreUnverifiedBeforeTheyAreTouched) {
  NumaAllocator allocator(NumaPolicy::local(), Through::automatic);
  const auto block = allocator.allocate(size, BlockOptions{HugePages::none, false});
  EXPECT_EQ(block->verify().verdict, Verdict::unverified);
  EXPECT_EQ(block->placement().absent_bytes(), size);
  std::memset(block->data(), 1, 3 * page);
  EXPECT_EQ(block->placement().absent_bytes(), 13 * page);
  block->populate();
  EXPECT_EQ(block->verify().verdict, Verdict::verified);
  EXPECT_TRUE(is_filled(*block, 3 * page, 1));
  // Reading brings the kernel's page of zeros, which is nowhere.
  const auto read = allocator.allocate(size, BlockOptions{HugePages::none, false});
  EXPECT_TRUE(is_filled(*read, size, 0));
  EXPECT_EQ(read->placement().absent_bytes(), size);

  EXPECT_EQ(allocator.allocate_local(size, {HugePages::none, true})->verify().verdict, Verdict::verified);
  EXPECT_EQ(allocator.allocate_interleaved(size, {}, {HugePages::none, true})->verify().verdict, Verdict::verified);
  const auto near = allocator.allocate_cpu_local(size, allocator.topology().allowed_cpus.front());
  EXPECT_EQ(near->verify().verdict, Verdict::verified);
  EXPECT_THROW(allocator.allocate(0), InvalidConfig);
  EXPECT_THROW(allocator.allocate_on_node(size, 1 << 20), OutOfRange);
  EXPECT_THROW(allocator.allocate_cpu_local(size, 1 << 20), OutOfRange);
}

TEST_F(NumaMachine, MoreThanTheNodesHaveIsRefusedBeforeItIsTouched) {
  NumaAllocator allocator;
  const int node = some_node(allocator);
  const std::uint64_t all = node_memory(node).total;
  const std::uint64_t much = (all + (all >> 1)) / page * page;
  EXPECT_THROW(allocator.allocate_on_node(much, node), ResourceExhausted);
  // Also where the policy comes after the memory. Never touched, if all is well.
  const NumaPolicy strict = NumaPolicy::bind({node});
  const auto guest = GuestMemory::anonymous(much);
  EXPECT_THROW(allocator.place(*guest, 0, much, strict, PlaceOptions{true}), ResourceExhausted);
  if (much < std::uint64_t{1} << 37) {  // a migration looks at every page
    const auto block = allocator.allocate_local(much, BlockOptions{HugePages::none, false});
    block->migrate(strict);
    EXPECT_THROW(block->populate(), ResourceExhausted);
  }
  if (free_huge_pages(node, HugePages::size_2m) == 0) {
    EXPECT_THROW(allocator.allocate_on_node(std::uint64_t{1} << 21, node, {HugePages::size_2m, false}), VmError);
  }
}

TEST_F(NumaMachine, ReplicasMayBeWrittenFromOneOfThem) {
  NumaAllocator allocator;
  const auto one = allocator.allocate_local(size);
  const auto two = allocator.allocate_local(size);
  const std::vector<std::byte*> copies = {one->data(), two->data()};
  // As on a machine with a node more than this one may have.
  ReplicatedBlock replicas(allocator.topology(), {some_node(allocator), 1 << 20}, {one, two});
  for (std::size_t from = 0; from < 2; ++from) {
    std::vector<std::byte> before(size);
    for (std::size_t i = 0; i < size; ++i) before[i] = static_cast<std::byte>(i * 7 + i / 251 + from);
    replicas.write(0, before.data(), size);
    replicas.write(100, copies[from], size - 100);
    for (const std::byte* copy : copies) {
      EXPECT_EQ(std::memcmp(copy, before.data(), 100), 0);
      EXPECT_EQ(std::memcmp(copy + 100, before.data(), size - 100), 0) << "from copy " << from;
    }
  }
}

TEST_F(NumaMachine, ReplicasAreEqual) {
  NumaAllocator allocator;
  const auto replicas = allocator.allocate_replicated(size);
  EXPECT_EQ(replicas->nodes(), allocator.decide(NumaPolicy::interleave()).nodes);
  replicas->write(page - 2, "abcd", 4);
  for (const int node : replicas->nodes()) {
    EXPECT_EQ(std::memcmp(replicas->on(node)->data() + page - 2, "abcd", 4), 0);
    EXPECT_EQ(replicas->on(node)->verify().verdict, Verdict::verified);
  }
  const int first = replicas->nodes().front();
  std::memset(replicas->on(first)->data(), 7, size);
  replicas->synchronize(first);
  for (const int node : replicas->nodes()) EXPECT_TRUE(is_filled(*replicas->on(node), size, 7));
  EXPECT_EQ(replicas->local()->size(), size);
  EXPECT_THROW(replicas->write(size - 1, "ab", 2), OutOfRange);
  EXPECT_THROW(replicas->on(1 << 20), OutOfRange);
  replicas->close();
  EXPECT_TRUE(replicas->closed());
  EXPECT_THROW(replicas->write(0, "a", 1), ClosedError);
}

TEST_F(NumaMachine, ABlockOutlivesItsAllocatorAndItsBytesOutliveTheBlock) {
  auto allocator = std::make_unique<NumaAllocator>();
  const auto block = allocator->allocate_local(size, {HugePages::none, true});
  allocator.reset();
  const auto bytes = block->mapping();
  block->close();
  block->close();
  EXPECT_TRUE(block->closed());
  EXPECT_EQ(block->size(), size);
  EXPECT_THROW(block->data(), ClosedError);
  EXPECT_THROW(block->verify(), ClosedError);
  EXPECT_THROW(block->migrate(NumaPolicy::interleave()), ClosedError);
  std::memset(bytes->data(), 1, size);
}

TEST_F(NumaMachine, StatisticsAreMeasured) {
  NumaAllocator allocator;
  const int node = some_node(allocator);
  const auto of_node = [&] {
    const auto all = allocator.statistics();
    return *std::find_if(all.begin(), all.end(), [node](const NodeStatistics& found) { return found.node == node; });
  };
  EXPECT_EQ(of_node().blocks, 0U);
  EXPECT_EQ(of_node().resident_bytes, 0U);
  const auto strict = allocator.allocate_on_node(size, node);
  auto lazy = allocator.allocate_local(size, {HugePages::none, false});
  lazy->migrate(NumaPolicy::bind({node}));
  EXPECT_EQ(of_node().blocks, 2U);
  EXPECT_EQ(of_node().resident_bytes, size);
  EXPECT_EQ(of_node().stray_bytes, 0U);
  std::memset(lazy->data(), 1, page);
  EXPECT_EQ(of_node().resident_bytes, size + page);
  lazy.reset();
  strict->close();
  EXPECT_EQ(of_node().blocks, 0U);
  EXPECT_EQ(of_node().resident_bytes, 0U);
  EXPECT_GE(of_node().allocations, 1U);
  EXPECT_EQ(of_node().migrated_bytes, 0U);
}

TEST_F(NumaMachine, GuestMemoryIsPlacedInWholePages) {
  NumaAllocator allocator;
  const int node = some_node(allocator);
  const auto memory = GuestMemory::anonymous(size, 0x10000, HugePages::none);
  memory->add(*GuestMemory::memfd(size, 0x10000 + size, "guest", HugePages::none));
  memory->write(0x10000, "there", 5);
  const Migration placed = allocator.place(*memory, 0x10000, 2 * size, NumaPolicy::bind({node}));
  EXPECT_TRUE(placed.binding.bound());
  EXPECT_EQ(placed.absent_bytes, 2 * size - page);
  EXPECT_EQ(placed.already_bytes + placed.moved_bytes, page);
  EXPECT_EQ(placed.verification.verdict, Verdict::unverified);
  const Migration full = allocator.place(*memory, 0x10000, 2 * size, NumaPolicy::bind({node}), PlaceOptions{true});
  EXPECT_EQ(full.verification.verdict, Verdict::verified) << full.verification.reason;
  EXPECT_EQ(placement_of(*memory, 0x10000 + size - page, 2 * page).pages, std::vector<int>(2, node));
  char text[5];
  memory->read(0x10000, text, sizeof text);
  EXPECT_EQ(std::string(text, 5), "there");

  const NumaPolicy policy = NumaPolicy::interleave();
  EXPECT_THROW(allocator.place(*memory, 0, page, policy), OutOfRange);
  EXPECT_THROW(allocator.place(*memory, 0x10000, 2 * size + page, policy), OutOfRange);
  EXPECT_THROW(allocator.place(*memory, 0x10000, page / 2, policy), InvalidConfig);
  EXPECT_THROW(allocator.place(*memory, 0x10000 + page / 2, page, policy), InvalidConfig);
  const std::string path = testing::TempDir() + "numa_place.raw";
  memory->save(path, ImageFormat::raw);
  const auto file = GuestMemory::file(path);
  EXPECT_THROW(allocator.place(*file, 0, page, policy), NotSupported);
  file->close();
  std::remove(path.c_str());
  EXPECT_THROW(allocator.place(*file, 0, page, policy), ClosedError);
}

TEST_F(NumaMachine, ThreadsAllocateMigrateMeasureAndClose) {
  NumaAllocator allocator;
  const int node = some_node(allocator);
  const auto shared = allocator.allocate_local(size, {HugePages::none, true});
  const auto replicas = allocator.allocate_replicated(page);
  std::atomic<int> failures{0};
  const auto work = [&](int kind) {
    for (int round = 0; round < 20; ++round) {
      switch (kind) {
        case 0: {
          const auto block = allocator.allocate_on_node(size, node);
          if (block->verify().verdict != Verdict::verified) ++failures;
          break;
        }
        case 1:
          if (shared->migrate(round % 2 == 0 ? NumaPolicy::bind({node}) : NumaPolicy::interleave()).failed_bytes != 0) {
            ++failures;
          }
          break;
        case 2:
          if (allocator.statistics().empty() || shared->decision().nodes.empty()) ++failures;
          break;
        default:
          if (replicas->local()->size() != page) ++failures;
          allocator.allocate_interleaved(page)->close();
      }
    }
  };
  std::vector<std::thread> threads;
  for (int kind = 0; kind < 4; ++kind) threads.emplace_back(work, kind);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
}

TEST(Arrays, PoliciesWithFallbackOnly) {
  EXPECT_THROW(place_arrays({}, NumaPolicy::bind({0})), InvalidConfig);
  EXPECT_THROW(place_arrays({}, NumaPolicy::local(0, false)), InvalidConfig);
  EXPECT_THROW(place_arrays({}, NumaPolicy::local(4000)), OutOfRange);
}

TEST(Arrays, GetNothingWhereTheKernelRefuses) {
  ArrayAllocatorOptions options;
  options.retain = 0;
  std::uint64_t asked = 0;
  options.place = [&asked](void* start, std::uint64_t bytes) {
    asked = start == nullptr ? 0 : bytes;
    return EPERM;
  };
  ArrayAllocator arrays(options);
  EXPECT_EQ(arrays.allocate(std::uint64_t{3} << 20), nullptr);
  EXPECT_GE(asked, std::uint64_t{3} << 20);
  EXPECT_EQ(arrays.stats().failures, 1U);
  EXPECT_EQ(arrays.stats().mapped_bytes, 0U);
}

}  // namespace
}  // namespace vm::mem::numa
