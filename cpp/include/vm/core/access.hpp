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

/// "r-x" and the like, as in /proc/PID/maps.
std::string to_string(Access access);
std::string to_string(Privilege privilege);

}  // namespace vm
