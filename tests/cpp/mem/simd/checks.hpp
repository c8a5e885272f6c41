#pragma once
/// \file
/// What every kernel has to do, against the C library. Without a test framework, so that the program for other
/// processors (cross_main.cpp) can run it too: each check returns what is wrong, or nothing.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "vm/mem/simd/strategy.hpp"

namespace vm::mem::simd {

using Random = std::mt19937_64;
using Bytes = std::vector<unsigned char>;

inline constexpr std::size_t edge = 64;       // bytes around a destination that must stay as they are
inline constexpr std::size_t checked = 4096;  // every size up to this one

inline Bytes random_bytes(std::size_t size, Random& random) {
  Bytes bytes(size);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random());
  return bytes;
}

/// The methods of one instruction set, each from the first size that it can do; `string` only where there is one.
inline std::vector<CopyPlan> plans_of(InstructionSet set) {
  CopyPlan vector;
  vector.instruction_set = set;
  CopyPlan stream = vector;
  stream.stream_from = stream.fill_stream_from = stream.stream_hint_from = 0;
  stream.prefetch_distance = 512;
  std::vector<CopyPlan> plans{vector, stream};
#if defined(__x86_64__) || defined(_M_X64)
  CopyPlan string = vector;
  string.string_from = string.fill_string_from = 0;
  plans.push_back(string);
#endif
  return plans;
}

/// Memory that starts on a page, surrounded by bytes that are not looked at by anybody but the check.
class Field {
 public:
  explicit Field(Random& random) : source_(random_bytes(size, random)), before_(random_bytes(size, random)) {}

  static constexpr std::size_t size = 3 * checked + 4 * edge;

  unsigned char* fresh() {
    ours_ = before_;
    theirs_ = before_;
    return ours_.data();
  }
  const unsigned char* source() const { return source_.data(); }
  unsigned char* expected() { return theirs_.data(); }
  bool equal() const { return std::memcmp(ours_.data(), theirs_.data(), size) == 0; }

 private:
  Bytes source_, before_, ours_, theirs_;
};

inline std::string where(const char* what, std::size_t n, std::size_t to, std::size_t from) {
  return std::string(what) + " of " + std::to_string(n) + " bytes, destination at " + std::to_string(to) +
         ", source at " + std::to_string(from);
}

/// Every size up to 4096 at alignments of this run's choice, and nothing written beside it.
inline std::string check_copies(const MemcpyStrategy& s, Random& random) {
  Field field(random);
  for (std::size_t n = 0; n <= checked; ++n) {
    const std::size_t to = edge + random() % 64, from = random() % 64;
    unsigned char* ours = field.fresh();
    s.copy(ours + to, field.source() + from, n);
    std::memcpy(field.expected() + to, field.source() + from, n);
    if (!field.equal()) return where("copy", n, to, from);
    ours = field.fresh();
    s.copy_streaming(ours + to, field.source() + from, n);
    std::memcpy(field.expected() + to, field.source() + from, n);
    if (!field.equal()) return where("streaming copy", n, to, from);
  }
  return "";
}

/// Moves up and down by distances of this run's choice, half of them short.
inline std::string check_moves(const MemcpyStrategy& s, Random& random) {
  Field field(random);
  for (std::size_t n = 0; n <= checked; ++n) {
    const std::size_t from = checked + random() % 64, reach = n % 2 == 0 ? 130 : checked;
    const std::size_t to = from - reach + random() % (2 * reach + 1);
    unsigned char* ours = field.fresh();
    s.move(ours + to, ours + from, n);
    std::memmove(field.expected() + to, field.expected() + from, n);
    if (!field.equal()) return where("move", n, to, from);
  }
  return "";
}

inline std::string check_fills(const MemcpyStrategy& s, Random& random) {
  Field field(random);
  for (std::size_t n = 0; n <= checked; ++n) {
    const std::size_t to = edge + random() % 64;
    const auto value = static_cast<unsigned char>(random());
    s.fill(field.fresh() + to, value, n);
    std::memset(field.expected() + to, value, n);
    if (!field.equal()) return where("fill", n, to, 0);
  }
  return "";
}

inline int sign(int order) { return (order > 0 ? 1 : 0) - (order < 0 ? 1 : 0); }

/// Equal memory, and memory that differs in one byte or in several.
inline std::string check_comparisons(const MemcpyStrategy& s, Random& random) {
  Field field(random);
  for (std::size_t n = 0; n <= checked; ++n) {
    const std::size_t to = random() % 64, from = random() % 64;
    unsigned char* ours = field.fresh() + to;
    const unsigned char* source = field.source() + from;
    std::memcpy(ours, source, n);
    ours[n] = static_cast<unsigned char>(~source[n]);  // the first byte behind does not count
    if (s.mismatch(ours, source, n) != n || s.compare(ours, source, n) != 0) return where("equality", n, to, from);
    if (n == 0) continue;
    const std::size_t at = random() % n, second = at + random() % (n - at);
    ours[at] = static_cast<unsigned char>(source[at] + 1 + random() % 255);
    ours[second] = static_cast<unsigned char>(source[second] + 1 + random() % 255);
    if (s.mismatch(ours, source, n) != at) return where("first difference", n, to, from);
    if (sign(s.compare(ours, source, n)) != sign(std::memcmp(ours, source, n))) return where("order", n, to, from);
  }
  return "";
}

/// Two pages between pages that nobody may touch.
class GuardedPages {
 public:
  GuardedPages() : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))), bytes_(2 * page_) {
    void* all = mmap(nullptr, bytes_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) return;
    all_ = static_cast<unsigned char*>(all);
    if (mprotect(all_ + page_, bytes_, PROT_READ | PROT_WRITE) != 0) broken_ = true;
  }
  ~GuardedPages() {
    if (all_ != nullptr) munmap(all_, bytes_ + 2 * page_);
  }
  GuardedPages(const GuardedPages&) = delete;
  GuardedPages& operator=(const GuardedPages&) = delete;

  bool ready() const { return all_ != nullptr && !broken_; }
  unsigned char* first() const { return all_ + page_; }
  /// The n bytes before the guard.
  unsigned char* last(std::size_t n) const { return first() + bytes_ - n; }
  std::size_t size() const { return bytes_; }

 private:
  std::size_t page_, bytes_;
  unsigned char* all_ = nullptr;
  bool broken_ = false;
};

/// Buffers that end before a page without rights, and that start after one: whoever reaches beyond is killed.
inline std::string check_guards(const MemcpyStrategy& s, Random& random) {
  const GuardedPages a, b;
  if (!a.ready() || !b.ready()) return "mmap failed";
  const Bytes content = random_bytes(a.size(), random);
  std::vector<std::size_t> sizes;
  for (std::size_t n = 0; n <= 1100; ++n) sizes.push_back(n);
  for (std::size_t n : {std::size_t{4095}, std::size_t{4096}, std::size_t{4097}, a.size()}) sizes.push_back(n);
  for (const std::size_t n : sizes) {
    unsigned char* const sides[][2] = {
        {a.first(), b.first()}, {a.first(), b.last(n)}, {a.last(n), b.first()}, {a.last(n), b.last(n)}};
    for (const auto& [to, from] : sides) {
      std::memcpy(from, content.data(), n);
      s.fill(to, 0x5a, n);
      if (n != 0 && (to[0] != 0x5a || to[n - 1] != 0x5a)) return where("fill beside a guard", n, 0, 0);
      s.copy(to, from, n);
      if (std::memcmp(to, content.data(), n) != 0) return where("copy beside a guard", n, 0, 0);
      s.fill(to, 0, n);
      s.copy_streaming(to, from, n);
      if (std::memcmp(to, content.data(), n) != 0) return where("streaming copy beside a guard", n, 0, 0);
      s.fill(to, 0, n);
      s.move(to, from, n);
      if (s.mismatch(to, from, n) != n) return where("move beside a guard", n, 0, 0);
    }
  }
  s.copy(nullptr, nullptr, 0);  // touches nothing
  return "";
}

inline std::string check_everything(const MemcpyStrategy& s, Random& random) {
  for (const auto check : {check_copies, check_moves, check_fills, check_comparisons, check_guards}) {
    const std::string wrong = check(s, random);
    if (!wrong.empty()) return wrong;
  }
  return "";
}

}  // namespace vm::mem::simd
