#include "mem/pages/system_error.hpp"

#include <system_error>

#include "vm/core/error.hpp"

namespace vm::mem {

void throw_system_error(const std::string& what, int code) {
  throw PlatformError(what + ": " + std::generic_category().message(code), code);
}

}  // namespace vm::mem
