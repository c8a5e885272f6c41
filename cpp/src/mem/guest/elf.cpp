// ELF core files of machines: QEMU's dump-guest-memory, kdump's vmcore. PT_LOAD segments are guest memory at p_paddr,
// PT_NOTE segments describe the CPUs.
#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "mem/guest/elf_layout.hpp"
#include "mem/guest/elf_notes.hpp"
#include "mem/guest/image.hpp"
#include "mem/guest/segments.hpp"
#include "vm/core/error.hpp"

namespace vm::mem {

namespace {

/// Far more than any machine has runs of memory; a hostile header can claim 2^32.
constexpr std::uint64_t largest_segment_count = std::uint64_t{1} << 22;
constexpr std::uint64_t segments_per_read = 1024;
/// About 800 bytes for each CPU: twice the 8192 CPUs that Linux can be built for.
constexpr std::uint64_t largest_notes_size = std::uint64_t{1} << 24;

struct Header {
  const elf::Layout* layout = nullptr;
  std::uint16_t machine = 0;
  std::uint64_t segments_at = 0;
  std::uint64_t segment_count = 0;
};

struct Tables {
  std::vector<Segment> memory;
  std::vector<Segment> notes;
};

std::uint64_t load_word(const elf::Layout& layout, const std::byte* from) noexcept {
  return layout.word == 4 ? load_little_endian<std::uint32_t>(from) : load_little_endian<std::uint64_t>(from);
}

/// Class, byte order and type; throws unless this is a little-endian ELF core.
const elf::Layout& check_identity(const InputFile& file, const std::byte* header) {
  constexpr char magic[4] = {'\x7F', 'E', 'L', 'F'};
  const std::string& path = file.path();
  if (std::memcmp(header, magic, sizeof magic) != 0) throw InvalidConfig(path + " does not begin with an ELF header");
  if (header[elf::class_at] != elf::class_32 && header[elf::class_at] != elf::class_64) {
    throw InvalidConfig(path + ": the ELF class at file offset 4 is " +
                        std::to_string(std::to_integer<int>(header[elf::class_at])) + ", neither 32 nor 64 bits");
  }
  if (header[elf::data_at] != elf::data_little_endian) {
    throw NotSupported(path + " is not a little-endian ELF file (file offset 5); only those can be opened");
  }
  const auto type = load_little_endian<std::uint16_t>(header + elf::type_at);
  if (type != elf::type_core) {
    throw InvalidConfig(path + " is an ELF file of type " + std::to_string(type) +
                        " (file offset 16), not a core (4): it is a program and not a memory image");
  }
  return header[elf::class_at] == elf::class_64 ? elf::layout_64 : elf::layout_32;
}

/// The number of program headers where 16 bits do not hold it: in the first section header.
std::uint64_t extended_segment_count(const InputFile& file, const elf::Layout& layout, const std::byte* header) {
  const std::uint64_t section_at = load_word(layout, header + layout.shoff_at);
  if (section_at == 0 || !file.holds(section_at, layout.section_size)) {
    throw InvalidConfig(file.path() + ": the ELF header keeps its number of segments in a section header at file " +
                        "offset " + hex(section_at) + ", where there is none");
  }
  std::array<std::byte, elf::layout_64.section_size> section;
  file.read(section_at, section.data(), layout.section_size);
  return load_little_endian<std::uint32_t>(&section[layout.section_info_at]);
}

Header read_header(const InputFile& file) {
  std::array<std::byte, elf::layout_64.header_size> bytes{};
  const std::size_t present = static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), file.size()));
  file.read(0, bytes.data(), present);
  Header header;
  header.layout = &check_identity(file, bytes.data());
  const elf::Layout& layout = *header.layout;
  if (present < layout.header_size) {
    throw InvalidConfig(file.path() + ": the ELF header is truncated: " + std::to_string(present) + " of " +
                        std::to_string(layout.header_size) + " bytes");
  }
  header.machine = load_little_endian<std::uint16_t>(&bytes[elf::machine_at]);
  header.segments_at = load_word(layout, &bytes[layout.phoff_at]);
  const auto count = load_little_endian<std::uint16_t>(&bytes[layout.phnum_at]);
  header.segment_count = count == elf::extended_count ? extended_segment_count(file, layout, bytes.data()) : count;
  if (header.segment_count == 0 && load_little_endian<std::uint16_t>(&bytes[layout.shnum_at]) > 0) {
    throw NotSupported(file.path() +
                       " is an ELF core that keeps its memory in sections, as Xen's dump-core writes it; " +
                       "convert it to raw, LiME or an ELF core with segments");
  }
  const auto entry_size = load_little_endian<std::uint16_t>(&bytes[layout.phentsize_at]);
  if (header.segment_count > 0 && entry_size != layout.segment_size) {
    throw InvalidConfig(file.path() + ": the ELF header says that a program header has " + std::to_string(entry_size) +
                        " bytes; in this class it has " + std::to_string(layout.segment_size));
  }
  return header;
}

void check_table(const InputFile& file, const Header& header) {
  const std::string claim = file.path() + ": the ELF header claims " + std::to_string(header.segment_count) +
                            " program headers at file offset " + hex(header.segments_at);
  if (header.segment_count > largest_segment_count) throw InvalidConfig(claim + ", more than any machine has");
  if (!file.holds(header.segments_at, header.segment_count * header.layout->segment_size)) {
    throw InvalidConfig(claim + ", but the file has only " + hex(file.size()) + " bytes: truncated or damaged");
  }
}

Tables read_tables(const InputFile& file, const Header& header) {
  check_table(file, header);
  const elf::Layout& layout = *header.layout;
  Tables tables;
  std::vector<std::byte> chunk;
  for (std::uint64_t done = 0; done < header.segment_count;) {
    const std::uint64_t count = std::min(segments_per_read, header.segment_count - done);
    chunk.resize(static_cast<std::size_t>(count) * layout.segment_size);
    const std::uint64_t chunk_at = header.segments_at + done * layout.segment_size;
    file.read(chunk_at, chunk.data(), chunk.size());
    for (std::size_t at = 0; at < chunk.size(); at += layout.segment_size) {
      const auto type = load_little_endian<std::uint32_t>(&chunk[at]);
      Segment segment;
      segment.file_offset = load_word(layout, &chunk[at + layout.offset_at]);
      segment.base = load_word(layout, &chunk[at + layout.paddr_at]);
      segment.file_size = load_word(layout, &chunk[at + layout.filesz_at]);
      segment.memory_size = load_word(layout, &chunk[at + layout.memsz_at]);
      segment.header_offset = chunk_at + at;
      if (type == elf::segment_load && (segment.memory_size | segment.file_size) != 0) tables.memory.push_back(segment);
      if (type == elf::segment_note && segment.file_size > 0) tables.notes.push_back(segment);
    }
    done += count;
  }
  return tables;
}

void check_memory(const InputFile& file, const std::vector<Segment>& memory) {
  if (memory.empty()) throw InvalidConfig(file.path() + " is an ELF core without a memory segment (PT_LOAD)");
  const auto at_zero = [](const Segment& segment) { return segment.base == 0; };
  if (memory.size() > 1 && std::all_of(memory.begin(), memory.end(), at_zero)) {
    throw InvalidConfig(file.path() + ": all " + std::to_string(memory.size()) +
                        " segments have the physical address " +
                        "0; it looks like the core of a process, which has no guest-physical memory");
  }
}

void read_notes(const InputFile& file, const Header& header, const std::vector<Segment>& segments, ImageFacts& facts) {
  CpuNotes notes(header.machine, header.layout->word);
  std::uint64_t total = 0;
  for (const Segment& segment : segments) {
    const std::string where = file.path() + ": the note segment announced at file offset " + hex(segment.header_offset);
    if (!file.holds(segment.file_offset, segment.file_size)) {
      throw InvalidConfig(where + " claims " + hex(segment.file_size) + " bytes at file offset " +
                          hex(segment.file_offset) + ", but the file has only " + hex(file.size()) + " bytes");
    }
    if (segment.file_size > largest_notes_size - total) {
      throw InvalidConfig(where + " brings the notes above " + hex(largest_notes_size) +
                          " bytes, more than any number of CPUs needs");
    }
    total += segment.file_size;
    std::vector<std::byte> bytes(static_cast<std::size_t>(segment.file_size));
    file.read(segment.file_offset, bytes.data(), bytes.size());
    bytes.resize(notes.parse(bytes, file.path(), segment.file_offset));
    facts.elf_notes.insert(facts.elf_notes.end(), bytes.begin(), bytes.end());
    facts.elf_notes.resize((facts.elf_notes.size() + 3) / 4 * 4);  // the next segment's notes begin aligned
  }
  facts.cpu_states = notes.take_states();
}

}  // namespace

Image load_elf(InputFile file, bool writable) {
  const Header header = read_header(file);
  const Tables tables = read_tables(file, header);
  check_memory(file, tables.memory);
  Image image;
  image.facts.format = "elf";
  image.facts.elf_machine = header.machine;
  image.facts.elf_word = header.layout->word;
  read_notes(file, header, tables.notes, image.facts);
  image.regions = map_segments(std::move(file), tables.memory, writable, Overlaps::allow_same_bytes);
  return image;
}

}  // namespace vm::mem
