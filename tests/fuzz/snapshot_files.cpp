// Snapshot files of any bytes: a file is loaded or refused with an error of the family, and what was loaded describes
// memory that is there. Nobody finds checksums by chance, so where the first byte is even, what follows is made
// consistent first: a fuzzer gets behind the checks, as somebody does who means harm and can compute a CRC.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "accel/snapshot/crc32c.hpp"
#include "accel/snapshot/file_layout.hpp"
#include "vm/accel/snapshot/snapshot.hpp"
#include "vm/core/error.hpp"

namespace {

using namespace vm::accel;
using namespace vm::accel::snapshot_file;

using Bytes = std::vector<unsigned char>;

constexpr std::uint64_t page_size = MemoryImage::page_size;

template <class T>
T get(const Bytes& file, std::size_t at) {
  T value;
  std::memcpy(&value, file.data() + at, sizeof value);
  return value;
}

template <class T>
void put(Bytes& file, std::size_t at, const T& value) {
  std::memcpy(file.data() + at, &value, sizeof value);
}

/// Sections one behind the other, the last of them to the end of the file.
std::vector<Section> lay_out(const Bytes& file, std::uint32_t count) {
  std::vector<Section> table(count);
  std::uint64_t at = sizeof(Header) + count * sizeof(Section);
  for (std::uint32_t i = 0; i < count; ++i) {
    table[i] = get<Section>(file, sizeof(Header) + i * sizeof(Section));
    const std::uint64_t left = file.size() - at;
    table[i].offset = at;
    table[i].size = i + 1 == count ? left : std::min(table[i].size, left);
    at += table[i].size;
  }
  return table;
}

const Section* find(const std::vector<Section>& table, Kind kind) {
  const auto found = std::find_if(table.begin(), table.end(), [kind](const Section& section) {
    return section.kind == static_cast<std::uint32_t>(kind);
  });
  return found == table.end() ? nullptr : &*found;
}

/// The checksums of the blocks of memory, as many as there is room for.
void mend_blocks(Bytes& file, const std::vector<Section>& table) {
  const Section* const crcs = find(table, Kind::block_crcs);
  const Section* const memory = find(table, Kind::memory);
  if (crcs == nullptr || memory == nullptr) return;
  constexpr std::uint64_t block = block_pages * page_size;
  for (std::uint64_t i = 0; i * block < memory->size && (i + 1) * sizeof(std::uint32_t) <= crcs->size; ++i) {
    const std::uint64_t size = std::min(block, memory->size - i * block);
    put(file, crcs->offset + i * sizeof(std::uint32_t), crc32c(file.data() + memory->offset + i * block, size));
  }
}

void mend(Bytes& file) {
  if (file.size() < sizeof(Header)) return;
  auto header = get<Header>(file, 0);
  header.magic = magic;
  header.version = version;
  header.byte_order = byte_order;
  header.file_size = file.size();
  header.sections = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(header.sections, (file.size() - sizeof(Header)) / sizeof(Section)));
  std::vector<Section> table = lay_out(file, header.sections);
  mend_blocks(file, table);
  for (Section& section : table) section.crc = crc32c(file.data() + section.offset, section.size);
  if (!table.empty()) std::memcpy(file.data() + sizeof(Header), table.data(), table.size() * sizeof(Section));
  header.table_crc = crc32c(table.data(), table.size() * sizeof(Section));
  header.crc = crc32c(&header, offsetof(Header, crc));
  put(file, 0, header);
}

/// Every page that the snapshot says is there can be read.
void look_at(const Snapshot& snapshot) {
  volatile std::byte seen{};
  for (const SnapshotSlot& slot : snapshot.parts().slots) {
    const MemoryImage& image = *snapshot.parts().memory;
    for (std::uint64_t i = 0; i < slot.size / page_size; ++i) {
      if (slot.image_page + i >= image.pages()) std::abort();
      if (image.present(slot.image_page + i)) seen = image.page(slot.image_page + i)[page_size - 1];
    }
  }
  static_cast<void>(seen);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  Bytes file(data + 1, data + size);
  if (data[0] % 2 == 0) mend(file);
  const int fd = memfd_create("snapshot", MFD_CLOEXEC);
  if (fd < 0 || write(fd, file.data(), file.size()) != static_cast<ssize_t>(file.size())) std::abort();
  try {
    look_at(*Snapshot::load("/proc/self/fd/" + std::to_string(fd)));
  } catch (const vm::VmError&) {  // refused
  }
  close(fd);
  return 0;
}
