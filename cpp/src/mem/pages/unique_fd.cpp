#include "vm/mem/pages/unique_fd.hpp"

#include <unistd.h>

namespace vm::mem {

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace vm::mem
