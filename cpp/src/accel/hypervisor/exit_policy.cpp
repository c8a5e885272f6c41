#include "vm/accel/hypervisor/exit_policy.hpp"

#include <string>

#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

// Linux, arch/x86/include/uapi/asm/kvm.h: KVM_MSR_FILTER_MAX_RANGES, and 8 registers a byte of
// KVM_MSR_FILTER_MAX_BITMAP_SIZE.
constexpr std::size_t most_ranges = 16;
constexpr std::size_t most_registers = 8 * 0x600;
constexpr std::uint64_t x2apic_first = 0x800;  // Intel SDM vol. 3 §11.12.1.2
constexpr std::uint64_t x2apic_last = 0x8FF;

void check_range(const MsrRange& range) {
  const std::uint64_t first = range.base;
  const std::uint64_t last = first + range.allowed.size() - 1;
  const std::string what = "the range of " + std::to_string(range.allowed.size()) + " registers from " + hex(first);
  if (range.allowed.empty() || range.allowed.size() > most_registers)
    throw InvalidConfig(what + ": a range has 1 to " + std::to_string(most_registers) + " registers");
  if (last > UINT32_MAX) throw InvalidConfig(what + " passes the last register, 0xffffffff");
  if (!range.reads && !range.writes) throw InvalidConfig(what + " speaks about neither reads nor writes");
  if (first <= x2apic_last && last >= x2apic_first)
    throw InvalidConfig(what + " has registers of the x2APIC (0x800-0x8ff), which KVM never filters; leave them out");
}

}  // namespace

void check_msr_filter(const MsrFilter& filter) {
  if (filter.ranges.size() > most_ranges) {
    throw InvalidConfig("a filter has at most " + std::to_string(most_ranges) + " ranges, got " +
                        std::to_string(filter.ranges.size()));
  }
  if (filter.deny_others && filter.ranges.empty())
    throw InvalidConfig("KVM refuses a filter that denies everything; name a range, for example one that it denies");
  for (const MsrRange& range : filter.ranges) check_range(range);
}

}  // namespace vm::accel
