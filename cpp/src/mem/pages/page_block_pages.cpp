// Linux: what is done with the pages of a block.
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "mem/pages/page_map.hpp"
#include "mem/pages/prefault.hpp"
#include "mem/pages/system_error.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/host_page.hpp"
#include "vm/mem/pages/page_block.hpp"

namespace vm::mem {

namespace {

constexpr unsigned lock_on_fault = 1;  // MLOCK_ONFAULT, which older C libraries hide
constexpr unsigned most_threads = 1024;

struct AdviceFacts {
  Advice advice;
  const char* name;
  int number;  // the kernel's, asm-generic/mman-common.h
  const char* since;
};

constexpr AdviceFacts advices[] = {
    {Advice::normal, "normal", MADV_NORMAL, "2.4"},
    {Advice::random, "random", MADV_RANDOM, "2.4"},
    {Advice::sequential, "sequential", MADV_SEQUENTIAL, "2.4"},
    {Advice::will_need, "will_need", MADV_WILLNEED, "2.4"},
    {Advice::huge_pages, "huge_pages", MADV_HUGEPAGE, "2.6.38 with transparent huge pages"},
    {Advice::no_huge_pages, "no_huge_pages", MADV_NOHUGEPAGE, "2.6.38 with transparent huge pages"},
    {Advice::collapse, "collapse", 25, "6.1"},
    {Advice::cold, "cold", 20, "5.4"},
    {Advice::page_out, "page_out", 21, "5.4"},
    {Advice::dont_fork, "dont_fork", MADV_DONTFORK, "2.6.16"},
    {Advice::do_fork, "do_fork", MADV_DOFORK, "2.6.16"},
    {Advice::wipe_on_fork, "wipe_on_fork", 18, "4.14"},
    {Advice::keep_on_fork, "keep_on_fork", 19, "4.14"},
    {Advice::dont_dump, "dont_dump", MADV_DONTDUMP, "3.4"},
    {Advice::do_dump, "do_dump", MADV_DODUMP, "3.4"},
    {Advice::mergeable, "mergeable", MADV_MERGEABLE, "2.6.32 with KSM"},
    {Advice::unmergeable, "unmergeable", MADV_UNMERGEABLE, "2.6.32 with KSM"},
};

const AdviceFacts& facts_of(Advice advice) {
  return *std::find_if(std::begin(advices), std::end(advices),
                       [advice](const AdviceFacts& f) { return f.advice == advice; });
}

std::string lock_limit() {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "unlimited";
  return std::to_string(limit.rlim_cur) + " bytes";
}

}  // namespace

const char* to_string(Advice advice) noexcept { return facts_of(advice).name; }

/// `size` with the rest of the last page, if the range ends where the block does.
std::uint64_t PageBlock::whole_pages(std::uint64_t offset, std::uint64_t size, const char* what) const {
  if (offset > capacity_ || size > capacity_ - offset) {
    throw OutOfRange(std::string(what) + " of " + hex(size) + " bytes at offset " + hex(offset) +
                         ", but the block has " + hex(capacity_) + " bytes",
                     offset, size);
  }
  if (offset + size == size_) size = capacity_ - offset;
  if (!is_aligned(offset, page_size()) || !is_aligned(size, page_size())) {
    throw InvalidConfig(std::string(what) + " takes whole pages of " + hex(page_size()) + " bytes, got " + hex(size) +
                        " bytes at offset " + hex(offset));
  }
  return size;
}

void PageBlock::prefault(std::uint64_t offset, std::uint64_t size, unsigned threads) {
  if (threads > most_threads) throw InvalidConfig("threads is " + std::to_string(threads) + "; at most 1024");
  check_prefault(offset, size);
  size = whole_pages(offset, size, "prefault");
  if (size != 0) prefault_pages(data_ + offset, size, threads);
}

void PageBlock::check_prefault(std::uint64_t offset, std::uint64_t size) const {
  protection_.require(offset, whole_pages(offset, size, "prefault"), Access::write, "prefault");
}

void PageBlock::lock(LockMode mode) {
  int code = 0;
  // Run by run: the kernel brings in no page without rights, and gives up at the first of them.
  for (const RightsRange& run : protection_.ranges()) {
    const unsigned flags = mode == LockMode::on_fault || run.access == Access::none ? lock_on_fault : 0;
    // By number, because the wrapper is younger than the system call.
    if (::syscall(SYS_mlock2, data_ + run.offset, run.size, flags) == 0) continue;
    code = errno;
    break;
  }
  if (code == 0) return;
  const std::string what = "cannot lock " + hex(capacity_) + " bytes";
  if (code == ENOMEM || code == EAGAIN || code == EPERM) {
    throw ResourceExhausted(what + ": the process may lock " + lock_limit() +
                            " in all (RLIMIT_MEMLOCK, \"ulimit -l\"); raise that, or give it CAP_IPC_LOCK");
  }
  throw_system_error(what, code);
}

void PageBlock::unlock() {
  // By number too, because sanitizers make nothing of the wrapper.
  if (::syscall(SYS_munlock, data_, capacity_) != 0)
    throw_system_error("cannot unlock " + hex(capacity_) + " bytes", errno);
}

void PageBlock::advise(Advice advice, std::uint64_t offset, std::uint64_t size) {
  size = whole_pages(offset, size, "advise");
  const AdviceFacts& facts = facts_of(advice);
  // First, so that no fork comes between. Relaxed: read by the destructor, before which all calls have ended.
  if (advice == Advice::dont_fork) missing_in_children_.store(true, std::memory_order_relaxed);
  if (::madvise(data_ + offset, size, facts.number) == 0) return;
  const int code = errno;
  const std::string what = std::string("advice \"") + facts.name + "\" for " + hex(size) + " bytes";
  if (code == EINVAL) {
    throw NotSupported(what + " is refused: it needs Linux " + facts.since + ", and memory of a kind that it fits");
  }
  if (code == ENOMEM || code == EAGAIN || code == EBUSY) {
    throw ResourceExhausted(what + ": the system has not what it takes just now (memory, a free huge page); try later");
  }
  throw_system_error(what, code);
}

void PageBlock::purge(std::uint64_t offset, std::uint64_t size, PurgeMode mode) {
  size = whole_pages(offset, size, "purge");
  protection_.require(offset, size, Access::write, "purge");
  if (::madvise(data_ + offset, size, mode == PurgeMode::now ? MADV_DONTNEED : MADV_FREE) == 0) return;
  const int code = errno;
  const std::string what = "cannot purge " + hex(size) + " bytes at offset " + hex(offset);
  if (code != EINVAL) throw_system_error(what, code);
  const auto start = reinterpret_cast<std::uintptr_t>(data_) + offset;
  for (const MappedArea& area : mapped_areas(start, start + size)) {
    if (area.locked) throw AccessViolation(what + ": they are locked in memory; unlock first");
  }
  throw NotSupported(what + ": this kernel gives reserved huge pages back at once only, and from Linux 5.18 on");
}

std::uint64_t PageBlock::resident() const {
  const auto start = reinterpret_cast<std::uintptr_t>(data_);
  const auto tally = scan_pages(start, start + capacity_);
  return tally ? tally->resident : resident_bytes(start, start + capacity_);
}

void PageBlock::protect(std::uint64_t offset, std::uint64_t size, Access access) {
  protection_.set(offset, whole_pages(offset, size, "protect"), access);
}

}  // namespace vm::mem
