#pragma once
/// \file
/// What reprs are made of.

#include <cstdint>
#include <string>

#include "vm/core/error.hpp"

/// " name=0x1f"
inline std::string hex_field(const char* name, std::uint64_t value) {
  return std::string(" ") + name + "=" + vm::hex(value);
}
/// " name" when it is so.
inline std::string flag_field(const char* name, bool set) { return set ? std::string(" ") + name : std::string(); }
