#include "vm/accel/hypervisor/x86_cpuid.hpp"

#include <algorithm>
#include <string>
#include <tuple>

#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

bool earlier(const CpuidEntry& a, const CpuidEntry& b) noexcept {
  return std::tie(a.function, a.index) < std::tie(b.function, b.index);
}

std::string question(std::uint32_t function, std::uint32_t index) {
  return "CPUID " + hex(function) + "." + std::to_string(index);
}

void check_index(const CpuidEntry& entry) {
  if (entry.indexed || entry.index == 0) return;
  throw InvalidConfig(question(entry.function, entry.index) + " has an index but does not depend on it; set indexed");
}

}  // namespace

CpuidTable::CpuidTable(std::vector<CpuidEntry> entries) : entries_(std::move(entries)) {
  std::sort(entries_.begin(), entries_.end(), earlier);
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    check_index(entries_[i]);
    if (i == 0 || entries_[i].function != entries_[i - 1].function) continue;
    if (entries_[i].index == entries_[i - 1].index || !entries_[i].indexed || !entries_[i - 1].indexed)
      throw InvalidConfig(question(entries_[i].function, entries_[i].index) + " is in the table twice");
  }
}

const CpuidEntry* CpuidTable::find(std::uint32_t function, std::uint32_t index) const noexcept {
  CpuidEntry wanted;
  wanted.function = function;
  for (auto at = std::lower_bound(entries_.begin(), entries_.end(), wanted, earlier);
       at != entries_.end() && at->function == function; ++at) {
    if (!at->indexed || at->index == index) return &*at;
  }
  return nullptr;
}

CpuidEntry* CpuidTable::find(std::uint32_t function, std::uint32_t index) noexcept {
  return const_cast<CpuidEntry*>(static_cast<const CpuidTable*>(this)->find(function, index));
}

void CpuidTable::set(const CpuidEntry& entry) {
  check_index(entry);
  if (CpuidEntry* old = find(entry.function, entry.index)) {
    if (old->indexed != entry.indexed)
      throw InvalidConfig(question(entry.function, entry.index) +
                          ": the table says otherwise whether this function depends on the index; erase its entries "
                          "first");
    *old = entry;
    return;
  }
  const auto at = std::lower_bound(entries_.begin(), entries_.end(), entry, earlier);
  const auto same = [&entry](const CpuidEntry& other) { return other.function == entry.function; };
  if (!entry.indexed && std::any_of(entries_.begin(), entries_.end(), same))
    throw InvalidConfig(question(entry.function, entry.index) + " would stand beside entries that depend on the index");
  entries_.insert(at, entry);
}

bool CpuidTable::erase(std::uint32_t function, std::uint32_t index) noexcept {
  const CpuidEntry* found = find(function, index);
  if (found == nullptr) return false;
  entries_.erase(entries_.begin() + (found - entries_.data()));
  return true;
}

void CpuidTable::keep_if(const std::function<bool(const CpuidEntry&)>& keep) {
  std::vector<CpuidEntry> kept;
  std::copy_if(entries_.begin(), entries_.end(), std::back_inserter(kept), keep);
  entries_.swap(kept);
}

void CpuidTable::mask(std::uint32_t function, std::uint32_t index, const CpuidEntry& bits) {
  CpuidEntry* entry = find(function, index);
  if (entry == nullptr) throw OutOfRange(question(function, index) + " is not in the table", function, 1);
  entry->eax &= bits.eax;
  entry->ebx &= bits.ebx;
  entry->ecx &= bits.ecx;
  entry->edx &= bits.edx;
}

unsigned CpuidTable::physical_bits() const noexcept {
  const CpuidEntry* sizes = find(0x8000'0008);
  const unsigned bits = sizes == nullptr ? 0 : sizes->eax & 0xFF;
  return bits == 0 ? 36 : bits;
}

}  // namespace vm::accel
