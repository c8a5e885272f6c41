// The image loaders against any bytes: a file is opened or refused with an error of the family, and what was opened can
// be read at both ends of every region and survives saving.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

namespace {

using vm::mem::GuestMemory;
using vm::mem::ImageFormat;
using vm::mem::Region;

/// Saving costs some system calls; only for images whose every byte can be compared quickly.
constexpr std::uint64_t largest_saved = 1 << 16;

void require(bool truth) {
  if (!truth) std::abort();
}

/// A file in memory that holds the input.
class InputFile {
 public:
  InputFile() : fd_(::memfd_create("input", 0)) { require(fd_ >= 0); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile() { ::close(fd_); }

  void fill(const std::uint8_t* data, std::size_t size) const {
    require(::ftruncate(fd_, 0) == 0);
    require(::pwrite(fd_, data, size, 0) == static_cast<ssize_t>(size));
  }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

/// A directory for saved images, removed at the end of the process.
class OutputDirectory {
 public:
  OutputDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "vm-fuzz-XXXXXX").string();
    require(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;
  ~OutputDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::string file() const { return (path_ / "saved").string(); }

 private:
  std::filesystem::path path_;
};

/// Nothing when the file is refused as it should be.
std::shared_ptr<GuestMemory> open(const std::string& path) {
  try {
    return GuestMemory::open(path);
  } catch (const vm::VmError&) {
    return nullptr;
  }
}

std::vector<std::byte> read(const GuestMemory& memory, std::uint64_t paddr, std::uint64_t size) {
  std::vector<std::byte> bytes(size);
  memory.read(paddr, bytes.data(), size);
  return bytes;
}

void check_regions(const GuestMemory& memory) {
  const auto table = memory.table();
  require(!table->regions().empty());
  const Region* before = nullptr;
  for (const Region& region : table->regions()) {
    require(region.size > 0 && region.last() >= region.base);
    require(before == nullptr || before->last() < region.base);
    require(!region.writable && table->writable_at(region.base, 1) == nullptr);
    require(table->find(region.base) == &region && table->find(region.last()) == &region);
    read(memory, region.base, 1);
    read(memory, region.last(), 1);
    before = &region;
  }
}

void check_saved(const GuestMemory& memory, const std::string& path, ImageFormat format) {
  try {
    memory.save(path, format);
  } catch (const vm::InvalidConfig&) {
    // A 32-bit core has room for 4 GiB only, its tail of zeros included.
    require(format == ImageFormat::elf && memory.facts().elf_word == 4);
    return;
  }
  const auto again = GuestMemory::open(path);
  require(again->size() == memory.size());
  require(again->facts().cpu_states.size() == memory.facts().cpu_states.size() || format != ImageFormat::elf);
  const auto table = memory.table();
  for (const Region& region : table->regions()) {
    require(read(*again, region.base, region.size) == read(memory, region.base, region.size));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const InputFile input;
  static const OutputDirectory output;
  input.fill(data, size);
  const auto memory = open(input.path());
  if (memory == nullptr) return 0;
  check_regions(*memory);
  if (memory->format() == "raw" || memory->size() > largest_saved || size % 4 != 0) return 0;
  check_saved(*memory, output.file(), ImageFormat::lime);
  check_saved(*memory, output.file(), ImageFormat::elf);
  return 0;
}
