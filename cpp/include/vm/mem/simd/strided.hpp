#pragma once
/// \file
/// Copies between arrays whose elements do not lie side by side: slices, transposed and reversed arrays of NumPy.

#include <cstddef>
#include <utility>
#include <vector>

#include "vm/mem/simd/parallel.hpp"

namespace vm::mem::simd {

/// Elements at `data` + sum(index[axis] * strides[axis]); strides are bytes, and may be negative.
template <class Void>
struct Strided {
  Void* data = nullptr;
  std::vector<std::ptrdiff_t> strides;
};

/// Two arrays of one shape.
struct StridedCopy {
  std::size_t item = 1;            ///< bytes of an element
  std::vector<std::size_t> shape;  ///< elements along each axis; empty: one element
  Strided<void> dst;
  Strided<const void> src;
};

/// Copies every element. An axis of the source may have stride 0 (one element for many), one of the destination may
/// not.
///
/// With threads the longest axis of the destination's memory is divided among them.
///
/// \throws InvalidConfig when the numbers of axes differ, when elements of the destination would share an address along
/// an axis, and when the memory between the first and last byte of one array overlaps that of the other, even where
/// their elements take turns: `move_strided` copies those.
void copy_strided(const StridedCopy& copy, const CopyOptions& options, const MemcpyStrategy& strategy);

/// The same for arrays that may overlap in any way; they are then copied twice, through memory of their size.
/// \throws ResourceExhausted when there is not so much memory.
void move_strided(const StridedCopy& copy, const CopyOptions& options, const MemcpyStrategy& strategy);

}  // namespace vm::mem::simd
