#include "core/synthetic.hpp"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <set>
#include <string>

#include "vm/core/error.hpp"

namespace vm::detail {

namespace {

constexpr int level_limit = 32;
constexpr std::uint64_t index_limit = std::uint64_t{1} << 20;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool is_memory(std::string_view name) {
  return name == "node" || name == "numa" || name == "numanode" || name == "NUMANode";
}

bool is_cache(std::string_view name) {
  if (name.size() < 2 || name.size() > 3 || (name[0] != 'l' && name[0] != 'L') || name[1] < '1' || name[1] > '5') {
    return false;
  }
  return name.size() == 2 || name[2] == 'd' || (name[2] == 'i' && name[1] <= '3');
}

bool is_processor(std::string_view name) {
  const std::string_view known[] = {"pack", "package", "socket", "die",   "group", "core",
                                    "pu",   "Package", "Die",    "Group", "Core",  "PU"};
  return std::find(std::begin(known), std::end(known), name) != std::end(known);
}

class Checker {
 public:
  explicit Checker(std::string_view description) : description_(description) {}

  void run() {
    int levels = 0;
    for (skip_spaces(); at_ < description_.size(); skip_spaces()) {
      if (++levels > level_limit) fail("more than " + std::to_string(level_limit) + " levels");
      check_level();
    }
    if (levels == 0) fail("nothing at all");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw InvalidConfig("the synthetic description '" + std::string(description_.substr(0, 80)) + "' has " + what +
                        " at position " + std::to_string(at_) +
                        "; one looks like 'pack:2 [numa(memory=4GB)] l3:1 core:4 pu:2'");
  }

  char next() const { return at_ < description_.size() ? description_[at_] : '\0'; }

  void skip_spaces() {
    while (next() == ' ' || next() == '\n') ++at_;
  }

  void expect(char wanted) {
    if (next() != wanted) fail(std::string("no '") + wanted + "'");
    ++at_;
  }

  void check_level() {
    if (next() == '[') {
      ++at_;
      if (!is_memory(take_name())) fail("something other than memory in brackets");
      if (next() == '(') check_attributes();
      return expect(']');
    }
    if (!is_digit(next())) {
      const std::string_view name = take_name();
      if (!is_memory(name) && !is_cache(name) && !is_processor(name)) fail("the unknown type " + std::string(name));
      expect(':');
    }
    cpus_ *= take_count();
    if (cpus_ > synthetic_cpu_limit) fail("more than " + std::to_string(synthetic_cpu_limit) + " CPUs");
    if (next() == '(') check_attributes();
  }

  std::string_view take_name() {
    const std::size_t start = at_;
    if (!is_letter(next())) fail("no name");
    while (is_letter(next()) || is_digit(next())) ++at_;
    return description_.substr(start, at_ - start);
  }

  /// Without a leading zero, which would make it octal, and small enough to multiply.
  std::uint64_t take_count() {
    if (!is_digit(next()) || next() == '0') fail("no count");
    std::uint64_t count = 0;
    while (is_digit(next())) {
      count = count * 10 + static_cast<std::uint64_t>(description_[at_++] - '0');
      if (count > synthetic_cpu_limit) fail("more than " + std::to_string(synthetic_cpu_limit) + " CPUs");
    }
    return count;
  }

  void check_attributes() {
    expect('(');
    while (next() != ')') {
      const std::string_view name = take_name();
      expect('=');
      if (name == "indexes") {
        check_indexes();
      } else if (name == "memory" || name == "size") {
        if (!is_digit(next())) fail("no size");
        while (is_digit(next()) || is_letter(next())) ++at_;
      } else {
        fail("an attribute that is not memory, size or indexes");
      }
      if (next() == ' ') skip_spaces();
    }
    expect(')');
  }

  /// hwloc keeps sets of them as bitmaps, which are as long as the largest is high.
  void check_indexes() {
    std::set<std::uint64_t> seen;
    for (;; ++at_) {
      std::uint64_t index = 0;
      if (!is_digit(next())) fail("no index");
      while (is_digit(next())) {
        index = index * 10 + static_cast<std::uint64_t>(description_[at_++] - '0');
        if (index >= index_limit) fail("an index beyond " + std::to_string(index_limit));
      }
      if (!seen.insert(index).second) fail("the same index twice");
      if (next() != ',') return;
    }
  }

  std::string_view description_;
  std::size_t at_ = 0;
  std::uint64_t cpus_ = 1;
};

}  // namespace

void check_synthetic(std::string_view description) { Checker(description).run(); }

}  // namespace vm::detail
