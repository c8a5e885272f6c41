#pragma once
// A small guest memory whose tables are written by hand, and questions to it.

#include <cstdint>
#include <memory>
#include <ostream>
#include <vector>

#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"
#include "vm/mem/paging/address_space.hpp"

namespace vm::mem::paging::test {

inline constexpr Access r = Access::read;
inline constexpr Access w = Access::write;
inline constexpr Access x = Access::execute;
inline constexpr Access rw = r | w;
inline constexpr Access rx = r | x;
inline constexpr Access rwx = r | w | x;
inline constexpr Privilege supervisor = Privilege::supervisor;
inline constexpr Privilege user = Privilege::user;

inline std::uint64_t bit(unsigned n) { return std::uint64_t{1} << n; }

/// Guest memory at 0 with words in it.
class Machine {
 public:
  explicit Machine(std::uint64_t size = std::uint64_t{16} << 20) : memory(GuestMemory::anonymous(size)) {}

  void put(std::uint64_t paddr, std::uint64_t value) { memory->write(paddr, &value, sizeof value); }
  void put32(std::uint64_t paddr, std::uint32_t value) { memory->write(paddr, &value, sizeof value); }
  std::uint64_t get(std::uint64_t paddr) const {
    std::uint64_t value = 0;
    memory->read(paddr, &value, sizeof value);
    return value;
  }
  std::uint32_t get32(std::uint64_t paddr) const { return static_cast<std::uint32_t>(get(paddr)); }
  std::vector<std::byte> bytes() const {
    std::vector<std::byte> all(memory->size());
    memory->read(memory->base(), all.data(), all.size());
    return all;
  }

  std::shared_ptr<GuestMemory> memory;
};

/// A fault as the architecture would report it; `reason` is `none` when the access succeeds.
struct Report {
  FaultReason reason;
  int level;
  std::uint32_t error_code;

  friend bool operator==(const Report& a, const Report& b) {
    return a.reason == b.reason && a.level == b.level && a.error_code == b.error_code;
  }
};
inline void PrintTo(const Report& report, std::ostream* out) {
  *out << describe(report.reason) << " at level " << report.level << ", error code " << hex(report.error_code);
}

inline Translation ask(const Machine& machine, const PagingConfig& config, std::uint64_t vaddr, Access access = r,
                       Privilege privilege = supervisor) {
  return AddressSpace(machine.memory, config).try_translate(GuestVirtual{vaddr}, access, privilege);
}

inline Report report(const Machine& machine, const PagingConfig& config, std::uint64_t vaddr, Access access = r,
                     Privilege privilege = supervisor) {
  const AddressSpace space(machine.memory, config);
  const Translation t = space.try_translate(GuestVirtual{vaddr}, access, privilege);
  if (t.ok()) return {FaultReason::none, t.level, 0};
  const FaultInfo fault = space.fault_info(t, access, privilege);
  return {fault.reason, fault.level, fault.error_code};
}

}  // namespace vm::mem::paging::test
