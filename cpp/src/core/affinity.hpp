#pragma once
/// \file
/// Where the operating system lets the calling thread run.

#include <vector>

namespace vm {

/// Ascending. On Linux the affinity mask, from which the kernel has already taken what the cgroup's cpuset forbids;
/// empty where the system does not say.
std::vector<int> allowed_cpus();

}  // namespace vm
