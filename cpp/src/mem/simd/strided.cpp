#include "vm/mem/simd/strided.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "mem/simd/shares.hpp"
#include "vm/core/error.hpp"

namespace vm::mem::simd {
namespace {

using Byte = unsigned char;

struct Axis {
  std::size_t count;
  std::ptrdiff_t dst, src;
};

// A copy brought into the order of the destination's memory: strides there are positive and descend, axes that continue
// each other are one, and `run` bytes are contiguous on both sides.
struct Plan {
  Byte* dst;
  const Byte* src;
  std::size_t run;
  std::vector<Axis> axes;
  std::size_t elements = 1;  // runs in all
};

std::ptrdiff_t distance(std::ptrdiff_t stride, std::size_t count) {
  return stride * static_cast<std::ptrdiff_t>(count);
}

bool empty(const StridedCopy& copy) {
  return copy.item == 0 || std::find(copy.shape.begin(), copy.shape.end(), 0U) != copy.shape.end();
}

void check(const StridedCopy& copy) {
  if (copy.dst.strides.size() != copy.shape.size() || copy.src.strides.size() != copy.shape.size())
    throw InvalidConfig("the shape has " + std::to_string(copy.shape.size()) + " axes, the destination " +
                        std::to_string(copy.dst.strides.size()) + " and the source " +
                        std::to_string(copy.src.strides.size()) + " strides; give one for each axis");
  if (empty(copy)) return;
  for (std::size_t axis = 0; axis < copy.shape.size(); ++axis)
    if (copy.shape[axis] > 1 && copy.dst.strides[axis] == 0)
      throw InvalidConfig("axis " + std::to_string(axis) + " of the destination has stride 0 and " +
                          std::to_string(copy.shape[axis]) + " elements, which would all be stored at one address");
}

// First byte and the one after the last.
template <class Void>
std::pair<std::uintptr_t, std::uintptr_t> extent(const Strided<Void>& side, const StridedCopy& copy) {
  std::uintptr_t first = reinterpret_cast<std::uintptr_t>(side.data), end = first + copy.item;
  for (std::size_t axis = 0; axis < copy.shape.size(); ++axis) {
    const auto reach = static_cast<std::uintptr_t>(distance(side.strides[axis], copy.shape[axis] - 1));
    (side.strides[axis] < 0 ? first : end) += reach;
  }
  return {first, end};
}

bool overlap(const StridedCopy& copy) {
  const auto [dst_first, dst_end] = extent(copy.dst, copy);
  const auto [src_first, src_end] = extent(copy.src, copy);
  return dst_first < src_end && src_first < dst_end;
}

Plan plan_of(const StridedCopy& copy) {
  Plan plan{static_cast<Byte*>(copy.dst.data), static_cast<const Byte*>(copy.src.data), copy.item, {}};
  for (std::size_t i = 0; i < copy.shape.size(); ++i) {
    Axis axis{copy.shape[i], copy.dst.strides[i], copy.src.strides[i]};
    if (axis.count == 1) continue;
    if (axis.dst < 0) {  // from its other end
      plan.dst += distance(axis.dst, axis.count - 1);
      plan.src += distance(axis.src, axis.count - 1);
      axis.dst = -axis.dst;
      axis.src = -axis.src;
    }
    plan.axes.push_back(axis);
  }
  std::stable_sort(plan.axes.begin(), plan.axes.end(), [](const Axis& a, const Axis& b) { return a.dst > b.dst; });
  std::vector<Axis> joined;
  for (const Axis& axis : plan.axes) {
    if (!joined.empty() && joined.back().dst == distance(axis.dst, axis.count) &&
        joined.back().src == distance(axis.src, axis.count)) {
      joined.back() = {joined.back().count * axis.count, axis.dst, axis.src};
    } else {
      joined.push_back(axis);
    }
  }
  const auto item = static_cast<std::ptrdiff_t>(copy.item);
  if (!joined.empty() && joined.back().dst == item && joined.back().src == item) {
    plan.run *= joined.back().count;
    joined.pop_back();
  }
  plan.axes = std::move(joined);
  for (const Axis& axis : plan.axes) plan.elements *= axis.count;
  return plan;
}

// Elements of a size that the compiler knows, `from` bytes apart, put side by side. Distances that are known too (every
// second one, backwards) become vector shuffles.
template <std::size_t size, std::ptrdiff_t known = 0>
void gather_row(Byte* dst, const Byte* src, std::ptrdiff_t from, std::size_t count) noexcept {
  const std::ptrdiff_t step = known != 0 ? known : from;
  for (std::size_t i = 0; i < count; ++i) std::memcpy(dst + i * size, src + distance(step, i), size);
}

template <std::size_t size>
struct Fixed {
  void operator()(Byte* dst, const Byte* src, std::ptrdiff_t to, std::ptrdiff_t from,
                  std::size_t count) const noexcept {
    constexpr auto item = static_cast<std::ptrdiff_t>(size);
    if (to == item && from == -item) return gather_row<size, -item>(dst, src, from, count);
    if (to == item && from == 2 * item) return gather_row<size, 2 * item>(dst, src, from, count);
    if (to == item) return gather_row<size>(dst, src, from, count);
    for (std::size_t i = 0; i < count; ++i, dst += to, src += from) std::memcpy(dst, src, size);
  }
};

struct Run {
  const MemcpyStrategy& strategy;
  std::size_t size;
  bool streaming;
  void operator()(Byte* dst, const Byte* src, std::ptrdiff_t to, std::ptrdiff_t from,
                  std::size_t count) const noexcept {
    for (std::size_t i = 0; i < count; ++i, dst += to, src += from) {
      if (streaming) {
        strategy.copy_streaming(dst, src, size);
      } else {
        strategy.copy(dst, src, size);
      }
    }
  }
};

// Elements of a square have their lines in the first cache on both sides, whichever way either is laid out.
constexpr std::size_t square = 32;

template <class Copy>
void copy_plane(Byte* dst, const Byte* src, const Axis& outer, const Axis& inner, const Copy& copy) noexcept {
  const bool crossed = std::abs(inner.src) > std::abs(outer.src);  // transposed
  const std::size_t rows = crossed ? square : 1, columns = crossed ? square : inner.count;
  for (std::size_t row = 0; row < outer.count; row += rows)
    for (std::size_t column = 0; column < inner.count; column += columns)
      for (std::size_t i = row; i < std::min(row + rows, outer.count); ++i) {
        Byte* to = dst + distance(outer.dst, i) + distance(inner.dst, column);
        const Byte* from = src + distance(outer.src, i) + distance(inner.src, column);
        copy(to, from, inner.dst, inner.src, std::min(columns, inner.count - column));
      }
}

template <class Copy>
void copy_axes(Byte* dst, const Byte* src, const Axis* axis, std::size_t axes, const Copy& copy) noexcept {
  if (axes > 2) {
    for (std::size_t i = 0; i < axis->count; ++i)
      copy_axes(dst + distance(axis->dst, i), src + distance(axis->src, i), axis + 1, axes - 1, copy);
  } else if (axes == 2) {
    copy_plane(dst, src, axis[0], axis[1], copy);
  } else {
    copy_plane(dst, src, {1, 0, 0}, axis[0], copy);
  }
}

void copy_by_size(const Plan& plan, const CopyOptions& options, const MemcpyStrategy& strategy) noexcept {
  const auto all = [&](const auto& copy) { copy_axes(plan.dst, plan.src, plan.axes.data(), plan.axes.size(), copy); };
  switch (plan.run) {
    case 1: return all(Fixed<1>{});
    case 2: return all(Fixed<2>{});
    case 4: return all(Fixed<4>{});
    case 8: return all(Fixed<8>{});
    case 16: return all(Fixed<16>{});
    default: return all(Run{strategy, plan.run, options.streaming});
  }
}

void copy_disjoint(const StridedCopy& copy, const CopyOptions& options, const MemcpyStrategy& strategy) {
  const Plan plan = plan_of(copy);
  if (plan.axes.empty()) return copy_parallel(plan.dst, plan.src, plan.run, options, strategy);
  const auto longest = std::max_element(plan.axes.begin(), plan.axes.end(),
                                        [](const Axis& a, const Axis& b) { return a.count < b.count; });
  const auto divided = static_cast<std::size_t>(longest - plan.axes.begin());
  const unsigned shares = static_cast<unsigned>(
      std::min<std::size_t>(copy_threads(plan.elements * plan.run, options, strategy.plan()), longest->count));
  std::vector<Plan> parts(shares, plan);
  for (unsigned share = 0; share < shares; ++share) {
    Axis& axis = parts[share].axes[divided];
    const std::size_t begin = detail::share_begin(axis.count, shares, share);
    parts[share].dst += distance(axis.dst, begin);
    parts[share].src += distance(axis.src, begin);
    axis.count = detail::share_begin(axis.count, shares, share + 1) - begin;
  }
  detail::for_each_share(shares, [&](unsigned share) { copy_by_size(parts[share], options, strategy); });
}

}  // namespace

void copy_strided(const StridedCopy& copy, const CopyOptions& options, const MemcpyStrategy& strategy) {
  check(copy);
  if (empty(copy)) return;
  if (overlap(copy))
    throw InvalidConfig(
        "the destination overlaps the source, or lies between its elements; memmove_fast (C++: "
        "move_strided) copies such arrays");
  copy_disjoint(copy, options, strategy);
}

void move_strided(const StridedCopy& copy, const CopyOptions& options, const MemcpyStrategy& strategy) {
  check(copy);
  if (empty(copy)) return;
  if (!overlap(copy)) return copy_disjoint(copy, options, strategy);
  StridedCopy out = copy;
  std::size_t size = copy.item;
  for (std::size_t axis = copy.shape.size(); axis-- > 0;) {
    out.dst.strides[axis] = static_cast<std::ptrdiff_t>(size);
    size *= copy.shape[axis];
  }
  const std::unique_ptr<Byte[]> between(new (std::nothrow) Byte[size]);
  if (between == nullptr)
    throw ResourceExhausted("overlapping arrays are copied through memory of their size, and " + std::to_string(size) +
                            " bytes are not to be had; copy them in parts");
  out.dst.data = between.get();
  copy_disjoint(out, options, strategy);
  StridedCopy back = copy;
  back.src = {between.get(), out.dst.strides};
  copy_disjoint(back, options, strategy);
}

}  // namespace vm::mem::simd
