// Every engine and every thread count gives what the scalar walker gives, address by address, and leaves the same
// memory behind when it sets A and D flags. The tables are random: valid ones, reserved bits, blocks at every level,
// tables outside memory, loops.

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "random_tables.hpp"
#include "vm/core/error.hpp"

namespace vm::mem::paging {
namespace {

struct Answers {
  std::vector<std::uint64_t> paddr;
  std::vector<PackedInfo> info;
  std::vector<std::byte> memory;
};

Answers finish(Answers answers, const GuestMemory& memory) {
  answers.memory.resize(memory_size);
  memory.read(0, answers.memory.data(), memory_size);
  return answers;
}

Answers scalar_answers(const Format& f, const std::vector<std::uint64_t>& addresses, const BatchRequest& request,
                       bool update) {
  const auto memory = random_memory(f);
  const AddressSpace space(memory, f.config, {std::nullopt, update});
  Answers answers;
  for (const std::uint64_t address : addresses) {
    const Translation t = space.try_translate(GuestVirtual{address}, request.access, request.privilege);
    answers.paddr.push_back(t.ok() ? t.paddr : no_address);
    answers.info.push_back(pack(t));
  }
  return finish(std::move(answers), *memory);
}

Answers batch_answers(const Format& f, const std::vector<std::uint64_t>& addresses, const BatchRequest& request,
                      bool update) {
  const auto memory = random_memory(f);
  const AddressSpace space(memory, f.config, {std::nullopt, update});
  Answers answers;
  answers.paddr.resize(addresses.size());
  answers.info.resize(addresses.size());
  space.translate(addresses.data(), addresses.size(), answers.paddr.data(), answers.info.data(), request);
  return finish(std::move(answers), *memory);
}

class BatchTest : public testing::TestWithParam<Format> {};

TEST_P(BatchTest, EveryEngineEqualsTheWalker) {
  const Format& f = GetParam();
  const std::vector<std::uint64_t> addresses = random_addresses(f, 2, 8'011);
  const std::vector<Engine> engines = AddressSpace(random_memory(f), f.config).engines();
  std::size_t translated = 0;
  for (const Access access : {Access::none, Access::read, Access::read | Access::write, Access::execute}) {
    for (const Privilege privilege : {Privilege::supervisor, Privilege::user}) {
      for (const bool update : {false, true}) {
        BatchRequest request;
        request.access = access;
        request.privilege = privilege;
        const Answers expected = scalar_answers(f, addresses, request, update);
        for (const PackedInfo info : expected.info) translated += is_fault(info) ? 0 : 1;
        for (const Engine engine : engines) {
          request.engine = engine;
          const Answers got = batch_answers(f, addresses, request, update);
          for (std::size_t i = 0; i < addresses.size(); ++i) {
            ASSERT_EQ(got.paddr[i], expected.paddr[i]) << to_string(engine) << " at " << hex(addresses[i]);
            ASSERT_EQ(got.info[i], expected.info[i]) << to_string(engine) << " at " << hex(addresses[i]);
          }
          EXPECT_EQ(got.memory == expected.memory, true) << to_string(engine) << ": A and D flags differ";
        }
      }
    }
  }
  EXPECT_GT(translated, addresses.size() / 8) << "the random tables are too hostile to test anything";
}

TEST_P(BatchTest, ThreadsDoNotChangeTheAnswers) {
  const Format& f = GetParam();
  const std::vector<std::uint64_t> addresses = random_addresses(f, 3, 70'003);
  BatchRequest request;
  const Answers expected = batch_answers(f, addresses, request, false);
  for (const unsigned threads : {0U, 2U, 5U}) {
    request.threads = threads;
    const Answers got = batch_answers(f, addresses, request, false);
    EXPECT_EQ(got.paddr == expected.paddr, true) << threads << " threads";
    EXPECT_EQ(got.info == expected.info, true) << threads << " threads";
  }
}

TEST_P(BatchTest, ThreadsMayRaceToSetFlags) {
  const Format& f = GetParam();
  const std::vector<std::uint64_t> addresses = random_addresses(f, 4, 60'000);
  BatchRequest request;
  request.access = Access::read | Access::write;
  const Answers expected = batch_answers(f, addresses, request, true);
  request.threads = 4;
  const Answers got = batch_answers(f, addresses, request, true);
  EXPECT_EQ(got.memory == expected.memory, true);
}

// Remembers whole answers.
class MapFront final : public BatchFront {
 public:
  std::size_t answer(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, PackedInfo* info,
                     const Missed& missed) noexcept override {
    EXPECT_LE(count, block);
    std::size_t misses = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const auto known = known_.find(vaddr[i]);
      if (known == known_.end()) {
        missed.index[misses] = missed.first + static_cast<std::uint32_t>(i);
        missed.vaddr[misses++] = vaddr[i];
        paddr[i] = 1;  // nonsense, to be written over
        continue;
      }
      ++hits;
      paddr[i] = known->second.first;
      info[i] = known->second.second;
    }
    return misses;
  }
  void learn(const std::uint64_t* vaddr, std::size_t count, const std::uint64_t* paddr,
             const PackedInfo* info) noexcept override {
    for (std::size_t i = 0; i < count; ++i) known_[vaddr[i]] = {paddr[i], info[i]};
  }

  std::size_t hits = 0;

 private:
  std::unordered_map<std::uint64_t, std::pair<std::uint64_t, PackedInfo>> known_;
};

TEST_P(BatchTest, AFrontIsAskedFirstAndToldTheRest) {
  const Format& f = GetParam();
  std::vector<std::uint64_t> addresses = random_addresses(f, 5, 6'007);
  for (std::size_t i = 0; i < 3000; ++i) addresses.push_back(addresses[i * 7 % 6007]);
  for (const Engine engine : AddressSpace(random_memory(f), f.config).engines()) {
    BatchRequest request;
    request.engine = engine;
    const Answers expected = batch_answers(f, addresses, request, false);
    MapFront front;
    request.front = &front;
    for (int again = 0; again < 2; ++again) {
      const Answers got = batch_answers(f, addresses, request, false);
      EXPECT_EQ(got.paddr == expected.paddr, true) << to_string(engine);
      EXPECT_EQ(got.info == expected.info, true) << to_string(engine);
    }
    EXPECT_GE(front.hits, addresses.size()) << "all of the second time";
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, BatchTest, testing::ValuesIn(formats()),
                         [](const auto& tested) { return tested.param.name; });

TEST(BatchEngineTest, EmptyAndTinyBatches) {
  const Format f = formats()[2];
  const AddressSpace space(random_memory(f), f.config);
  BatchRequest request;
  for (const Engine engine : space.engines()) {
    request.engine = engine;
    space.translate(nullptr, 0, nullptr, nullptr, request);
    std::uint64_t address = 0x1234;
    std::uint64_t paddr = 0;
    PackedInfo info = 0;
    space.translate(&address, 1, &paddr, &info, request);
    EXPECT_EQ(info, pack(space.try_translate(GuestVirtual{address})));
  }
}

TEST(BatchEngineTest, AnEngineThatTheFormatLacksIsNotSupported) {
  const Format f = formats()[0];
  const AddressSpace space(random_memory(f), f.config);
  std::uint64_t address = 0;
  std::uint64_t paddr = 0;
  PackedInfo info = 0;
  BatchRequest request;
  request.engine = Engine::avx2;
  EXPECT_THROW(space.translate(&address, 1, &paddr, &info, request), NotSupported);
}

TEST(BatchEngineTest, KeepGoingEndsTheCallEarly) {
  const Format f = formats()[2];
  const AddressSpace space(random_memory(f), f.config);
  const std::vector<std::uint64_t> addresses(std::size_t{3} << 18, 0x1000);
  std::vector<std::uint64_t> paddr(addresses.size(), 7);
  std::vector<PackedInfo> info(addresses.size());
  BatchRequest request;
  int asked = 0;
  request.keep_going = [&] { return ++asked < 2; };
  space.translate(addresses.data(), addresses.size(), paddr.data(), info.data(), request);
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(paddr.back(), 7U);
}

TEST(BatchEngineTest, AutomaticChoiceFollowsSizeAndFootprint) {
  const Format f = formats()[2];
  const AddressSpace space(random_memory(f), f.config);
  const std::vector<std::uint64_t> one_table(100'000, 0x1000);
  EXPECT_EQ(space.choose_engine(one_table.data(), 10), Engine::walk);
  EXPECT_NE(space.choose_engine(one_table.data(), one_table.size()), Engine::walk);
  std::vector<std::uint64_t> scattered(4096);
  for (std::size_t i = 0; i < scattered.size(); ++i) scattered[i] = i << 21;  // each in a table of its own
  EXPECT_EQ(space.choose_engine(scattered.data(), scattered.size()), Engine::group_prefetch);
}

}  // namespace
}  // namespace vm::mem::paging
