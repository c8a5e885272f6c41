#pragma once
// The TLBs for many threads that the same tests run on.

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "vm/mem/tlb/hybrid_tlb.hpp"
#include "vm/mem/tlb/sharded_tlb.hpp"

namespace vm::mem::tlb::test {

// Looks up by arrays of one, so that what holds for single look-ups is tested of arrays too.
template <class T>
class ByArrays final : public Tlb {
 public:
  template <class... Arguments>
  explicit ByArrays(Arguments... arguments) : tlb_(arguments...) {}

  bool lookup(std::uint64_t vaddr, Context context, Hit& hit) noexcept override {
    bool found = false;
    const std::size_t hits = tlb_.lookup(&vaddr, 1, context, &hit, &found);
    return found && hits == 1;
  }
  bool contains(std::uint64_t vaddr, Context context) const noexcept override { return tlb_.contains(vaddr, context); }
  FillTicket begin_fill() const noexcept override { return tlb_.begin_fill(); }
  bool insert(const Entry& entry, FillTicket ticket) noexcept override { return tlb_.insert(entry, ticket); }
  void flush(const FlushRequest& request) noexcept override { tlb_.flush(request); }
  TlbStats stats() const override { return tlb_.stats(); }
  std::size_t size() const noexcept override { return tlb_.size(); }
  std::size_t capacity() const noexcept override { return tlb_.capacity(); }

 private:
  T tlb_;
};

struct Shape {
  std::string name;
  std::function<std::unique_ptr<Tlb>(std::uint32_t sets)> make;
};

inline const Shape sharded4{"sharded4", [](std::uint32_t sets) { return std::make_unique<ShardedTlb>(4 * sets, 4); }};
// 7, 9, ... sets of 8 ways: neither number of the usual shape.
inline const Shape sharded8{"sharded8",
                            [](std::uint32_t sets) { return std::make_unique<ShardedTlb>(8 * (sets - 1), 8); }};
// Private levels that hold nearly all pages of the tests: they miss seldom enough not to stand aside.
inline const Shape hybrid{"hybrid", [](std::uint32_t sets) { return std::make_unique<HybridTlb>(64, 4, 4 * sets, 4); }};
inline const Shape sharded4_arrays{
    "sharded4_arrays", [](std::uint32_t sets) { return std::make_unique<ByArrays<ShardedTlb>>(4 * sets, 4U); }};
inline const Shape sharded8_arrays{
    "sharded8_arrays", [](std::uint32_t sets) { return std::make_unique<ByArrays<ShardedTlb>>(8 * (sets - 1), 8U); }};
inline const Shape sharded4_arrays_baseline{"sharded4_arrays_baseline", [](std::uint32_t sets) {
                                              return std::make_unique<ByArrays<ShardedTlb>>(
                                                  4 * sets, 4U, &detail::baseline_probe_kernel);
                                            }};
inline const Shape hybrid_arrays{
    "hybrid_arrays", [](std::uint32_t sets) { return std::make_unique<ByArrays<HybridTlb>>(64U, 4U, 4 * sets, 4U); }};

class ConcurrentTlb : public testing::TestWithParam<Shape> {};

inline auto shapes() {
  return testing::Values(sharded4, sharded8, hybrid, sharded4_arrays, sharded8_arrays, sharded4_arrays_baseline,
                         hybrid_arrays);
}
inline std::string shape_name(const testing::TestParamInfo<Shape>& shape) { return shape.param.name; }

}  // namespace vm::mem::tlb::test
