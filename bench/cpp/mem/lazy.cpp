// What a first touch of lazy memory costs, in time per page. Beside it: the same kernel calls in a bare loop (poll,
// read, UFFDIO_COPY), which no handler in user space can beat, and the first touch of plain anonymous memory, which
// needs no handler at all.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "vm/mem/guest/lazy_memory.hpp"

namespace {

using vm::mem::LazyMemory;
using vm::mem::LazyOptions;

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t page_count = 8192;
constexpr std::uint64_t size = page * page_count;

const std::vector<std::byte>& content() {
  static const std::vector<std::byte> bytes(size, std::byte{1});
  return bytes;
}

/// One byte of each page, in an order without neighbours.
void touch_all(const std::byte* bytes) {
  constexpr std::uint64_t stride = 4099;  // coprime to the number of pages
  for (std::uint64_t i = 0; i < page_count; ++i) {
    benchmark::DoNotOptimize(*const_cast<const volatile std::byte*>(bytes + i * stride % page_count * page));
  }
}

void touch_in_order(const std::byte* bytes) {
  for (std::uint64_t i = 0; i < page_count; ++i) {
    benchmark::DoNotOptimize(*const_cast<const volatile std::byte*>(bytes + i * page));
  }
}

void count_pages(benchmark::State& state) {
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(page_count));
}

void plain_first_touch(benchmark::State& state) {
  for (auto _ : state) {
    state.PauseTiming();
    const auto memory = vm::mem::HostMapping::anonymous(size, vm::mem::HugePages::none);
    state.ResumeTiming();
    for (std::uint64_t at = 0; at < size; at += page) memory->data()[at] = std::byte{1};
  }
  count_pages(state);
}
BENCHMARK(plain_first_touch)->UseRealTime();

/// The least that serves a fault from memory that is there, written without this library.
class BareLoop {
 public:
  BareLoop()
      : fd_(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK))), stop_(::eventfd(0, EFD_CLOEXEC)) {
    uffdio_api api = {UFFD_API, 0, 0};
    data_ = static_cast<std::byte*>(
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    uffdio_register range = {{address(), size}, UFFDIO_REGISTER_MODE_MISSING, 0};
    ok_ = fd_ >= 0 && ::ioctl(fd_, UFFDIO_API, &api) == 0 && ::ioctl(fd_, UFFDIO_REGISTER, &range) == 0;
    thread_ = std::thread([this] { serve(); });
  }
  BareLoop(const BareLoop&) = delete;
  BareLoop& operator=(const BareLoop&) = delete;
  ~BareLoop() {
    const std::uint64_t one = 1;
    benchmark::DoNotOptimize(::write(stop_, &one, sizeof one));
    thread_.join();
    ::munmap(data_, size);
    ::close(fd_);
    ::close(stop_);
  }

  bool ok() const { return ok_; }
  const std::byte* data() const { return data_; }

 private:
  std::uint64_t address() const { return reinterpret_cast<std::uintptr_t>(data_); }

  void serve() const {
    std::array<pollfd, 2> polled = {{{fd_, POLLIN, 0}, {stop_, POLLIN, 0}}};
    while (::poll(polled.data(), polled.size(), -1) >= 0 && polled[1].revents == 0) {
      uffd_msg message;
      if (::read(fd_, &message, sizeof message) != sizeof message) continue;
      const std::uint64_t at = message.arg.pagefault.address & ~(page - 1);
      const auto from = reinterpret_cast<std::uintptr_t>(content().data() + (at - address()));
      uffdio_copy copy = {at, from, page, 0, 0};
      ::ioctl(fd_, UFFDIO_COPY, &copy);
    }
  }

  int fd_;
  int stop_;
  std::byte* data_ = nullptr;
  bool ok_ = false;
  std::thread thread_;
};

void bare_userfaultfd(benchmark::State& state) {
  for (auto _ : state) {
    state.PauseTiming();
    {
      const BareLoop loop;
      if (!loop.ok()) return state.SkipWithError("no userfaultfd");
      state.ResumeTiming();
      touch_all(loop.data());
      state.PauseTiming();
    }
    state.ResumeTiming();
  }
  count_pages(state);
}
BENCHMARK(bare_userfaultfd)->UseRealTime();

template <class Touch>
void touch_lazy(benchmark::State& state, const LazyOptions& options, Touch touch) {
  if (const auto why = LazyMemory::unavailable()) return state.SkipWithError(why->c_str());
  const auto source = vm::mem::function_source([](std::uint64_t offset, std::byte* out, std::size_t count) {
    std::memcpy(out, content().data() + offset, count);
  });
  for (auto _ : state) {
    state.PauseTiming();
    {
      LazyMemory lazy(size, source, options);
      const auto view = lazy.memory()->view(0, size);
      state.ResumeTiming();
      touch(lazy, view.host);
      state.PauseTiming();
      state.counters["faults"] = static_cast<double>(lazy.stats().faults);
    }
    state.ResumeTiming();
  }
  count_pages(state);
}

void lazy_touch(benchmark::State& state) {
  LazyOptions options;
  options.threads = static_cast<unsigned>(state.range(0));
  touch_lazy(state, options, [](LazyMemory&, const std::byte* bytes) { touch_all(bytes); });
}
BENCHMARK(lazy_touch)->Arg(1)->Arg(2)->ArgName("threads")->UseRealTime();

void lazy_touch_tracking_writes(benchmark::State& state) {
  touch_lazy(state, {}, [](LazyMemory& lazy, const std::byte* bytes) {
    lazy.track_writes();
    touch_all(bytes);
  });
}
BENCHMARK(lazy_touch_tracking_writes)->UseRealTime();

void lazy_sweep_with_prefetch(benchmark::State& state) {
  LazyOptions options;
  options.prefetch_pages = static_cast<std::uint64_t>(state.range(0));
  touch_lazy(state, options, [](LazyMemory&, const std::byte* bytes) { touch_in_order(bytes); });
}
BENCHMARK(lazy_sweep_with_prefetch)->Arg(0)->Arg(7)->Arg(63)->Arg(511)->ArgName("neighbours")->UseRealTime();

void lazy_populate(benchmark::State& state) {
  touch_lazy(state, {}, [](LazyMemory& lazy, const std::byte*) { lazy.populate_all(); });
}
BENCHMARK(lazy_populate)->UseRealTime();

}  // namespace
