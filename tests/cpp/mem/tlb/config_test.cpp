// Configurations that make no sense are refused with the number in the message.

#include "vm/mem/tlb/config.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "vm/core/error.hpp"

namespace {

using namespace vm::mem::tlb;

std::string refusal(const std::function<void(TlbConfig&)>& change) {
  TlbConfig config;
  change(config);
  try {
    validate(config);
  } catch (const vm::InvalidConfig& error) {
    return error.what();
  }
  return "accepted";
}

void expect_refusal(const std::function<void(TlbConfig&)>& change, const std::string& part) {
  EXPECT_NE(refusal(change).find(part), std::string::npos) << refusal(change) << "\n does not say: " << part;
}

ArrayConfig array(std::uint32_t sets, std::uint32_t ways, std::vector<std::uint8_t> sizes = {}) {
  return {sets, ways, Replacement::lru, std::move(sizes)};
}

TEST(TlbConfig, Sizes) {
  EXPECT_EQ(refusal([](TlbConfig&) {}), "accepted");
  EXPECT_EQ(refusal([](TlbConfig& c) { c.l2_size = c.l3_size = 0; }), "accepted");
  EXPECT_EQ(refusal([](TlbConfig& c) { c.l1_size = c.l1_ways = 96; }), "accepted");
  expect_refusal([](TlbConfig& c) { c.l1_size = 0; }, "l1_size is 0");
  expect_refusal([](TlbConfig& c) { c.l1_ways = 0; }, "l1_ways is 0");
  expect_refusal([](TlbConfig& c) { c.l2_ways = 0; }, "l2_ways is 0");
  expect_refusal([](TlbConfig& c) { c.l3_ways = 3; }, "l3_size is 4096, which is not a multiple of l3_ways (3)");
  expect_refusal([](TlbConfig& c) { c.l2_size = 0; }, "l2_size is 0 but l3_size is 4096");
  expect_refusal([](TlbConfig& c) { c.l3_size = 1 << 30; }, "at most 16777216 entries");
  expect_refusal([](TlbConfig& c) { c.strategy = Strategy::hybrid, c.l3_size = 0; }, "strategy 'hybrid'");
}

TEST(TlbConfig, Levels) {
  EXPECT_EQ(refusal([](TlbConfig& c) { c.levels = {{{array(3, 7, {12}), array(1, 4)}}}; }), "accepted");
  expect_refusal([](TlbConfig& c) { c.levels = {{}}; }, "l1 has no arrays");
  expect_refusal([](TlbConfig& c) { c.levels = {{{array(0, 4)}}}; }, "l1 array 0 has 0 sets");
  expect_refusal([](TlbConfig& c) { c.levels = {{{array(4, 4)}}, {{array(4, 0)}}}; }, "l2 array 0 has 0 ways");
  expect_refusal([](TlbConfig& c) { c.levels = {{{array(1 << 20, 17)}}}; }, "1048576 sets of 17 ways");
  expect_refusal(
      [](TlbConfig& c) {
        c.levels = {{{array(4, 4, {12}), array(4, 4, {21, 12})}}};
      },
      "l1 array 1 names pages of 2^12 bytes, which l1 already has");
  expect_refusal([](TlbConfig& c) { c.levels = {{{array(4, 4), array(4, 4)}}}; }, "names no page sizes");
  expect_refusal([](TlbConfig& c) { c.levels = {{{array(4, 4, {11})}}}; }, "pages of 2^11 bytes");
  expect_refusal([](TlbConfig& c) { c.levels = {{{array(4, 4, {58})}}}; }, "pages of 2^58 bytes");
  expect_refusal([](TlbConfig& c) { c.levels.assign(9, {{array(4, 4)}}); }, "there are 9 levels");
  expect_refusal([](TlbConfig& c) { c.strategy = Strategy::concurrent, c.levels = {{{array(4, 4)}}}; },
                 "levels are given with strategy 'concurrent'");
}

TEST(TlbConfig, WhatTheConcurrentOnesCannotDo) {
  for (const Strategy strategy : {Strategy::concurrent, Strategy::hybrid}) {
    EXPECT_EQ(refusal([&](TlbConfig& c) { c.strategy = strategy; }), "accepted");
    EXPECT_EQ(refusal([&](TlbConfig& c) { c.strategy = strategy, c.l3_ways = 32; }), "accepted");
    expect_refusal([&](TlbConfig& c) { c.strategy = strategy, c.l3_ways = 64; }, "l3_ways is 64");
    for (const Replacement other : {Replacement::tree_plru, Replacement::fifo, Replacement::random})
      expect_refusal([&](TlbConfig& c) { c.strategy = strategy, c.replacement = other; },
                     std::string("replacement is '") + to_string(other) + "' with strategy '" + to_string(strategy));
  }
  expect_refusal([](TlbConfig& c) { c.strategy = Strategy::hybrid, c.l1_size = c.l1_ways = 64; }, "l1_ways is 64");
  EXPECT_EQ(refusal([](TlbConfig& c) { c.strategy = Strategy::concurrent, c.l1_size = c.l1_ways = 64; }), "accepted")
      << "it has no l1";
}

TEST(TlbConfig, TheRest) {
  expect_refusal([](TlbConfig& c) { c.flush_policy = FlushPolicy::batched, c.flush_batch = 0; }, "flush_batch is 0");
  expect_refusal([](TlbConfig& c) { c.flush_policy = FlushPolicy::delayed, c.flush_delay_ns = 0; },
                 "flush_delay_ns is 0");
  expect_refusal([](TlbConfig& c) { c.enable_prefetch = true, c.prefetch_distance = 0; }, "prefetch_distance is 0");
  expect_refusal([](TlbConfig& c) { c.enable_prediction = true; }, "without enable_prefetch");
}

TEST(TlbConfig, LevelsOfSizes) {
  TlbConfig config;
  config.l3_size = 0;
  const std::vector<LevelConfig> levels = levels_of(config);
  ASSERT_EQ(levels.size(), 2U);
  EXPECT_EQ(levels[1].arrays[0].sets, 64U);
  EXPECT_EQ(levels[1].arrays[0].ways, 8U);
}

}  // namespace
