#pragma once
/// \file
/// Refusals of the operating system as exceptions.

#include <string>

namespace vm::mem {

/// Throws PlatformError("`what`: why", code).
[[noreturn]] void throw_system_error(const std::string& what, int code);

}  // namespace vm::mem
