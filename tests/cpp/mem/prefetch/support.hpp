#pragma once
// Streams of events, and what a prefetcher proposes for them.

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <vector>

#include "vm/mem/prefetch/prefetcher.hpp"

namespace vm::mem::prefetch::test {

using Pages = std::vector<std::uint64_t>;

inline Pages observe(Prefetcher& prefetcher, std::uint64_t page, std::uint64_t pc = 0) {
  Candidates out;
  prefetcher.observe({page, pc, false}, out);
  return {out.begin(), out.end()};
}

/// What is proposed after the last of `pages`.
inline Pages after(Prefetcher& prefetcher, const Pages& pages, std::uint64_t pc = 0) {
  Pages last;
  for (const std::uint64_t page : pages) last = observe(prefetcher, page, pc);
  return last;
}

/// Pages that nobody can predict.
inline Pages random_pages(std::size_t count, unsigned seed = 1) {
  std::mt19937_64 random(seed);
  Pages pages(count);
  for (std::uint64_t& page : pages) page = random() >> 12;
  return pages;
}

/// `count` pages far apart, in an order without a pattern.
inline Pages scattered(std::size_t count, unsigned seed) {
  Pages pages(count);
  for (std::size_t i = 0; i < count; ++i) pages[i] = 1009 * i;
  std::shuffle(pages.begin(), pages.end(), std::mt19937_64(seed));
  return pages;
}

/// first, first + step, ...
inline Pages run(std::uint64_t first, std::int64_t step, std::size_t count) {
  Pages pages;
  for (std::size_t i = 0; i < count; ++i) pages.push_back(first + static_cast<std::uint64_t>(step) * i);
  return pages;
}

/// `first`, and then the steps again and again.
inline Pages steps(std::uint64_t first, std::initializer_list<std::int64_t> cycle, std::size_t count) {
  Pages pages;
  for (std::size_t i = 0; i < count; ++i) {
    pages.push_back(first);
    first += static_cast<std::uint64_t>(*(cycle.begin() + static_cast<std::ptrdiff_t>(i % cycle.size())));
  }
  return pages;
}

}  // namespace vm::mem::prefetch::test
