// Layout of the ELF cores that we write: header, program headers, one section header when there are too many of them
// for 16 bits, notes, then the regions, each on a page boundary.
#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "mem/guest/elf_layout.hpp"
#include "mem/guest/image.hpp"
#include "mem/guest/save.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"

namespace vm::mem {

namespace {

constexpr std::uint64_t page = 4096;

void store_word(const elf::Layout& layout, std::byte* to, std::uint64_t value) noexcept {
  if (layout.word == 4) {
    store_little_endian(to, static_cast<std::uint32_t>(value));
  } else {
    store_little_endian(to, value);
  }
}

struct Placement {
  std::uint64_t segment_count = 0;
  std::uint64_t section_at = 0;  // 0: no section header
  std::uint64_t notes_at = 0;
};

void store_header(const elf::Layout& layout, const ImageFacts& facts, const Placement& placement, std::byte* to) {
  const bool extended = placement.section_at != 0;
  std::memcpy(to,
              "\x7F"
              "ELF",
              4);
  to[elf::class_at] = layout.word == 4 ? elf::class_32 : elf::class_64;
  to[elf::data_at] = elf::data_little_endian;
  to[elf::identity_version_at] = std::byte{elf::current_version};
  store_little_endian(to + elf::type_at, elf::type_core);
  store_little_endian(to + elf::machine_at, facts.elf_machine);
  store_little_endian(to + elf::version_at, std::uint32_t{elf::current_version});
  store_word(layout, to + layout.phoff_at, layout.header_size);
  store_word(layout, to + layout.shoff_at, placement.section_at);
  store_little_endian(to + layout.ehsize_at, static_cast<std::uint16_t>(layout.header_size));
  store_little_endian(to + layout.phentsize_at, static_cast<std::uint16_t>(layout.segment_size));
  store_little_endian(to + layout.phnum_at,
                      extended ? elf::extended_count : static_cast<std::uint16_t>(placement.segment_count));
  store_little_endian(to + layout.shentsize_at, static_cast<std::uint16_t>(extended ? layout.section_size : 0));
  store_little_endian(to + layout.shnum_at, static_cast<std::uint16_t>(extended ? 1 : 0));
}

void store_segment(const elf::Layout& layout, std::byte* to, std::uint32_t type, std::uint64_t offset,
                   std::uint64_t paddr, std::uint64_t file_size, std::uint64_t memory_size) {
  store_little_endian(to, type);
  store_word(layout, to + layout.offset_at, offset);
  store_word(layout, to + layout.paddr_at, paddr);
  store_word(layout, to + layout.filesz_at, file_size);
  store_word(layout, to + layout.memsz_at, memory_size);
}

void require_class(const elf::Layout& layout, const RegionTable& table, const SavePlan& plan) {
  if (layout.word == 8) return;
  if (table.regions().back().last() > UINT32_MAX || plan.file_size > UINT32_MAX) {
    throw InvalidConfig("the notes of this 32-bit ELF core belong into a 32-bit ELF core, which cannot hold 4 GiB or " +
                        hex(table.regions().back().last()) + "; save as lime or raw");
  }
}

}  // namespace

SavePlan plan_elf(const RegionTable& table, const ImageFacts& facts) {
  const elf::Layout& layout = facts.elf_word == 4 ? elf::layout_32 : elf::layout_64;
  const bool has_notes = !facts.elf_notes.empty();
  SavePlan plan;
  Placement placement;
  placement.segment_count = table.regions().size() + (has_notes ? 1 : 0);
  plan.file_size = layout.header_size + placement.segment_count * layout.segment_size;
  if (placement.segment_count >= elf::extended_count) {
    placement.section_at = plan.file_size;
    plan.file_size += layout.section_size;
  }
  placement.notes_at = plan.file_size;

  std::vector<std::byte> headers(plan.file_size);
  store_header(layout, facts, placement, headers.data());
  std::byte* segment = headers.data() + layout.header_size;
  if (has_notes) {
    store_segment(layout, segment, elf::segment_note, placement.notes_at, 0, facts.elf_notes.size(), 0);
    segment += layout.segment_size;
  }
  plan.file_size += facts.elf_notes.size();
  for (const Region& region : table.regions()) {
    const std::uint64_t at = align_up(plan.file_size, page);
    store_segment(layout, segment, elf::segment_load, at, region.base, region.size, region.size);
    segment += layout.segment_size;
    plan.region_offsets.push_back(at);
    plan.file_size = at + region.size;
  }
  require_class(layout, table, plan);
  if (placement.section_at != 0) {
    store_little_endian(&headers[placement.section_at + layout.section_info_at],
                        static_cast<std::uint32_t>(placement.segment_count));
  }
  headers.insert(headers.end(), facts.elf_notes.begin(), facts.elf_notes.end());
  plan.headers.push_back({0, std::move(headers)});
  return plan;
}

}  // namespace vm::mem
