#include "vm/accel/boot/loader.hpp"

#include <array>
#include <cstddef>

#include "formats.hpp"
#include "vm/accel/boot/memory_map.hpp"
#include "vm/accel/boot/x86_modes.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::boot {
namespace {

constexpr std::array<const char*, 6> kinds = {"automatic", "flat", "elf", "multiboot", "bzimage", "pvh"};

LoadedImage load_flat(const ImageReader& reader, mem::GuestMemory& memory, const LoadOptions& options) {
  const std::uint64_t at = options.flat_address;
  if (at >= 0x10000)
    reader.refuse("a flat image begins below 64 KiB, in the first segment of real mode, not at " + hex(at));
  const Segment all{0, reader.size(), at, reader.size()};
  check_segment(reader, memory, all, "flat image");
  write_segment(reader, memory, all);
  LoadedImage loaded{ImageKind::flat, EntryMode::real16, {}, at, at + (reader.size() - 1)};
  loaded.regs.rip = at;
  loaded.regs.rsp = at;
  return loaded;
}

LoadedImage load_elf(const ImageReader& reader, mem::GuestMemory& memory) {
  if (!is_elf(reader)) reader.refuse("not an ELF image: it does not begin with 0x7f ELF");
  const ElfImage elf = read_elf(reader, memory);
  if (!elf.wide && elf.entry >> 32 != 0) reader.refuse("the entry " + hex(elf.entry) + " is above 4 GiB");
  write_elf(reader, memory, elf);
  LoadedImage loaded{ImageKind::elf, elf.wide ? EntryMode::long64 : EntryMode::protected32, {}, elf.first, elf.last};
  loaded.regs.rip = elf.entry;
  loaded.regs.rsp = place::stack;
  return loaded;
}

ImageKind kind_of(const ImageReader& reader, const mem::GuestMemory& memory) {
  if (is_bzimage(reader)) return ImageKind::bzimage;
  if (find_multiboot(reader)) return ImageKind::multiboot;
  if (!is_elf(reader)) return ImageKind::flat;
  return read_elf(reader, memory).pvh_entry ? ImageKind::pvh : ImageKind::elf;
}

}  // namespace

const char* image_kind_name(ImageKind kind) noexcept { return kinds[static_cast<std::size_t>(kind)]; }

ImageKind parse_image_kind(const std::string& name) {
  std::string known;
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    if (name == kinds[i]) return static_cast<ImageKind>(i);
    known += std::string(i == 0 ? "" : ", ") + kinds[i];
  }
  throw InvalidConfig("there is no kind of image called \"" + name + "\"; known are " + known);
}

const char* entry_mode_name(EntryMode mode) noexcept {
  constexpr std::array<const char*, 3> names = {"real16", "protected32", "long64"};
  return names[static_cast<std::size_t>(mode)];
}

LoadedImage load(const std::shared_ptr<mem::GuestMemory>& memory, const Image& image, const LoadOptions& options) {
  const ImageReader reader(image);
  const ImageKind kind = options.kind == ImageKind::automatic ? kind_of(reader, *memory) : options.kind;
  if (kind == ImageKind::flat || kind == ImageKind::elf) {
    const char* missing = !options.command_line.empty() ? "a command line" : "modules";
    if (!options.command_line.empty() || !options.modules.empty())
      reader.refuse(std::string("an image of kind ") + image_kind_name(kind) + " cannot be given " + missing);
  }
  switch (kind) {
    case ImageKind::multiboot: return load_multiboot(reader, *memory, image, options);
    case ImageKind::bzimage: return load_bzimage(reader, *memory, options);
    case ImageKind::pvh: return load_pvh(reader, *memory, options);
    case ImageKind::elf: return load_elf(reader, *memory);
    default: return load_flat(reader, *memory, options);
  }
}

void enter(const std::shared_ptr<mem::GuestMemory>& memory, Vcpu& vcpu, const LoadedImage& loaded) {
  X86SpecialRegs sregs = vcpu.x86()->sregs();
  if (loaded.mode == EntryMode::real16) {
    set_real_mode(sregs);
  } else if (loaded.mode == EntryMode::protected32) {
    write_gdt(*memory, place::gdt, place::tss);
    set_protected_mode(sregs, place::gdt);
  } else {
    LongModeOptions options;
    options.gdt = place::gdt;
    options.tss = place::tss;
    options.tables = place::page_tables;
    options.tables_end = place::multiboot_info;
    write_long_mode_tables(memory, options);
    set_long_mode(sregs, options);
  }
  vcpu.x86()->set_sregs(sregs);
  vcpu.x86()->set_regs(loaded.regs);
}

}  // namespace vm::accel::boot
