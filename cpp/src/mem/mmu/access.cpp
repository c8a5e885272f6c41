// Reads and writes through the MMU.

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "mem/guest/overlap.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/mmu/mmu.hpp"

namespace vm::mem {
namespace {

const char* verb(Access access) noexcept { return has(access, Access::write) ? "write" : "read"; }

[[noreturn]] void throw_nothing_there(std::uint64_t paddr, Access access) {
  throw OutOfRange(std::string(verb(access)) + " reaches physical address " + hex(paddr) +
                       ", where there is neither guest memory nor a device",
                   paddr, 1);
}

bool aligned_on_host(const std::byte* host, std::size_t size) noexcept {
  return (reinterpret_cast<std::uintptr_t>(host) & (size - 1)) == 0;
}

}  // namespace

Mmu::Piece Mmu::piece(std::uint64_t vaddr, std::uint64_t size, Access access, Privilege privilege) {
  const paging::Translation t = translate(GuestVirtual(vaddr), access, privilege);
  const std::uint64_t paddr = t.paddr;
  size = std::min(size, t.page_size() - (vaddr & (t.page_size() - 1)));
  const RegionTable& regions = regions_.get();
  const Region* region = regions.find(paddr);
  if (region == nullptr) {
    if (!mmio_.contains(paddr)) throw_nothing_there(paddr, access);
    size = std::min(size, mmio_.last_of(paddr) - paddr + 1);
    // Memory that was added after the device hides what it covers.
    for (const Region& above : regions.regions())
      if (above.base > paddr) size = std::min(size, above.base - paddr);
    return {paddr, size, nullptr};
  }
  const std::uint64_t here = std::min(size, region->last() - paddr + 1);
  if (has(access, Access::write)) regions.require_writable(paddr, here, "write");
  regions.require_present(paddr, here);
  return {paddr, here, region->host + (paddr - region->base)};
}

std::vector<Mmu::Piece> Mmu::pieces(std::uint64_t vaddr, std::uint64_t size, Access access, Privilege privilege) {
  std::vector<Piece> pieces;
  // A range over the end of 64-bit addresses goes on at 0.
  for (std::uint64_t done = 0; done < size;) {
    pieces.push_back(piece(vaddr + done, size - done, access, privilege));
    done += pieces.back().size;
  }
  for (const Piece& p : pieces)
    if (p.host == nullptr) mmio_.require(p.paddr, p.size, verb(access));
  return pieces;
}

void Mmu::read(GuestVirtual vaddr, void* destination, std::uint64_t size, Privilege privilege, Access access) {
  auto* out = static_cast<std::byte*>(destination);
  for (const Piece& p : pieces(vaddr.value, size, access, privilege)) {
    if (p.host != nullptr) {
      std::memcpy(out, p.host, p.size);
    } else {
      counters_.add(mmio_reads);
      mmio_.read_bytes(p.paddr, out, p.size);
    }
    out += p.size;
  }
}

void Mmu::write(GuestVirtual vaddr, const void* source, std::uint64_t size, Privilege privilege) {
  const auto* in = static_cast<const std::byte*>(source);
  const std::vector<Piece> all = pieces(vaddr.value, size, Access::write, privilege);
  std::vector<std::byte> copy;
  if (std::any_of(all.begin(), all.end(),
                  [&](const Piece& p) { return p.host != nullptr && overlap(p.host, p.size, in, size); })) {
    copy.assign(in, in + size);
    in = copy.data();
  }
  for (const Piece& p : all) {
    if (p.host != nullptr) {
      std::memcpy(p.host, in, p.size);
    } else {
      counters_.add(mmio_writes);
      mmio_.write_bytes(p.paddr, in, p.size);
    }
    in += p.size;
  }
}

template <class T>
T Mmu::load(GuestVirtual vaddr, Privilege privilege) {
  T value{};
  const Piece p = piece(vaddr.value, sizeof(T), Access::read, privilege);
  if (p.size != sizeof(T)) {
    read(vaddr, &value, sizeof(T), privilege);
  } else if (p.host == nullptr) {
    counters_.add(mmio_reads);
    value = static_cast<T>(mmio_.read(p.paddr, sizeof(T)));
  } else if (aligned_on_host(p.host, sizeof(T))) {
    __atomic_load(reinterpret_cast<const T*>(p.host), &value, __ATOMIC_RELAXED);
  } else {
    std::memcpy(&value, p.host, sizeof(T));
  }
  return value;
}

template <class T>
void Mmu::store(GuestVirtual vaddr, T value, Privilege privilege) {
  const Piece p = piece(vaddr.value, sizeof(T), Access::write, privilege);
  if (p.size != sizeof(T)) {
    write(vaddr, &value, sizeof(T), privilege);
  } else if (p.host == nullptr) {
    counters_.add(mmio_writes);
    mmio_.write(p.paddr, sizeof(T), value);
  } else if (aligned_on_host(p.host, sizeof(T))) {
    __atomic_store(reinterpret_cast<T*>(p.host), &value, __ATOMIC_RELAXED);
  } else {
    std::memcpy(p.host, &value, sizeof(T));
  }
}

template <class T>
bool Mmu::compare_exchange(GuestVirtual vaddr, T& expected, T desired, Privilege privilege) {
  if (!is_aligned(vaddr.value, sizeof(T)))
    throw InvalidConfig("compare-exchange of " + std::to_string(sizeof(T)) + " bytes at " + hex(vaddr.value) +
                        ": the address must be a multiple of the size");
  const Piece p = piece(vaddr.value, sizeof(T), Access::read | Access::write, privilege);
  if (p.host == nullptr)
    throw NotSupported("compare-exchange at " + hex(vaddr.value) + " reaches a device at " + hex(p.paddr) +
                       "; devices are read and written only");
  if (p.size != sizeof(T) || !aligned_on_host(p.host, sizeof(T)))
    throw NotSupported("compare-exchange at " + hex(vaddr.value) +
                       ": these bytes are not aligned in this process (a mapped image has them at an odd offset)");
  return __atomic_compare_exchange_n(reinterpret_cast<T*>(p.host), &expected, desired, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST);
}

#define VM_MMU_WORD(T)                                     \
  template T Mmu::load<T>(GuestVirtual, Privilege);        \
  template void Mmu::store<T>(GuestVirtual, T, Privilege); \
  template bool Mmu::compare_exchange<T>(GuestVirtual, T&, T, Privilege);
VM_MMU_WORD(std::uint8_t)
VM_MMU_WORD(std::uint16_t)
VM_MMU_WORD(std::uint32_t)
VM_MMU_WORD(std::uint64_t)
#undef VM_MMU_WORD

}  // namespace vm::mem
