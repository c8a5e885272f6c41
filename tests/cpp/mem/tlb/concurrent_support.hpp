#pragma once
// The TLBs for many threads that the same tests run on.

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "vm/mem/tlb/hybrid_tlb.hpp"
#include "vm/mem/tlb/sharded_tlb.hpp"

namespace vm::mem::tlb::test {

struct Shape {
  std::string name;
  std::function<std::unique_ptr<Tlb>(std::uint32_t sets)> make;
};

inline const Shape sharded4{"sharded4", [](std::uint32_t sets) { return std::make_unique<ShardedTlb>(4 * sets, 4); }};
// 7, 9, ... sets of 8 ways: neither number of the usual shape.
inline const Shape sharded8{"sharded8",
                            [](std::uint32_t sets) { return std::make_unique<ShardedTlb>(8 * (sets - 1), 8); }};
inline const Shape hybrid{"hybrid", [](std::uint32_t sets) { return std::make_unique<HybridTlb>(16, 4, 4 * sets, 4); }};

class ConcurrentTlb : public testing::TestWithParam<Shape> {};

inline auto shapes() { return testing::Values(sharded4, sharded8, hybrid); }
inline std::string shape_name(const testing::TestParamInfo<Shape>& shape) { return shape.param.name; }

}  // namespace vm::mem::tlb::test
