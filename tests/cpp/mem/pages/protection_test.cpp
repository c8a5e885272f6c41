// Rights of pages, and the two mappings of a JIT. The oracle is /proc/self/maps, and code that runs.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "support.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/dual_mapping.hpp"
#include "vm/mem/pages/host_page.hpp"
#include "vm/mem/pages/page_block.hpp"

namespace vm::mem {
namespace {

using testing::rights_of;
using testing::signal_of_reading;

const std::uint64_t page = host_page_size();
constexpr Access rw = Access::read | Access::write;
constexpr Access rx = Access::read | Access::execute;
constexpr Access rwx = rw | Access::execute;

#if defined(__x86_64__)
// mov eax, 42; ret
constexpr std::array<unsigned char, 6> return_42 = {0xB8, 42, 0, 0, 0, 0xC3};
#elif defined(__aarch64__)
// mov w0, #42; ret
constexpr std::array<unsigned char, 8> return_42 = {0x40, 0x05, 0x80, 0x52, 0xC0, 0x03, 0x5F, 0xD6};
#endif

int run(const std::byte* code) {
  int (*function)() = nullptr;
  static_assert(sizeof function == sizeof code);
  std::memcpy(&function, &code, sizeof code);
  return function();
}

PageBlock* make(std::uint64_t pages, WxPolicy policy) {
  PageOptions options;
  options.huge_pages = HugePages::none;
  options.guard = page;  // so that no neighbour's mapping can be joined
  options.wx_policy = policy;
  return new PageBlock(pages * page, options);
}

std::string message_of(PageBlock& block, std::uint64_t offset, std::uint64_t size, Access access) {
  try {
    block.protect(offset, size, access);
  } catch (const AccessViolation& error) {
    return error.what();
  }
  return {};
}

TEST(Protection, TheKernelHasWhatIsTracked) {
  const std::unique_ptr<PageBlock> block(make(64, WxPolicy::unrestricted));
  std::vector<Access> model(64, rw);
  std::mt19937 random(7);
  const Access choices[] = {Access::none, Access::read, rw, rx, rwx};
  for (int round = 0; round < 300; ++round) {
    const std::uint64_t first = random() % 64;
    const std::uint64_t count = random() % (65 - first);
    const Access access = choices[random() % std::size(choices)];
    block->protect(first * page, count * page, access);
    std::fill_n(model.begin() + static_cast<std::ptrdiff_t>(first), count, access);
  }
  std::uint64_t end = 0;
  for (const RightsRange& run : block->protection().ranges()) {
    EXPECT_EQ(run.offset, end);
    end = run.offset + run.size;
  }
  EXPECT_EQ(end, 64 * page);
  for (std::uint64_t i = 0; i < 64; ++i) {
    EXPECT_EQ(block->protection().at(i * page), model[i]);
    EXPECT_EQ(rights_of(block->data() + i * page), to_string(model[i]) + "p");
  }
  block->protect(0, 64 * page, rw);
  EXPECT_EQ(block->protection().ranges().size(), 1U);
}

TEST(Protection, NoPageIsWritableAndExecutableAtOnce) {
  const std::unique_ptr<PageBlock> block(make(4, WxPolicy::exclusive));
  block->protect(page, page, rx);
  const std::string message = message_of(*block, 0, 4 * page, rwx);
  for (const char* part : {"0x0", "rw-", "rwx", "exclusive"}) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
  EXPECT_EQ(rights_of(block->data()), "rw-p");  // nothing changed
  block->protect(page, page, rw);               // taking turns is allowed
  EXPECT_EQ(block->protection().policy(), WxPolicy::exclusive);
}

TEST(Protection, StrictNeverGoesBack) {
  const std::unique_ptr<PageBlock> block(make(4, WxPolicy::strict));
  block->protect(2 * page, page, rx);
  block->protect(2 * page, page, Access::read);  // not executable any more, but it was
  const std::string message = message_of(*block, 0, 4 * page, rw);
  for (const char* part : {"r--", "rw-", "strict"}) EXPECT_NE(message.find(part), std::string::npos) << message;
  EXPECT_NE(message.find(hex(2 * page)), std::string::npos) << message;
  block->protect(0, 4 * page, Access::read);
  EXPECT_EQ(block->protection().ranges().size(), 1U);  // with equal rights they are one run, whatever they were
  block->protect(0, 2 * page, rw);
  EXPECT_NE(message_of(*block, 2 * page, page, rw), "");
  block->protect(3 * page, page, rw);
}

TEST(Protection, UnrestrictedIsUnrestricted) {
  const std::unique_ptr<PageBlock> block(make(1, WxPolicy::unrestricted));
  block->protect(0, page, rwx);
  EXPECT_EQ(rights_of(block->data()), "rwxp");
}

TEST(Protection, WhatMakesNoSenseIsRefused) {
  const std::unique_ptr<PageBlock> block(make(4, WxPolicy::exclusive));
  EXPECT_THROW(block->protect(1, page, Access::read), InvalidConfig);
  EXPECT_THROW(block->protect(0, page + 1, Access::read), InvalidConfig);
  EXPECT_THROW(block->protect(4 * page, page, Access::read), OutOfRange);
  EXPECT_THROW(block->protect(page, UINT64_MAX, Access::read), OutOfRange);
  EXPECT_THROW(block->protection().at(4 * page), OutOfRange);
  block->protect(4 * page, 0, Access::none);
  EXPECT_THROW(Protection(block->data(), page + 1, page, WxPolicy::strict, rw), InvalidConfig);
  EXPECT_THROW(Protection(block->data() + 1, page, page, WxPolicy::strict, rw), InvalidConfig);
  EXPECT_THROW(Protection(block->data(), page, page, WxPolicy::strict, rwx), AccessViolation);
}

TEST(Protection, ReadOnlyPagesAreNotFilledOrGivenBack) {
  const std::unique_ptr<PageBlock> block(make(4, WxPolicy::exclusive));
  block->protect(2 * page, page, Access::read);
  EXPECT_THROW(block->prefault(), AccessViolation);
  EXPECT_THROW(block->purge(), AccessViolation);
  block->prefault(0, 2 * page);
  block->purge(3 * page, page);
}

TEST(Protection, AGuardInTheMiddle) {
  const std::unique_ptr<PageBlock> block(make(3, WxPolicy::exclusive));
  block->protect(page, page, Access::none);
  EXPECT_EQ(signal_of_reading(block->data() + page), SIGSEGV);
  EXPECT_EQ(signal_of_reading(block->data() + 2 * page), 0);
}

// The allocators of sanitizers need mappings of their own.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(Protection, WhenThereAreNoMoreMappingsNothingChanges) {
  std::uint64_t limit = 0;
  std::ifstream("/proc/sys/vm/max_map_count") >> limit;
  if (limit == 0 || limit > 100'000) GTEST_SKIP() << "max_map_count is " << limit << ": too many to use up in a test";
  {
    // Room for malloc, which cannot grow once there are no mappings left.
    std::vector<std::unique_ptr<char[]>> room(16'000);
    for (auto& some : room) some = std::make_unique<char[]>(1000);
    const auto end_of_the_room = std::make_unique<char[]>(1000);
  }
  const std::uint64_t pages = 2 * limit + 8;
  const std::unique_ptr<PageBlock> block(make(pages, WxPolicy::exclusive));
  std::uint64_t last = 1;
  std::string refused;
  try {
    for (; last + 2 < pages; last += 2) block->protect(last * page, page, Access::read);
  } catch (const ResourceExhausted& error) {
    refused = error.what();
  }
  const std::string kernel = rights_of(block->data() + last * page);
  const Access tracked = block->protection().at(last * page);
  block->protect(0, pages * page, rw);  // gives the mappings back before anybody needs memory for a message
  EXPECT_NE(refused.find("max_map_count"), std::string::npos) << refused;
  EXPECT_EQ(kernel, "rw-p");
  EXPECT_EQ(tracked, rw);
  EXPECT_EQ(block->protection().ranges().size(), 1U);
}
#endif

#if defined(__x86_64__) || defined(__aarch64__)
TEST(Protection, CodeRunsWhereItMay) {
  const std::unique_ptr<PageBlock> block(make(1, WxPolicy::strict));
  std::memcpy(block->data(), return_42.data(), return_42.size());
  block->protect(0, page, rx);
  EXPECT_EQ(run(block->data()), 42);
}

TEST(DualMapping, WhatIsWrittenRuns) {
  DualMapping code(100);
  EXPECT_EQ(code.size(), 100U);
  EXPECT_NE(code.writable(), code.executable());
  EXPECT_EQ(rights_of(code.writable()), "rw-s");
  EXPECT_EQ(rights_of(code.executable()), "r-xs");
  code.write(16, return_42.data(), return_42.size());
  EXPECT_EQ(run(code.executable() + 16), 42);
  // By hand, and again while the first version exists.
  std::array<unsigned char, return_42.size()> other = return_42;
#if defined(__x86_64__)
  other[1] = 7;
#else
  other[0] = 0xE0;  // mov w0, #7
  other[1] = 0x00;
#endif
  std::memcpy(code.writable() + 16, other.data(), other.size());
  code.flush(16, other.size());
  EXPECT_EQ(run(code.executable() + 16), 7);
  code.seal();
  code.seal();
  EXPECT_TRUE(code.sealed());
  EXPECT_EQ(code.writable(), nullptr);
  EXPECT_EQ(run(code.executable() + 16), 7);
  EXPECT_THROW(code.write(16, return_42.data(), 1), AccessViolation);
}
#endif

TEST(DualMapping, TheExecutableViewStaysWhatItIs) {
  const DualMapping code(page);
  // What an attacker would try next.
  EXPECT_NE(::mprotect(const_cast<std::byte*>(code.executable()), page, PROT_READ | PROT_WRITE), 0);
  EXPECT_EQ(rights_of(code.executable()), "r-xs");
}

TEST(DualMapping, AChildCannotChangeTheCode) {
  DualMapping code(page);
  const unsigned char before = 1, after = 2;
  code.write(0, &before, 1);
  std::byte* const writable = code.writable();
  EXPECT_EQ(signal_of_reading(writable), SIGSEGV);
  const pid_t child = ::fork();
  if (child == 0) {
    bool right = code.sealed() && code.writable() == nullptr && *code.executable() == std::byte{1};
    try {
      code.write(0, &after, 1);
      right = false;
    } catch (const AccessViolation&) {
    }
    code.flush(0, page);
    // What is mapped there later is not the code's.
    void* const others = ::mmap(writable, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    code.seal();
    ::_exit(right && others == writable && rights_of(writable) == "r--p" ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(*code.executable(), std::byte{1});
  EXPECT_FALSE(code.sealed());
  code.write(0, &after, 1);
  EXPECT_EQ(*code.executable(), std::byte{2});
}

TEST(DualMapping, RangesAreChecked) {
  DualMapping code(page);
  const char byte = 0;
  EXPECT_THROW(DualMapping(0), InvalidConfig);
  EXPECT_THROW(DualMapping(UINT64_MAX), ResourceExhausted);
  EXPECT_THROW(code.write(page, &byte, 1), OutOfRange);
  EXPECT_THROW(code.write(UINT64_MAX, &byte, 2), OutOfRange);
  EXPECT_THROW(code.flush(1, page), OutOfRange);
  code.write(page, nullptr, 0);
}

}  // namespace
}  // namespace vm::mem
