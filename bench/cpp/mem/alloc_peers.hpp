#pragma once
// Other allocators, called through pointers to their functions as a program calls malloc: across the boundary of a
// shared library. They are opened when the benchmark runs, so that none replaces the malloc of the process, and those
// that are not installed are left out.

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace alloc_bench {

struct Peer {
  std::string name;
  void* (*allocate)(std::size_t);
  void (*release)(void*);
};

struct PeerLibrary {
  const char* name;
  const char* library;   // Debian: libmimalloc2.0, libjemalloc2, libtcmalloc-minimal4
  const char* variable;  // names another file
  const char* allocate;
  const char* release;
};

inline constexpr PeerLibrary peer_libraries[] = {
    // The project's own allocator as a program would meet it behind a library (slab_boundary.cpp).
    {"slab_called", VM_SLAB_BOUNDARY, "VM_BENCH_SLAB_BOUNDARY", "slab_malloc", "slab_free"},
    {"mimalloc", "libmimalloc.so.2", "VM_BENCH_MIMALLOC", "mi_malloc", "mi_free"},
    {"jemalloc", "libjemalloc.so.2", "VM_BENCH_JEMALLOC", "malloc", "free"},
    {"tcmalloc", "libtcmalloc_minimal.so.4", "VM_BENCH_TCMALLOC", "malloc", "free"},
    // In no distribution: build libsnmallocshim.so from its source and name it in the variable.
    {"snmalloc", "libsnmallocshim.so", "VM_BENCH_SNMALLOC", "malloc", "free"},
};

inline const std::vector<Peer>& peers() {
  static const std::vector<Peer> found = [] {
    std::vector<Peer> list = {{"glibc", &std::malloc, &std::free}};
    for (const PeerLibrary& each : peer_libraries) {
      const char* const named = std::getenv(each.variable);
      void* const library = ::dlopen(named != nullptr ? named : each.library, RTLD_NOW | RTLD_LOCAL);
      if (library == nullptr) continue;
      const auto allocate = reinterpret_cast<void* (*)(std::size_t)>(::dlsym(library, each.allocate));
      const auto release = reinterpret_cast<void (*)(void*)>(::dlsym(library, each.release));
      if (allocate != nullptr && release != nullptr) list.push_back({each.name, allocate, release});
    }
    return list;
  }();
  return found;
}

/// Some of these libraries want more room for their thread-local variables than the loader keeps for libraries that
/// come late; it reads how much at the start of the process, so the process starts again.
inline void make_room_for_thread_locals(char** arguments) {
  constexpr const char* variable = "GLIBC_TUNABLES";
  const char* const found = std::getenv(variable);
  std::string tunables = found != nullptr ? found : "";
  if (tunables.find("optional_static_tls") != std::string::npos) return;
  if (!tunables.empty()) tunables += ":";
  tunables += "glibc.rtld.optional_static_tls=65536";
  if (::setenv(variable, tunables.c_str(), 1) == 0) ::execv("/proc/self/exe", arguments);
}

}  // namespace alloc_bench
