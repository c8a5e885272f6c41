#include "elf.hpp"

#include <algorithm>
#include <cstring>

#include "vm/core/error.hpp"

namespace vm::accel::boot {
namespace {

constexpr std::uint32_t load_segment = 1, note_segment = 4;
constexpr std::uint16_t executable = 2, shared_object = 3, machine_386 = 3, machine_x86_64 = 62;

struct ProgramHeader {
  std::uint32_t type;
  Segment segment;
  std::uint64_t vaddr;
};

ProgramHeader read_header(const ImageReader& reader, bool wide, std::uint64_t at) {
  constexpr const char* what = "ELF program header";
  if (wide) {
    return {reader.u32(at, what),
            {reader.u64(at + 8, what), reader.u64(at + 32, what), reader.u64(at + 24, what), reader.u64(at + 40, what)},
            reader.u64(at + 16, what)};
  }
  return {reader.u32(at, what),
          {reader.u32(at + 4, what), reader.u32(at + 16, what), reader.u32(at + 12, what), reader.u32(at + 20, what)},
          reader.u32(at + 8, what)};
}

/// The entry that a Xen note of a PVH kernel names (Xen, public/elfnote.h: XEN_ELFNOTE_PHYS32_ENTRY).
std::optional<std::uint32_t> find_pvh_entry(const ImageReader& reader, const Segment& notes) {
  constexpr std::uint32_t phys32_entry = 18;
  constexpr std::uint64_t header_size = 12;
  const std::uint64_t end = notes.offset + notes.file_size;  // checked: inside the image
  for (std::uint64_t at = notes.offset; end - at >= header_size;) {
    const std::uint64_t name_size = reader.u32(at, "ELF note"), value_size = reader.u32(at + 4, "ELF note");
    const std::uint32_t type = reader.u32(at + 8, "ELF note");
    const std::uint64_t name = at + header_size, value = name + align_up(name_size, 4);
    const std::uint64_t next = value + align_up(value_size, 4);  // two 32-bit numbers: no overflow
    if (next > end) return std::nullopt;                         // padding or garbage after the last note
    if (type == phys32_entry && name_size == 4 && value_size >= 4 &&
        std::memcmp(reader.bytes(name, 4, "ELF note"), "Xen", 4) == 0) {
      return reader.u32(value, "ELF note");
    }
    at = next;
  }
  return std::nullopt;
}

}  // namespace

bool is_elf(const ImageReader& reader) noexcept {
  return reader.holds(0, 4) && std::memcmp(reader.bytes(0, 4, "ELF header"),
                                           "\x7f"
                                           "ELF",
                                           4) == 0;
}

ElfImage read_elf(const ImageReader& reader, const mem::GuestMemory& memory) {
  constexpr const char* header = "ELF header";
  const std::uint8_t file_class = reader.u8(4, header);
  if (file_class != 1 && file_class != 2) reader.refuse("ELF class " + std::to_string(file_class) + " at offset 0x4");
  if (reader.u8(5, header) != 1) reader.refuse("the ELF image is not little-endian (offset 0x5)");
  const bool wide = file_class == 2;
  const std::uint16_t type = reader.u16(16, header), machine = reader.u16(18, header);
  if (type != executable && type != shared_object)
    reader.refuse("an ELF image of type " + std::to_string(type) + " (offset 0x10) is not executable");
  if (machine != machine_386 && machine != machine_x86_64)
    reader.refuse("the ELF image is for machine " + std::to_string(machine) + " (offset 0x12), not for x86");
  ElfImage elf;
  elf.wide = wide;
  const std::uint64_t entry = wide ? reader.u64(24, header) : reader.u32(24, header);
  const std::uint64_t table = wide ? reader.u64(32, header) : reader.u32(28, header);
  const std::uint16_t entry_size = reader.u16(wide ? 54 : 42, header), count = reader.u16(wide ? 56 : 44, header);
  const std::uint16_t expected = wide ? 56 : 32;
  if (entry_size != expected)
    reader.refuse("ELF program headers of " + std::to_string(entry_size) + " bytes; they have " +
                  std::to_string(expected));
  reader.bytes(table, std::uint64_t{entry_size} * count, "ELF program header table");
  elf.entry = entry;
  elf.first = UINT64_MAX;
  for (std::uint64_t i = 0; i < count; ++i) {
    const ProgramHeader program = read_header(reader, wide, table + i * entry_size);
    const Segment& segment = program.segment;
    if (program.type == note_segment) {
      reader.bytes(segment.offset, segment.file_size, "ELF notes");
      if (!elf.pvh_entry) elf.pvh_entry = find_pvh_entry(reader, segment);
    }
    if (program.type != load_segment || segment.memory_size == 0) continue;
    check_segment(reader, memory, segment, ("ELF segment " + std::to_string(i)).c_str());
    if (entry - program.vaddr < segment.memory_size) elf.entry = entry - program.vaddr + segment.paddr;
    elf.first = std::min(elf.first, segment.paddr);
    elf.last = std::max(elf.last, segment.paddr + (segment.memory_size - 1));
    elf.segments.push_back(segment);
  }
  if (elf.segments.empty()) reader.refuse("the ELF image has no segment to load");
  return elf;
}

void write_elf(const ImageReader& reader, mem::GuestMemory& memory, const ElfImage& elf) {
  for (const Segment& segment : elf.segments) write_segment(reader, memory, segment);
}

}  // namespace vm::accel::boot
