#pragma once
/// \file
/// What CPUID answers in a guest, as a table that can be edited (SDM vol. 2, CPUID; AMD APM vol. 3, appendix E).

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace vm::accel {

struct CpuidEntry {
  std::uint32_t function = 0;  ///< EAX as the guest sets it
  std::uint32_t index = 0;     ///< ECX as the guest sets it; 0 unless `indexed`
  bool indexed = false;        ///< the answer depends on ECX
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

inline bool operator==(const CpuidEntry& a, const CpuidEntry& b) noexcept {
  return a.function == b.function && a.index == b.index && a.indexed == b.indexed && a.eax == b.eax && a.ebx == b.ebx &&
         a.ecx == b.ecx && a.edx == b.edx;
}

enum class CpuidRegister : std::uint8_t { eax, ebx, ecx, edx };

/// A bit that says whether the processor has something.
struct CpuidFeature {
  const char* name;
  std::uint32_t function;
  std::uint32_t index;
  CpuidRegister reg;
  unsigned bit;
};

/// The features that `CpuidTable::has` knows by name, as Linux spells them in /proc/cpuinfo.
const std::vector<CpuidFeature>& cpuid_features();

/// Where a vCPU stands among the others.
struct CpuidPlace {
  std::uint32_t apic_id = 0;
  std::uint32_t threads_per_core = 1;
  std::uint32_t cores_per_package = 1;
};

/// At most one entry for each (function, index). Not for several threads at once.
class CpuidTable {
 public:
  CpuidTable() = default;
  /// Throws InvalidConfig when two entries answer the same question.
  explicit CpuidTable(std::vector<CpuidEntry> entries);

  /// By function, then index.
  const std::vector<CpuidEntry>& entries() const noexcept { return entries_; }
  /// What answers (function, index), or nullptr. An entry that is not `indexed` answers every index. The pointer is
  /// good until an entry is added or removed.
  const CpuidEntry* find(std::uint32_t function, std::uint32_t index = 0) const noexcept;
  CpuidEntry* find(std::uint32_t function, std::uint32_t index = 0) noexcept;
  /// Adds the entry, or replaces the one with its function and index. Throws InvalidConfig when an entry that is not
  /// indexed would stand beside others of its function, or has an index.
  void set(const CpuidEntry& entry);
  /// False when there was none.
  bool erase(std::uint32_t function, std::uint32_t index = 0) noexcept;
  void keep_if(const std::function<bool(const CpuidEntry&)>& keep);

  /// Ands the four registers of an entry. Throws OutOfRange when there is none.
  void mask(std::uint32_t function, std::uint32_t index, const CpuidEntry& bits);
  /// Whether the bit of a feature is set: "avx2", "lm". Throws InvalidConfig for a name not in `cpuid_features`.
  bool has(std::string_view feature) const;
  /// Throws InvalidConfig for an unknown name, and OutOfRange when the entry that holds the bit is missing (clearing a
  /// bit that is not there is fine).
  void set_feature(std::string_view feature, bool on);
  /// Leaves only feature bits that `other` has too, so that a guest can move between two machines. Other answers stay.
  void intersect(const CpuidTable& other);

  /// Makes the answers about topology say where this vCPU is: leaves 1, 4, 0xB, 0x1F, 0x8000'0008, 0x8000'001D and
  /// 0x8000'001E, as far as they exist. Throws InvalidConfig when a count is zero, or more than the leaves can say.
  void place(const CpuidPlace& place);

  /// A processor that every 64-bit kernel of the last 15 years runs on, out of what the hypervisor supports:
  /// x86-64-v1 (System V ABI for AMD64, table 3.1) with an APIC, no XSAVE, no leaf above 1 but the extended ones.
  static CpuidTable minimal(const CpuidTable& supported);

  /// MAXPHYADDR: bits of a physical address; 36 where no entry tells.
  unsigned physical_bits() const noexcept;

 private:
  std::vector<CpuidEntry> entries_;  // sorted by function, then index
};

}  // namespace vm::accel
