// Peers that offer a C function for one address, called in a loop in C: what they can do without Python in the way.

#include <cstddef>
#include <cstdint>

using UnicornTranslate = int (*)(void* engine, std::uint64_t vaddr, int rights, std::uint64_t* paddr);
using MemProcFsTranslate = int (*)(void* handle, std::uint32_t process, std::uint64_t vaddr, std::uint64_t* paddr);

/// Returns how many addresses translated. uc_vmem_translate answers 0 for success.
extern "C" std::size_t loop_unicorn(UnicornTranslate translate, void* engine, int rights, const std::uint64_t* vaddr,
                                    std::size_t count, std::uint64_t* paddr) {
  std::size_t good = 0;
  for (std::size_t i = 0; i < count; ++i) good += translate(engine, vaddr[i], rights, &paddr[i]) == 0 ? 1 : 0;
  return good;
}

/// Returns how many addresses translated. VMMDLL_MemVirt2Phys answers 0 for failure.
extern "C" std::size_t loop_memprocfs(MemProcFsTranslate translate, void* handle, std::uint32_t process,
                                      const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr) {
  std::size_t good = 0;
  for (std::size_t i = 0; i < count; ++i) good += translate(handle, process, vaddr[i], &paddr[i]) != 0 ? 1 : 0;
  return good;
}
