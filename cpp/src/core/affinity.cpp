#include "core/affinity.hpp"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <thread>

#if defined(__linux__)
#include <sched.h>

#include <cerrno>
#include <memory>
#endif

namespace vm {

#if defined(__linux__)

std::vector<int> allowed_cpus() {
  struct Free {
    void operator()(cpu_set_t* set) const { CPU_FREE(set); }
  };
  // The kernel refuses a mask that is shorter than its own, whose length it does not tell.
  for (int bits = 1024; bits <= 1 << 20; bits *= 2) {
    const std::unique_ptr<cpu_set_t, Free> set(CPU_ALLOC(static_cast<std::size_t>(bits)));
    const std::size_t size = CPU_ALLOC_SIZE(static_cast<std::size_t>(bits));
    if (set == nullptr) return {};
    if (sched_getaffinity(0, size, set.get()) != 0) {
      if (errno == EINVAL) continue;
      return {};
    }
    std::vector<int> cpus;
    for (int cpu = 0; cpu < bits; ++cpu) {
      if (CPU_ISSET_S(static_cast<std::size_t>(cpu), size, set.get())) cpus.push_back(cpu);
    }
    return cpus;
  }
  return {};
}

#else

std::vector<int> allowed_cpus() { return {}; }

#endif

unsigned useful_threads() noexcept {
  try {
    if (const std::size_t cpus = allowed_cpus().size(); cpus != 0) return static_cast<unsigned>(cpus);
  } catch (const std::exception&) {
    // No memory for the list.
  }
  return std::max(1U, std::thread::hardware_concurrency());
}

}  // namespace vm
