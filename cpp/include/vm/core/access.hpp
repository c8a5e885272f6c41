#pragma once
/// \file
/// What an access wants to do and who is asking. Shared by page tables, TLBs and hypervisor memory slots.

#include <cstdint>
#include <string>

namespace vm {

/// A set of access rights. As a request: all of them are wanted at once. As an answer: all of them are granted.
/// `none` as a request asks for the address only, without a permission check.
enum class Access : std::uint8_t { none = 0, read = 1, write = 2, execute = 4 };

constexpr Access operator|(Access a, Access b) noexcept {
  return static_cast<Access>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
constexpr Access operator&(Access a, Access b) noexcept {
  return static_cast<Access>(static_cast<unsigned>(a) & static_cast<unsigned>(b));
}
constexpr Access operator~(Access a) noexcept { return static_cast<Access>(~static_cast<unsigned>(a) & 7U); }
constexpr Access& operator|=(Access& a, Access b) noexcept { return a = a | b; }
constexpr Access& operator&=(Access& a, Access b) noexcept { return a = a & b; }

/// True when `a` holds every right in `wanted`; always true for `Access::none`.
constexpr bool has(Access a, Access wanted) noexcept { return (a & wanted) == wanted; }
/// True when `a` holds at least one right of `wanted`.
constexpr bool has_any(Access a, Access wanted) noexcept { return (a & wanted) != Access::none; }

/// Who asks: x86 CPL 3 / RISC-V U-mode / AArch64 EL0 are `user`; everything more privileged is `supervisor`.
enum class Privilege : std::uint8_t { supervisor = 0, user = 1 };

/// What page tables allow, for both privileges at once: bits 0..2 are the supervisor's read, write, execute (the values
/// of `Access`), bits 3..5 the user's. It is what the entries say, combined over all levels; modes of the processor
/// (CR0.WP, SMEP, SMAP, SUM, MXR, PAN, protection keys) are checked against it but do not change it.
using Rights = std::uint32_t;

constexpr Access supervisor_access(Rights rights) noexcept { return static_cast<Access>(rights & 7); }
constexpr Access user_access(Rights rights) noexcept { return static_cast<Access>(rights >> 3 & 7); }
constexpr Access access_of(Rights rights, Privilege privilege) noexcept {
  return privilege == Privilege::user ? user_access(rights) : supervisor_access(rights);
}

/// "r-x" and the like, as in /proc/PID/maps.
std::string to_string(Access access);
std::string to_string(Privilege privilege);

}  // namespace vm
