#pragma once
/// \file
/// What these tests ask the kernel themselves, by other ways than the library does.

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace vm::mem::testing {

/// "rw-p" of the mapping that `address` lies in by /proc/self/maps; empty when there is none.
inline std::string rights_of(const void* address) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  std::ifstream file("/proc/self/maps");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::uint64_t start = 0;
    std::uint64_t end = 0;
    char dash = 0;
    std::string rights;
    words >> std::hex >> start >> dash >> end >> rights;
    if (start <= at && at < end) return rights;
  }
  return {};
}

/// The signal that ends a child process which reads this byte; 0 when it survives.
inline int signal_of_reading(const volatile std::byte* address) {
  const pid_t child = ::fork();
  if (child == 0) {
    // Sanitizers report and exit where the plain signal is what is asked for.
    std::signal(SIGSEGV, SIG_DFL);
    static_cast<void>(*address);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace vm::mem::testing
