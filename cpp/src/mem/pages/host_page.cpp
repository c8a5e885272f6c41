#include "vm/mem/pages/host_page.hpp"

#include <unistd.h>

namespace vm::mem {

std::uint64_t host_page_size() noexcept { return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)); }

}  // namespace vm::mem
