// LazyMemory: contents, granularity, prefetch, discarding, hostile arguments, what close leaves to others.
#include "vm/mem/guest/lazy_memory.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <random>

#include "lazy_support.hpp"
#include "support.hpp"
#include "vm/core/error.hpp"

namespace vm::mem {
namespace {

using namespace test;

TEST(LazyMemory, EveryByteIsTheSources) {
  REQUIRE_LAZY_MEMORY();
  constexpr std::uint64_t size = 2 * mib;
  LazyMemory lazy(size, pattern_source());
  const HostView view = lazy.memory()->view(0, size);
  std::mt19937_64 random(1);
  for (int i = 0; i < 300; ++i) {
    const std::uint64_t offset = random() % size;
    ASSERT_EQ(touch(view, offset), byte_at(offset)) << offset;
  }
  EXPECT_LT(lazy.resident(), lazy.pages());
  for (std::uint64_t offset = 0; offset < size; offset += 61) ASSERT_EQ(touch(view, offset), byte_at(offset)) << offset;
  EXPECT_EQ(lazy.resident(), size / page);
  const LazyStats stats = lazy.stats();
  EXPECT_EQ(stats.pages_filled, size / page);
  EXPECT_EQ(stats.faults, size / page + stats.coalesced);
  EXPECT_EQ(stats.source_calls, size / page);
  EXPECT_EQ(stats.bytes, size);
  EXPECT_GT(stats.fill_ns, 0U);
}

TEST(LazyMemory, ReadsAndWritesStraddleMissingPages) {
  REQUIRE_LAZY_MEMORY();
  LazyOptions options;
  options.base = 0x10000;
  LazyMemory lazy(64 * kib, pattern_source(), options);
  const auto memory = lazy.memory();
  EXPECT_EQ(memory->base(), 0x10000U);
  EXPECT_EQ(memory->format(), "lazy");
  EXPECT_TRUE(memory->lazy());
  Bytes bytes(3 * page);
  memory->read(0x10000 + page - 5, bytes.data(), bytes.size());
  for (std::size_t i = 0; i < bytes.size(); ++i) ASSERT_EQ(bytes[i], byte_at(page - 5 + i));
  EXPECT_EQ(lazy.resident(), 4U);
  EXPECT_EQ(lazy.stats().populated_pages, 4U);
  EXPECT_EQ(lazy.stats().faults, 0U);
  memory->write(0x10000 + 8 * page - 2, "abcd", 4);
  memory->read(0x10000 + 8 * page - 3, bytes.data(), 6);
  EXPECT_EQ(bytes[0], byte_at(8 * page - 3));
  EXPECT_EQ(std::memcmp(&bytes[1], "abcd", 4), 0);
  EXPECT_EQ(bytes[5], byte_at(8 * page + 2));
}

TEST(LazyMemory, AShortLastPageEndsInZeros) {
  REQUIRE_LAZY_MEMORY();
  std::uint64_t asked_to = 0;
  LazyMemory lazy(5 * page + 100, function_source([&](std::uint64_t offset, std::byte* out, std::size_t size) {
                    asked_to = std::max(asked_to, offset + size);
                    fill_with_pattern(offset, out, size);
                  }));
  lazy.populate_all();
  EXPECT_EQ(asked_to, 5 * page + 100);
  EXPECT_EQ(lazy.pages(), 6U);
  const HostView view = lazy.memory()->view(5 * page, 100);
  EXPECT_EQ(touch(view, 99), byte_at(5 * page + 99));
  EXPECT_EQ(touch(view, 100), std::byte{0});
}

TEST(LazyMemory, SystemCallsFillPagesToo) {
  REQUIRE_LAZY_MEMORY();
  LazyMemory lazy(16 * page, pattern_source());
  if (lazy.user_mode_only()) GTEST_SKIP() << "touches of system calls need CAP_SYS_PTRACE or /dev/userfaultfd";
  const HostView view = lazy.memory()->view(0, 16 * page);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ASSERT_EQ(::write(ends[1], view.host + 3 * page - 8, 16), 16);
  Bytes bytes(16);
  ASSERT_EQ(::read(ends[0], bytes.data(), 16), 16);
  ::close(ends[0]);
  ::close(ends[1]);
  for (std::size_t i = 0; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], byte_at(3 * page - 8 + i));
  EXPECT_EQ(lazy.stats().faults, 2U);
}

TEST(LazyMemory, NeighboursComeAlongInOneCall) {
  REQUIRE_LAZY_MEMORY();
  LazyOptions options;
  options.prefetch_pages = 7;
  LazyMemory lazy(64 * page, pattern_source(), options);
  const HostView view = lazy.memory()->view(0, 64 * page);
  EXPECT_EQ(touch(view, 10 * page), byte_at(10 * page));
  EXPECT_EQ(touch(view, 17 * page + 4095), byte_at(17 * page + 4095));
  EXPECT_EQ(lazy.stats().faults, 1U);
  EXPECT_EQ(lazy.stats().source_calls, 1U);
  EXPECT_EQ(lazy.stats().prefetched_pages, 7U);
  touch(view, 8 * page);  // up to the page that is there
  EXPECT_EQ(lazy.stats().prefetched_pages, 8U);
  touch(view, 63 * page);  // nothing behind the end
  EXPECT_EQ(lazy.resident(), 8U + 2 + 1);
}

TEST(LazyMemory, LargePagesAreFilledAtOnce) {
  REQUIRE_LAZY_MEMORY();
  LazyOptions options;
  options.page_size = 2 * mib;
  options.huge_pages = HugePages::automatic;
  LazyMemory lazy(7 * mib, pattern_source(), options);
  const HostView view = lazy.memory()->view(0, 7 * mib);
  EXPECT_EQ(touch(view, 3 * mib), byte_at(3 * mib));
  EXPECT_EQ(touch(view, 6 * mib + 5), byte_at(6 * mib + 5));
  EXPECT_EQ(lazy.stats().faults, 2U);
  EXPECT_EQ(lazy.stats().bytes, 3 * mib);
  EXPECT_EQ(lazy.resident(), 2U);
}

TEST(LazyMemory, ReservedHugePagesHoldTheBytes) {
  REQUIRE_LAZY_MEMORY();
  LazyOptions options;
  options.page_size = 2 * mib;
  options.huge_pages = HugePages::size_2m;
  try {
    LazyMemory lazy(4 * mib, pattern_source(), options);
    const HostView view = lazy.memory()->view(0, 4 * mib);
    for (std::uint64_t offset = 0; offset < 4 * mib; offset += 4099) {
      ASSERT_EQ(touch(view, offset), byte_at(offset));
    }
    EXPECT_EQ(lazy.stats().faults, 2U);
    lazy.track_writes();
    lazy.memory()->write(2 * mib, "x", 1);
    std::vector<std::uint64_t> whole(512);
    std::iota(whole.begin(), whole.end(), 512);
    EXPECT_EQ(lazy.reset_dirty(), whole);
    EXPECT_TRUE(lazy.dirty().empty());
    lazy.discard(2 * mib, 2 * mib);
    EXPECT_EQ(touch(view, 2 * mib), byte_at(2 * mib));
  } catch (const ResourceExhausted& error) {
    EXPECT_TRUE(mentions(error.what(), {"huge pages of 2 MiB wanted", "nr_hugepages"}));
    GTEST_SKIP() << error.what();
  }
}

TEST(LazyMemory, PagesOfZerosAreToldFromOthers) {
  REQUIRE_LAZY_MEMORY();
  LazyMemory lazy(8 * page, function_source([](std::uint64_t offset, std::byte* out, std::size_t size) {
                    for (std::size_t done = 0; done < size; done += page) {
                      const std::uint64_t index = (offset + done) / page;
                      std::memset(out + done, 0, page);
                      if (index % 2 == 1) out[done + page - 1] = std::byte{7};
                    }
                  }));
  lazy.populate_all();
  EXPECT_EQ(lazy.stats().zero_pages, 4U);
  const HostView view = lazy.memory()->view(0, 8 * page);
  EXPECT_EQ(touch(view, 2 * page - 1), std::byte{7});
  EXPECT_EQ(touch(view, 3 * page - 1), std::byte{0});
  lazy.memory()->write(2 * page, "z", 1);
  EXPECT_EQ(touch(view, 2 * page), std::byte{'z'});
}

TEST(LazyMemory, DiscardedPagesAreAskedForAgain) {
  REQUIRE_LAZY_MEMORY();
  LazyMemory lazy(8 * page, pattern_source());
  const auto memory = lazy.memory();
  memory->write(0, Bytes(8 * page).data(), 8 * page);
  EXPECT_EQ(lazy.resident(), 8U);
  lazy.discard(2 * page, 3 * page);
  EXPECT_EQ(lazy.resident(), 5U);
  EXPECT_EQ(lazy.stats().discarded_pages, 3U);
  lazy.discard(2 * page, 3 * page);  // nothing is there
  EXPECT_EQ(lazy.stats().discarded_pages, 3U);
  const HostView view = memory->view(0, 8 * page);
  EXPECT_EQ(touch(view, 2 * page - 1), std::byte{0});
  EXPECT_EQ(touch(view, 2 * page), byte_at(2 * page));
  EXPECT_EQ(touch(view, 5 * page), std::byte{0});
  EXPECT_EQ(lazy.resident(), 6U);
}

TEST(LazyMemory, FilesAndOtherMemoryAreSources) {
  REQUIRE_LAZY_MEMORY();
  const TemporaryDirectory directory;
  const Bytes content = pattern(5 * page);
  const std::string path = directory.write("image", content);
  LazyMemory of_file(4 * page, file_source(path, 100));
  LazyMemory of_memory(2 * page, memory_source(of_file.memory(), page));
  Bytes bytes(4 * page);
  of_memory.memory()->read(0, bytes.data(), 2 * page);
  EXPECT_EQ(std::memcmp(bytes.data(), content.data() + 100 + page, 2 * page), 0);
  EXPECT_EQ(of_file.resident(), 2U);
  of_file.memory()->read(0, bytes.data(), 4 * page);
  EXPECT_EQ(std::memcmp(bytes.data(), content.data() + 100, 4 * page), 0);
  LazyMemory too_long(6 * page, file_source(path));
  EXPECT_TRUE(mentions(message_of<InvalidConfig>([&] { too_long.memory()->read(5 * page, bytes.data(), 1); }),
                       {"truncated", "image"}));
  EXPECT_THROW(file_source(path + "-missing"), PlatformError);
  EXPECT_THROW(file_source("/dev/null"), NotSupported);
  EXPECT_THROW(memory_source(nullptr), InvalidConfig);
  EXPECT_THROW(function_source({}), InvalidConfig);
}

TEST(LazyMemory, SavesWhatNobodyTouched) {
  REQUIRE_LAZY_MEMORY();
  const TemporaryDirectory directory;
  LazyMemory lazy(16 * page, pattern_source());
  lazy.memory()->save(directory.path("saved"), ImageFormat::raw);
  const Bytes saved = read_file(directory.path("saved"));
  ASSERT_EQ(saved.size(), 16 * page);
  for (std::size_t i = 0; i < saved.size(); ++i) ASSERT_EQ(saved[i], byte_at(i));
}

TEST(LazyMemory, PopulateAllTellsHowFarItIsAndCanBeStopped) {
  REQUIRE_LAZY_MEMORY();
  LazyMemory lazy(10 * mib, pattern_source());
  EXPECT_THROW(lazy.populate_all([](std::uint64_t, std::uint64_t) { throw std::runtime_error("enough"); }),
               std::runtime_error);
  EXPECT_GT(lazy.resident(), 0U);
  EXPECT_LT(lazy.resident(), lazy.pages());
  std::uint64_t last = 0;
  lazy.populate_all([&](std::uint64_t done, std::uint64_t total) {
    EXPECT_GT(done, last);
    EXPECT_EQ(total, 10 * mib);
    last = done;
  });
  EXPECT_EQ(last, 10 * mib);
  EXPECT_EQ(lazy.resident(), lazy.pages());
}

TEST(LazyMemory, RefusesWhatMakesNoSense) {
  REQUIRE_LAZY_MEMORY();
  const auto make = [](std::uint64_t size, auto change) {
    return [=] {
      LazyOptions options;
      change(options);
      LazyMemory lazy(size, pattern_source(), options);
    };
  };
  const auto unchanged = [](LazyOptions&) {};
  EXPECT_THROW(make(0, unchanged)(), InvalidConfig);
  EXPECT_THROW(make(UINT64_MAX, unchanged)(), ResourceExhausted);
  EXPECT_THROW(make(std::uint64_t{1} << 61, unchanged)(), ResourceExhausted);
  EXPECT_THROW(make(page, [](LazyOptions& o) { o.base = UINT64_MAX; })(), InvalidConfig);
  for (const std::uint64_t bad : {std::uint64_t{0}, std::uint64_t{1}, page + 1, 3 * page, std::uint64_t{1} << 40}) {
    EXPECT_THROW(make(page, [bad](LazyOptions& o) { o.page_size = bad; })(), InvalidConfig) << bad;
  }
  EXPECT_THROW(make(2 * mib, [](LazyOptions& o) { o.huge_pages = HugePages::size_2m; })(), InvalidConfig);
  EXPECT_THROW(make(page, [](LazyOptions& o) { o.prefetch_pages = UINT64_MAX; })(), InvalidConfig);
  EXPECT_THROW(make(page, [](LazyOptions& o) { o.prefetch_pages = 4096, o.page_size = mib; })(), InvalidConfig);
  EXPECT_THROW(make(page, [](LazyOptions& o) { o.threads = 0; })(), InvalidConfig);
  EXPECT_THROW(make(page, [](LazyOptions& o) { o.retries = 1000; })(), InvalidConfig);
  EXPECT_THROW(LazyMemory(page, nullptr), InvalidConfig);
  LazyMemory lazy(4 * page + 1, pattern_source());
  EXPECT_THROW(lazy.populate(0, 4 * page + 2), OutOfRange);
  EXPECT_THROW(lazy.populate(UINT64_MAX, 2), OutOfRange);
  EXPECT_THROW(lazy.discard(8 * page, page), OutOfRange);
  EXPECT_THROW(lazy.discard(1, page), InvalidConfig);
  EXPECT_THROW(lazy.discard(0, 100), InvalidConfig);
  lazy.discard(3 * page, page + 1);
  lazy.populate(4 * page + 1, 0);
  EXPECT_EQ(lazy.resident(), 0U);
}

TEST(LazyMemory, ViewsAndTablesOutliveIt) {
  REQUIRE_LAZY_MEMORY();
  auto source = pattern_source();
  const std::weak_ptr<PageSource> alive = source;
  auto lazy = std::make_unique<LazyMemory>(8 * page, std::move(source));
  const auto memory = lazy->memory();
  HostView view = memory->view(0, 8 * page);
  auto table = memory->table();
  lazy->close();
  lazy->close();
  EXPECT_TRUE(lazy->closed());
  EXPECT_TRUE(memory->closed());
  EXPECT_THROW(lazy->stats(), ClosedError);
  EXPECT_THROW(lazy->memory(), ClosedError);
  EXPECT_THROW(lazy->populate(0, 1), ClosedError);
  lazy.reset();
  EXPECT_EQ(touch(view, 5 * page), byte_at(5 * page));
  view = {};
  EXPECT_EQ(*table->at(6 * page, 1), byte_at(6 * page));
  EXPECT_FALSE(alive.expired());
  table.reset();
  EXPECT_TRUE(alive.expired());
}

TEST(LazyMemory, ItsMemoryWorksWithoutIt) {
  REQUIRE_LAZY_MEMORY();
  const auto memory = LazyMemory(8 * page, pattern_source()).memory();
  EXPECT_EQ(touch(memory->view(page, 1), 0), byte_at(page));
  const auto both = GuestMemory::anonymous(page, mib);
  EXPECT_FALSE(both->lazy());
  both->add(*memory);
  EXPECT_TRUE(both->lazy());
  memory->close();
  EXPECT_EQ(touch(both->view(2 * page, 1), 0), byte_at(2 * page));
}

TEST(LazyMemory, AChildProcessGetsNoFalseZeros) {
  REQUIRE_LAZY_MEMORY();
  LazyMemory lazy(page, pattern_source());
  const HostView view = lazy.memory()->view(0, page);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) ::_exit(::write(ends[1], view.host, 1) == 1 ? 1 : errno == EFAULT ? 0 : 2);
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ::close(ends[0]);
  ::close(ends[1]);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(touch(view, 0), byte_at(0));
}

}  // namespace
}  // namespace vm::mem
