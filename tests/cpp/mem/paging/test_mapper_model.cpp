// Random changes against a dictionary of pages: after every step the tables say what the dictionary says, and a refused
// change has changed nothing.

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "support.hpp"

namespace vm::mem::paging {
namespace {

using namespace test;

struct Page {
  std::uint64_t paddr;
  Access access;
  bool user;
};

class ModelTest : public testing::TestWithParam<Layout> {
 protected:
  std::uint64_t page = GetParam().page_sizes[0];
  std::uint64_t large = GetParam().page_sizes[1];
  std::uint64_t base = GetParam().base;
  Machine m{std::uint64_t{4} << 20};
  AddressSpace space{m.memory, GetParam().config};
  std::map<std::uint64_t, Page> pages;
  std::mt19937_64 random{7};

  std::uint64_t below(std::uint64_t n) { return random() % n; }
  Access expressible(Access access) const {
    if (GetParam().name[0] != 's' || has(access, w)) access |= r;
    return GetParam().name == "x86_2" ? access | x : access;
  }
  /// Whole pages near a border between two large ones; sometimes large pages.
  void random_range(std::uint64_t& vaddr, std::uint64_t& size) {
    if (below(4) == 0) {
      vaddr = base + below(3) * large;
      size = (1 + below(2)) * large;
    } else {
      vaddr = base + large - 8 * page + below(16) * page;
      size = (1 + below(12)) * page;
    }
  }
  bool any_mapped(std::uint64_t vaddr, std::uint64_t size) const {
    const auto it = pages.lower_bound(vaddr);
    return it != pages.end() && it->first < vaddr + size;
  }

  void map() {
    MapRequest request;
    random_range(request.vaddr, request.size);
    request.paddr = below(2) == 0 ? below(64) * page : request.vaddr % (std::uint64_t{1} << 31) / large * large;
    request.access = static_cast<Access>(1 + below(7));
    request.user = below(2) == 0;
    if (below(3) == 0) request.page_size = page;
    if (any_mapped(request.vaddr, request.size)) {
      EXPECT_THROW(space.map(request), InvalidConfig);
      return;
    }
    space.map(request);
    for (std::uint64_t offset = 0; offset < request.size; offset += page)
      pages[request.vaddr + offset] = {request.paddr + offset, expressible(request.access), request.user};
  }
  void unmap() {
    std::uint64_t vaddr, size;
    random_range(vaddr, size);
    const auto first = pages.lower_bound(vaddr);
    const auto last = pages.lower_bound(vaddr + size);
    EXPECT_EQ(space.unmap(vaddr, size), static_cast<std::uint64_t>(std::distance(first, last)) * page);
    pages.erase(first, last);
  }
  void protect() {
    std::uint64_t vaddr, size;
    random_range(vaddr, size);
    const auto access = static_cast<Access>(1 + below(7));
    const std::optional<bool> to_user = below(3) == 0 ? std::nullopt : std::optional(below(2) == 0);
    for (std::uint64_t offset = 0; offset < size; offset += page) {
      if (pages.count(vaddr + offset) != 0) continue;
      try {
        space.protect(vaddr, size, access, to_user);
        FAIL() << "no page at " << hex(vaddr + offset);
      } catch (const PageFault& fault) {
        EXPECT_EQ(fault.info().vaddr, vaddr + offset);
      }
      return;
    }
    space.protect(vaddr, size, access, to_user);
    for (std::uint64_t offset = 0; offset < size; offset += page) {
      Page& p = pages[vaddr + offset];
      p.access = expressible(access);
      p.user = to_user.value_or(p.user);
    }
  }

  void check() const {
    std::map<std::uint64_t, Page> found;
    for (const Mapping& mapping : space.mappings()) {
      const bool user_page = has_any(mapping.user_access, rwx);
      for (std::uint64_t offset = 0; offset < mapping.size; offset += page)
        found[mapping.vaddr + offset] = {mapping.paddr + offset, user_page ? mapping.user_access : mapping.access,
                                         user_page};
    }
    ASSERT_EQ(found.size(), pages.size());
    auto b = pages.begin();
    for (auto a = found.begin(); a != found.end(); ++a, ++b) {
      ASSERT_EQ(a->first, b->first);
      ASSERT_EQ(a->second.paddr, b->second.paddr) << hex(a->first);
      ASSERT_EQ(a->second.access, b->second.access) << hex(a->first);
      ASSERT_EQ(a->second.user, b->second.user) << hex(a->first);
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Formats, ModelTest, testing::ValuesIn(layouts()),
                         [](const auto& layout) { return layout.param.name; });

TEST_P(ModelTest, AgreesWithADictionary) {
  const std::vector<std::uint8_t> blank = m.bytes();
  for (int step = 0; step < 300 && !HasFailure(); ++step) {
    switch (below(5)) {
      case 0:
      case 1: map(); break;
      case 2:
      case 3: unmap(); break;
      default: protect(); break;
    }
    check();
  }
  EXPECT_EQ(space.unmap(base, 6 * large), pages.size() * page);
  EXPECT_EQ(m.bytes() == blank, true) << "all tables went back";
}

}  // namespace
}  // namespace vm::mem::paging
