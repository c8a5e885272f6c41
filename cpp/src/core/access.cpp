#include "vm/core/access.hpp"

namespace vm {

std::string to_string(Access access) {
  std::string text = "---";
  if (has(access, Access::read)) text[0] = 'r';
  if (has(access, Access::write)) text[1] = 'w';
  if (has(access, Access::execute)) text[2] = 'x';
  return text;
}

std::string to_string(Privilege privilege) { return privilege == Privilege::user ? "user" : "supervisor"; }

}  // namespace vm
