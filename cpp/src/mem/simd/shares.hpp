#pragma once
/// \file
/// One piece of work done by several threads.

#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

namespace vm::mem::simd::detail {

/// Calls `work(share)` for every share in [0, shares), the last one in the calling thread and each other in a thread of
/// its own, or, where the system has no more threads, in the calling thread too. `work` must not throw.
template <class Work>
void for_each_share(unsigned shares, const Work& work) {
  std::vector<std::thread> helpers;
  unsigned next = 0;
  try {
    if (shares > 1) helpers.reserve(shares - 1);
    for (; next + 1 < shares; ++next) helpers.emplace_back([&work, next] { work(next); });
  } catch (const std::exception&) {  // std::system_error, std::bad_alloc: what has no thread is done below
  }
  for (; next < shares; ++next) work(next);
  for (std::thread& helper : helpers) helper.join();
}

/// Where a share of `count` things begins; share + 1 says where it ends.
inline std::size_t share_begin(std::size_t count, unsigned shares, unsigned share) noexcept {
  const std::size_t each = count / shares, more = count % shares;
  return each * share + (share < more ? share : more);
}

}  // namespace vm::mem::simd::detail
