#pragma once
/// \file
/// Where the operating system lets the calling thread run.

#include <vector>

namespace vm {

/// Ascending. On Linux the affinity mask, from which the kernel has already taken what the cgroup's cpuset forbids;
/// empty where the system does not say.
std::vector<int> allowed_cpus();

/// How many threads can run at once: as many as those CPUs, or as the standard library says where the system does not;
/// at least 1.
unsigned useful_threads() noexcept;

}  // namespace vm
