// Topology leaves. Intel SDM vol. 3 §9.9 and vol. 2A (CPUID leaves 1, 4, 0xB, 0x1F); AMD APM vol. 3 E.4.7, E.4.16 and
// E.4.17.

#include <string>

#include "vm/accel/hypervisor/x86_cpuid.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

/// Bits that tell `count` things apart.
unsigned width(std::uint32_t count) noexcept {
  unsigned bits = 0;
  while ((std::uint64_t{1} << bits) < count) ++bits;
  return bits;
}

constexpr std::uint32_t low(unsigned bits) noexcept {
  return static_cast<std::uint32_t>((std::uint64_t{1} << bits) - 1);
}

void put(std::uint32_t& word, unsigned from, unsigned bits, std::uint32_t value) noexcept {
  word = (word & ~(low(bits) << from)) | (value & low(bits)) << from;
}

std::uint32_t at_most(std::uint32_t value, std::uint32_t most) noexcept { return value < most ? value : most; }

/// Leaves 0xB and 0x1F: levels "thread" (1) and "core" (2), then "invalid".
void put_levels(CpuidTable& table, std::uint32_t function, const CpuidPlace& place, std::uint32_t threads) {
  if (table.find(function) == nullptr) return;
  table.keep_if([function](const CpuidEntry& entry) { return entry.function != function; });
  const unsigned thread_bits = width(place.threads_per_core);
  const unsigned all_bits = thread_bits + width(place.cores_per_package);
  table.set({function, 0, true, thread_bits, place.threads_per_core, 1U << 8, place.apic_id});
  table.set({function, 1, true, all_bits, threads, 2U << 8 | 1, place.apic_id});
  table.set({function, 2, true, 0, 0, 2, place.apic_id});
}

/// Leaf 4 and AMD's 0x8000'001D: a cache of level 3 is the package's, the others a core's.
void put_cache_sharing(CpuidTable& table, std::uint32_t function, const CpuidPlace& place, std::uint32_t threads) {
  for (std::uint32_t index = 0;; ++index) {
    CpuidEntry* cache = table.find(function, index);
    if (cache == nullptr || !cache->indexed || (cache->eax & 0x1F) == 0) return;
    const bool shared = (cache->eax >> 5 & 7) >= 3;
    put(cache->eax, 14, 12, at_most((shared ? threads : place.threads_per_core) - 1, 0xFFF));
    if (function == 4) put(cache->eax, 26, 6, at_most(place.cores_per_package - 1, 0x3F));
  }
}

}  // namespace

void CpuidTable::place(const CpuidPlace& place) {
  if (place.threads_per_core == 0 || place.cores_per_package == 0)
    throw InvalidConfig("a package has at least one core, and a core at least one thread");
  if (place.threads_per_core > 256 || place.cores_per_package > 0x8000 / place.threads_per_core)
    throw InvalidConfig("a core has at most 256 threads and a package 32768, asked for " +
                        std::to_string(place.cores_per_package) + " cores of " +
                        std::to_string(place.threads_per_core));
  const std::uint32_t threads = place.threads_per_core * place.cores_per_package;
  if (CpuidEntry* basic = find(1)) {
    put(basic->ebx, 24, 8, place.apic_id);
    put(basic->ebx, 16, 8, at_most(threads, 0xFF));
    put(basic->edx, 28, 1, threads > 1 ? 1 : 0);
  }
  put_cache_sharing(*this, 4, place, threads);
  put_cache_sharing(*this, 0x8000'001D, place, threads);
  put_levels(*this, 0xB, place, threads);
  put_levels(*this, 0x1F, place, threads);
  if (CpuidEntry* sizes = find(0x8000'0008)) {
    put(sizes->ecx, 0, 8, at_most(threads - 1, 0xFF));
    put(sizes->ecx, 12, 4, width(threads));
  }
  if (CpuidEntry* extended = find(0x8000'001E)) {
    extended->eax = place.apic_id;
    put(extended->ebx, 0, 8, place.apic_id >> width(place.threads_per_core));
    put(extended->ebx, 8, 8, place.threads_per_core - 1);
    put(extended->ecx, 0, 8, place.apic_id >> (width(place.threads_per_core) + width(place.cores_per_package)));
    put(extended->ecx, 8, 3, 0);
  }
}

}  // namespace vm::accel
