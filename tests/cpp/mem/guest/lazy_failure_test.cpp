// LazyMemory whose source fails: retries, waiting touches, poison, errors where they can be thrown; write tracking.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "lazy_support.hpp"
#include "support.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/lazy_memory.hpp"

namespace vm::mem {
namespace {

using namespace test;

/// A source that throws for one page while `broken`.
struct Unreliable {
  std::atomic<bool> broken{true};
  std::atomic<int> attempts{0};
  std::uint64_t page_index = 3;

  std::shared_ptr<PageSource> source() {
    return function_source([this](std::uint64_t offset, std::byte* out, std::size_t size) {
      const std::uint64_t bad = page_index * page;
      if (broken && offset <= bad && bad < offset + size) {
        attempts.fetch_add(1);
        throw std::runtime_error("the other side is gone");
      }
      fill_with_pattern(offset, out, size);
    });
  }
};

LazyOptions quick() {
  LazyOptions options;
  options.retry_delay_ns = 1000;
  return options;
}

TEST(LazyFailure, ATouchWaitsUntilTheSourceRecovers) {
  REQUIRE_LAZY_MEMORY();
  Unreliable unreliable;
  LazyOptions options = quick();
  std::atomic<int> told{0};
  options.on_error = [&](std::uint64_t offset, const std::string& message) {
    if (offset == 3 * page && message == "the other side is gone") told.fetch_add(1);
  };
  LazyMemory lazy(8 * page, unreliable.source(), options);
  const HostView view = lazy.memory()->view(0, 8 * page);
  std::atomic<bool> done{false};
  std::byte seen{};
  std::thread toucher([&] {
    seen = touch(view, 3 * page);
    done = true;
  });
  while (told.load() == 0) std::this_thread::yield();
  EXPECT_EQ(unreliable.attempts.load(), 3);
  EXPECT_EQ(lazy.error(), "the other side is gone");
  EXPECT_EQ(lazy.failed(), std::vector<std::uint64_t>{3 * page});
  EXPECT_EQ(lazy.stats().failed_pages, 1U);
  EXPECT_EQ(lazy.stats().source_errors, 3U);
  EXPECT_EQ(touch(view, 4 * page), byte_at(4 * page));  // the others are served
  EXPECT_FALSE(done.load());
  unreliable.broken = false;
  lazy.retry();
  toucher.join();
  EXPECT_EQ(seen, byte_at(3 * page));
  EXPECT_EQ(lazy.error(), "");
  EXPECT_TRUE(lazy.failed().empty());
}

TEST(LazyFailure, APassingFaultIsRetried) {
  REQUIRE_LAZY_MEMORY();
  std::atomic<int> calls{0};
  LazyMemory lazy(page, function_source([&](std::uint64_t offset, std::byte* out, std::size_t size) {
                    if (calls.fetch_add(1) < 2) throw std::runtime_error("not yet");
                    fill_with_pattern(offset, out, size);
                  }),
                  quick());
  EXPECT_EQ(touch(lazy.memory()->view(0, 1), 0), byte_at(0));
  EXPECT_EQ(lazy.stats().source_errors, 2U);
  EXPECT_EQ(lazy.stats().failed_pages, 0U);
}

TEST(LazyFailure, ABadNeighbourDoesNotSpoilTheTouchedPage) {
  REQUIRE_LAZY_MEMORY();
  Unreliable unreliable;
  LazyOptions options = quick();
  options.prefetch_pages = 5;
  options.retries = 0;
  LazyMemory lazy(8 * page, unreliable.source(), options);
  EXPECT_EQ(touch(lazy.memory()->view(page, 1), 0), byte_at(page));
  EXPECT_EQ(lazy.resident(), 1U);
  EXPECT_EQ(lazy.stats().failed_pages, 0U);
}

TEST(LazyFailure, CopiesThrowWhatTheSourceThrows) {
  REQUIRE_LAZY_MEMORY();
  Unreliable unreliable;
  LazyMemory lazy(8 * page, unreliable.source(), quick());
  const auto memory = lazy.memory();
  Bytes bytes(8 * page);
  EXPECT_EQ(message_of<std::runtime_error>([&] { memory->read(0, bytes.data(), 8 * page); }), "the other side is gone");
  EXPECT_EQ(lazy.resident(), 0U);
  memory->read(0, bytes.data(), 3 * page);
  EXPECT_THROW(memory->write(3 * page + 1, bytes.data(), 1), std::runtime_error);
  EXPECT_THROW(lazy.populate(3 * page, 1), std::runtime_error);
  EXPECT_THROW(lazy.populate_all(), std::runtime_error);
  const TemporaryDirectory directory;
  EXPECT_THROW(memory->save(directory.path("saved"), ImageFormat::raw), std::runtime_error);
  EXPECT_EQ(directory.file_count(), 0U);
  memory->read(4 * page, bytes.data(), 4 * page);
  unreliable.broken = false;
  lazy.populate_all();
  EXPECT_EQ(lazy.resident(), 8U);
}

TEST(LazyFailure, APoisonedPageIsAnErrorOfTheSystemCall) {
  REQUIRE_LAZY_MEMORY();
  Unreliable unreliable;
  LazyOptions options = quick();
  options.on_failure = OnFailure::poison;
  std::unique_ptr<LazyMemory> lazy;
  try {
    lazy = std::make_unique<LazyMemory>(8 * page, unreliable.source(), options);
  } catch (const NotSupported& error) {
    GTEST_SKIP() << error.what();
  }
  if (lazy->user_mode_only()) GTEST_SKIP() << "touches of system calls need CAP_SYS_PTRACE or /dev/userfaultfd";
  const HostView view = lazy->memory()->view(0, 8 * page);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  EXPECT_EQ(::write(ends[1], view.host + 3 * page, 1), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(lazy->failed(), std::vector<std::uint64_t>{3 * page});
  EXPECT_THROW(lazy->retry(), std::runtime_error);
  unreliable.broken = false;
  lazy->populate(3 * page, 1);
  EXPECT_EQ(touch(view, 3 * page), byte_at(3 * page));
  EXPECT_EQ(::write(ends[1], view.host + 3 * page, 1), 1);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(LazyFailure, ASourceThatUsesItsOwnMemoryIsTold) {
  REQUIRE_LAZY_MEMORY();
  std::weak_ptr<GuestMemory> own;
  LazyMemory lazy(2 * page, function_source([&](std::uint64_t, std::byte* out, std::size_t size) {
                    own.lock()->read(page, out, size);
                  }),
                  quick());
  own = lazy.memory();
  std::byte byte{};
  EXPECT_TRUE(mentions(message_of<InvalidConfig>([&] { lazy.memory()->read(0, &byte, 1); }), {"asked to fill"}));
}

class LazyTracking : public ::testing::TestWithParam<WriteTracking> {};

TEST_P(LazyTracking, TellsExactlyThePagesWritten) {
  REQUIRE_LAZY_MEMORY();
  LazyOptions options;
  options.tracking = GetParam();
  std::unique_ptr<LazyMemory> lazy;
  try {
    lazy = std::make_unique<LazyMemory>(64 * page, function_source([](std::uint64_t at, std::byte* out, std::size_t n) {
                                          at / page % 4 == 0 ? static_cast<void>(std::memset(out, 0, n))
                                                             : fill_with_pattern(at, out, n);
                                        }),
                                        options);
  } catch (const NotSupported& error) {
    GTEST_SKIP() << error.what();
  }
  using Pages = std::vector<std::uint64_t>;
  EXPECT_EQ(lazy->tracking(), GetParam());
  EXPECT_THROW(lazy->dirty(), InvalidConfig);
  const HostView view = lazy->memory()->view(0, 64 * page);
  const auto write = [&](std::uint64_t index) { view.host[index * page + 17] = std::byte{1}; };
  write(1);
  touch(view, 8 * page);
  lazy->track_writes();
  EXPECT_EQ(lazy->dirty(), Pages{});
  touch(view, 2 * page);  // filled, not written
  touch(view, 12 * page);
  lazy->populate(20 * page, 4 * page);
  for (const std::uint64_t index : Pages{1, 5, 8, 12, 21, 63}) write(index);
  EXPECT_EQ(lazy->dirty(), (Pages{1, 5, 8, 12, 21, 63}));
  EXPECT_EQ(lazy->reset_dirty(), (Pages{1, 5, 8, 12, 21, 63}));
  EXPECT_EQ(lazy->dirty(), Pages{});
  write(5);
  lazy->memory()->write(40 * page - 1, "ab", 2);
  EXPECT_EQ(lazy->reset_dirty(), (Pages{5, 39, 40}));
  write(5);
  lazy->discard(5 * page, page);
  EXPECT_EQ(lazy->dirty(), Pages{});
  EXPECT_EQ(touch(view, 5 * page + 17), byte_at(5 * page + 17));
  EXPECT_EQ(lazy->dirty(), Pages{});
  lazy->stop_tracking();
  write(6);
  write(16);
  EXPECT_THROW(lazy->dirty(), InvalidConfig);
  lazy->track_writes();
  EXPECT_EQ(lazy->dirty(), Pages{});
  lazy->populate_all();
  EXPECT_EQ(lazy->dirty(), Pages{});
  EXPECT_EQ(lazy->stats().write_faults > 0, GetParam() == WriteTracking::synchronous);
}

INSTANTIATE_TEST_SUITE_P(Both, LazyTracking, ::testing::Values(WriteTracking::synchronous, WriteTracking::asynchronous),
                         [](const auto& tracking) { return to_string(tracking.param); });

TEST(LazyTrackingChoice, NoneIsNone) {
  REQUIRE_LAZY_MEMORY();
  LazyOptions options;
  options.tracking = WriteTracking::none;
  LazyMemory lazy(page, pattern_source(), options);
  EXPECT_EQ(lazy.tracking(), WriteTracking::none);
  EXPECT_THROW(lazy.track_writes(), NotSupported);
  LazyMemory chosen(page, pattern_source());
  EXPECT_NE(chosen.tracking(), WriteTracking::automatic);
}

}  // namespace
}  // namespace vm::mem
