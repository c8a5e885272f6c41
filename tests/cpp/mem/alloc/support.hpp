#pragma once
// What the tests of the allocators have in common.

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "vm/mem/alloc/slab_allocator.hpp"

namespace vm::mem::alloc::test {

/// Small enough to be used up, and to be made often.
inline SlabConfig small_slabs(std::uint64_t capacity = std::uint64_t{8} << 20) {
  SlabConfig config;
  config.capacity = capacity;
  config.cached_bytes = std::uint64_t{1} << 16;
  config.spare_slabs = 2;
  return config;
}

inline void fill(void* block, std::size_t size, unsigned pattern) {
  std::memset(block, static_cast<int>(pattern & 0xff), size);
}

/// Whether all bytes still are what `fill` wrote.
inline bool holds(const void* block, std::size_t size, unsigned pattern) {
  const auto* const bytes = static_cast<const unsigned char*>(block);
  for (std::size_t i = 0; i < size; ++i) {
    if (bytes[i] != (pattern & 0xff)) return false;
  }
  return true;
}

/// Whether the kernel lets this process read a byte.
inline bool readable(const void* address) {
  int ends[2];
  if (::pipe(ends) != 0) return false;
  const bool done = ::write(ends[1], address, 1) == 1;
  ::close(ends[0]);
  ::close(ends[1]);
  return done;
}

/// What `job`, which returns whether all was well, says in a child process.
template <class Job>
bool in_child(const Job& job) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(job() ? 0 : 1);
  int status = 0;
  return child > 0 && ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace vm::mem::alloc::test
