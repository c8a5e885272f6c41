#pragma once
/// \file
/// Addresses of three kinds that do not convert into each other by accident, and alignment arithmetic.
/// Public interfaces take these newtypes where two kinds could be confused; inner loops work on the raw integers.

#include <cstdint>
#include <functional>

namespace vm {

/// An address of one kind. `Tag` only tells kinds apart; the value is a plain 64-bit integer.
template <class Tag>
struct Address {
  std::uint64_t value = 0;

  constexpr Address() noexcept = default;
  constexpr explicit Address(std::uint64_t v) noexcept : value(v) {}

  friend constexpr bool operator==(Address a, Address b) noexcept { return a.value == b.value; }
  friend constexpr bool operator!=(Address a, Address b) noexcept { return a.value != b.value; }
  friend constexpr bool operator<(Address a, Address b) noexcept { return a.value < b.value; }
  friend constexpr bool operator<=(Address a, Address b) noexcept { return a.value <= b.value; }
  friend constexpr bool operator>(Address a, Address b) noexcept { return a.value > b.value; }
  friend constexpr bool operator>=(Address a, Address b) noexcept { return a.value >= b.value; }
  friend constexpr Address operator+(Address a, std::uint64_t n) noexcept { return Address{a.value + n}; }
  friend constexpr Address operator-(Address a, std::uint64_t n) noexcept { return Address{a.value - n}; }
  /// Distance in bytes; wraps modulo 2^64 like the addresses themselves.
  friend constexpr std::uint64_t operator-(Address a, Address b) noexcept { return a.value - b.value; }
};

/// What the guest's software uses (GVA).
using GuestVirtual = Address<struct GuestVirtualTag>;
/// What the guest's page tables produce (GPA).
using GuestPhysical = Address<struct GuestPhysicalTag>;
/// A pointer of this process, as a number (HVA).
using HostVirtual = Address<struct HostVirtualTag>;

/// True when `n` is a power of two; 0 is not.
constexpr bool is_power_of_two(std::uint64_t n) noexcept { return n != 0 && (n & (n - 1)) == 0; }

/// The functions below need a power-of-two `alignment`.
constexpr std::uint64_t align_down(std::uint64_t n, std::uint64_t alignment) noexcept { return n & ~(alignment - 1); }
/// Wraps to 0 when the next multiple does not fit 64 bits.
constexpr std::uint64_t align_up(std::uint64_t n, std::uint64_t alignment) noexcept {
  return (n + alignment - 1) & ~(alignment - 1);
}
constexpr bool is_aligned(std::uint64_t n, std::uint64_t alignment) noexcept { return (n & (alignment - 1)) == 0; }

/// True when [base, base + size) neither wraps nor ends beyond 2^64. The empty range at any base is fine.
constexpr bool range_fits(std::uint64_t base, std::uint64_t size) noexcept {
  return size == 0 || base <= UINT64_MAX - (size - 1);
}

/// Page sizes that the supported page-table formats can map, in bytes; the enumerator's value is the size.
enum class PageSize : std::uint64_t {
  size_4k = std::uint64_t{1} << 12,
  size_16k = std::uint64_t{1} << 14,
  size_64k = std::uint64_t{1} << 16,  ///< AArch64 64K granule; RISC-V Svnapot
  size_2m = std::uint64_t{1} << 21,
  size_4m = std::uint64_t{1} << 22,    ///< x86 PSE; RISC-V Sv32 megapage
  size_32m = std::uint64_t{1} << 25,   ///< AArch64 16K granule, level 2 block
  size_512m = std::uint64_t{1} << 29,  ///< AArch64 64K granule, level 2 block
  size_1g = std::uint64_t{1} << 30,
  size_64g = std::uint64_t{1} << 36,   ///< AArch64 16K granule with LPA2, level 1 block
  size_512g = std::uint64_t{1} << 39,  ///< RISC-V terapage; AArch64 4K granule with LPA2, level 0 block
  size_4t = std::uint64_t{1} << 42,    ///< AArch64 64K granule with LPA, level 1 block
  size_256t = std::uint64_t{1} << 48,  ///< RISC-V Sv57 petapage
};

constexpr std::uint64_t bytes(PageSize size) noexcept { return static_cast<std::uint64_t>(size); }

}  // namespace vm

template <class Tag>
struct std::hash<vm::Address<Tag>> {
  std::size_t operator()(vm::Address<Tag> a) const noexcept { return std::hash<std::uint64_t>{}(a.value); }
};
