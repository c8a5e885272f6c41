// Reduces what valgrind's lackey prints (--trace-mem=yes) to the pages that a data TLB sees.
//
// Lines: "I  address,size" an instruction; " L", " S", " M" and address,size a load, store or modification; addresses
// in hexadecimal. Instruction fetches are left out but for the address that the following references get as their pc.
// References that hit a direct-mapped cache of 16 pages are dropped: such a page is the most recently used one of its
// set in every cache whose number of sets is a multiple of 16 and whose set is the page number modulo that, so the
// reference hits there, and where the least recently used is replaced it changes nothing (Puzak's trace stripping;
// W.-H. Wang & J.-L. Baer, Efficient Trace-Driven Simulation Methods for Cache Performance Analysis, 1991). Everything
// else that is printed is passed over.

#include <cctype>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>

namespace {

constexpr std::size_t filter_sets = 16;

// The hexadecimal number at `text`, which is moved behind it.
std::uint64_t hexadecimal(const char*& text) {
  std::uint64_t value = 0;
  for (; std::isxdigit(static_cast<unsigned char>(*text)) != 0; ++text) {
    const int digit = *text <= '9' ? *text - '0' : (*text | 32) - 'a' + 10;
    value = value << 4 | static_cast<std::uint64_t>(digit);
  }
  return value;
}

}  // namespace

// Reads `fd` until its end, until `references` data references were seen, or until `capacity` pages are in `pages` and
// `pcs`. Returns how many there are; `seen` receives the data references.
extern "C" std::size_t lackey_pages(int fd, std::uint64_t references, std::size_t capacity, std::uint64_t* pages,
                                    std::uint64_t* pcs, std::uint64_t* seen) {
  std::FILE* file = fdopen(fd, "r");
  if (file == nullptr) return 0;
  char line[256];
  std::uint64_t filter[filter_sets];
  for (std::uint64_t& entry : filter) entry = UINT64_MAX;
  std::uint64_t pc = 0;
  std::size_t count = 0;
  *seen = 0;
  while (*seen < references && count + 2 <= capacity && std::fgets(line, sizeof line, file) != nullptr) {
    const bool instruction = std::strncmp(line, "I  ", 3) == 0;
    const bool data = line[0] == ' ' && std::strchr("LSM", line[1]) != nullptr && line[1] != '\0' && line[2] == ' ';
    if (!instruction && !data) continue;
    const char* at = line + 3;
    const std::uint64_t address = hexadecimal(at);
    if (instruction) {
      pc = address;
      continue;
    }
    std::uint64_t size = 0;
    if (*at == ',' && std::sscanf(at + 1, "%lu", &size) != 1) continue;
    ++*seen;
    // The last byte may be on the next page.
    for (const std::uint64_t byte : {address, address + (size == 0 ? 0 : size - 1)}) {
      const std::uint64_t page = byte >> 12;
      if (filter[page % filter_sets] == page) continue;
      filter[page % filter_sets] = page;
      pages[count] = page;
      pcs[count++] = pc;
    }
  }
  std::fclose(file);
  return count;
}
