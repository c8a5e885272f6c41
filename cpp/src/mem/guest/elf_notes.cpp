#include "mem/guest/elf_notes.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "mem/guest/elf_layout.hpp"
#include "mem/guest/image.hpp"
#include "vm/core/error.hpp"

namespace vm::mem {

namespace {

using std::string_view_literals::operator""sv;

constexpr std::uint64_t align_note(std::uint64_t size) noexcept { return (size + 3) & ~std::uint64_t{3}; }

/// The registers in an NT_PRSTATUS note: an array of words behind the bookkeeping of struct elf_prstatus. Source:
/// Linux's <asm/elf.h> and <asm/ptrace.h> of each architecture; names in the order of the array, "" is not a register.
struct PrstatusFormat {
  std::uint16_t machine;
  std::size_t elf_word;
  std::string_view architecture;
  std::size_t registers_at;
  std::size_t register_size;
  std::string_view names;  // separated by spaces
};

// An i386 dump is of the 64-bit class when the guest has more than 4 GiB; its notes stay those of i386.
constexpr std::string_view i386_names = "ebx ecx edx esi edi ebp eax ds es fs gs orig_eax eip cs eflags esp ss";
constexpr std::string_view riscv_names =
    "pc ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6";
constexpr std::array prstatus_formats{
    PrstatusFormat{elf::machine_x86_64, 8, "x86_64", 112, 8,
                   "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs rflags rsp ss fs_base "
                   "gs_base ds es fs gs"},
    PrstatusFormat{elf::machine_386, 4, "i386", 72, 4, i386_names},
    PrstatusFormat{elf::machine_386, 8, "i386", 72, 4, i386_names},
    PrstatusFormat{elf::machine_aarch64, 8, "aarch64", 112, 8,
                   "x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15 x16 x17 x18 x19 x20 x21 x22 x23 x24 x25 x26 "
                   "x27 x28 x29 x30 sp pc pstate"},
    PrstatusFormat{elf::machine_arm, 4, "arm", 72, 4, "r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 r10 r11 r12 sp lr pc cpsr"},
    PrstatusFormat{elf::machine_riscv, 8, "riscv64", 112, 8, riscv_names},
    PrstatusFormat{elf::machine_riscv, 4, "riscv32", 72, 4, riscv_names},
};

// struct QEMUCPUState of QEMU's target/i386/arch_dump.c, version 1: u32 version, u32 size, the general registers, ten
// segments (u32 selector, limit, flags, padding, u64 base), cr0 to cr4, and unless QEMU is old kernel_gs_base.
constexpr std::uint32_t qemu_version = 1;
constexpr std::size_t qemu_general_at = 8;
constexpr std::size_t qemu_segments_at = 152;
constexpr std::size_t qemu_segment_size = 24;
constexpr std::size_t qemu_control_at = 392;
constexpr std::size_t qemu_kernel_gs_at = 432;
constexpr std::size_t qemu_short_size = 432;
constexpr std::size_t qemu_full_size = 440;
constexpr std::string_view qemu_general = "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags";
constexpr std::string_view qemu_segments = "cs ds es fs gs ss ldt tr gdt idt";

/// Calls use(name) for each word of a list separated by spaces.
template <class Use>
void for_each_name(std::string_view names, Use use) {
  while (!names.empty()) {
    const std::size_t end = std::min(names.find(' '), names.size());
    use(std::string(names.substr(0, end)));
    names.remove_prefix(std::min(end + 1, names.size()));
  }
}

std::size_t count_names(std::string_view names) {
  std::size_t count = 0;
  for_each_name(names, [&count](const std::string&) { ++count; });
  return count;
}

struct Note {
  std::string_view name;
  std::uint32_t type = 0;
  const std::byte* descriptor = nullptr;
  std::size_t size = 0;
  std::string where;
};

CpuState parse_qemu(const Note& note, std::uint16_t machine) {
  const bool known_size = note.size >= qemu_short_size;
  const std::uint32_t version = known_size ? load_little_endian<std::uint32_t>(note.descriptor) : 0;
  if (version != qemu_version) {
    throw InvalidConfig(note.where + " is a QEMU CPU state of version " + std::to_string(version) + " with " +
                        std::to_string(note.size) + " bytes; known is version 1 with at least " +
                        std::to_string(qemu_short_size));
  }
  const auto word = [&note](std::size_t at) { return load_little_endian<std::uint64_t>(note.descriptor + at); };
  CpuState state;
  state.architecture = machine == elf::machine_386 ? "i386" : "x86_64";
  std::size_t at = qemu_general_at;
  for_each_name(qemu_general, [&](std::string name) {
    state.registers.push_back({std::move(name), word(at)});
    at += sizeof(std::uint64_t);
  });
  at = qemu_segments_at;
  for_each_name(qemu_segments, [&](const std::string& name) {
    state.registers.push_back({name, load_little_endian<std::uint32_t>(note.descriptor + at)});
    state.registers.push_back({name + "_limit", load_little_endian<std::uint32_t>(note.descriptor + at + 4)});
    state.registers.push_back({name + "_base", word(at + 16)});
    at += qemu_segment_size;
  });
  for (std::size_t i = 0; i <= 4; ++i) {
    if (i != 1) state.registers.push_back({"cr" + std::to_string(i), word(qemu_control_at + 8 * i)});
  }
  if (note.size >= qemu_full_size) state.registers.push_back({"kernel_gs_base", word(qemu_kernel_gs_at)});
  return state;
}

CpuState parse_prstatus(const Note& note, const PrstatusFormat& format) {
  const std::size_t needed = format.registers_at + format.register_size * count_names(format.names);
  if (note.size < needed) {
    throw InvalidConfig(note.where + " is an NT_PRSTATUS of " + std::to_string(note.size) + " bytes; on " +
                        std::string(format.architecture) + " it needs " + std::to_string(needed));
  }
  CpuState state;
  state.architecture = format.architecture;
  const std::byte* from = note.descriptor + format.registers_at;
  for_each_name(format.names, [&](std::string name) {
    const std::uint64_t value =
        format.register_size == 4 ? load_little_endian<std::uint32_t>(from) : load_little_endian<std::uint64_t>(from);
    state.registers.push_back({std::move(name), value});
    from += format.register_size;
  });
  return state;
}

/// The note at `at`, which moves to the next one.
Note next_note(const std::vector<std::byte>& bytes, std::uint64_t& at, const std::string& path,
               std::uint64_t file_offset) {
  Note note;
  note.where = path + ": the note at file offset " + hex(file_offset + at);
  const std::uint64_t name_size = load_little_endian<std::uint32_t>(&bytes[at]);
  const std::uint64_t descriptor_size = load_little_endian<std::uint32_t>(&bytes[at + 4]);
  note.type = load_little_endian<std::uint32_t>(&bytes[at + 8]);
  const std::uint64_t name_at = at + elf::note_header_size;
  const std::uint64_t descriptor_at = name_at + align_note(name_size);  // 32-bit sizes: no overflow in 64 bits
  if (descriptor_at + descriptor_size > bytes.size()) {
    throw InvalidConfig(note.where + " claims a name of " + hex(name_size) + " and a content of " +
                        hex(descriptor_size) + " bytes, which end beyond its segment");
  }
  note.name = std::string_view(reinterpret_cast<const char*>(bytes.data()) + name_at, name_size);
  note.name = note.name.substr(0, note.name.find('\0'));
  note.descriptor = bytes.data() + descriptor_at;
  note.size = descriptor_size;
  at = descriptor_at + align_note(descriptor_size);
  return note;
}

}  // namespace

std::size_t CpuNotes::parse(const std::vector<std::byte>& bytes, const std::string& path, std::uint64_t file_offset) {
  std::uint64_t at = 0;
  while (at + elf::note_header_size <= bytes.size()) {
    const Note note = next_note(bytes, at, path, file_offset);
    const bool x86 = machine_ == elf::machine_x86_64 || machine_ == elf::machine_386;
    if (note.name == "QEMU"sv && note.type == 0 && x86) qemu_.push_back(parse_qemu(note, machine_));
    if (note.name != "CORE"sv || note.type != elf::note_prstatus) continue;
    for (const PrstatusFormat& format : prstatus_formats) {
      if (format.machine == machine_ && format.elf_word == word_) prstatus_.push_back(parse_prstatus(note, format));
    }
  }
  return static_cast<std::size_t>(std::min<std::uint64_t>(at, bytes.size()));
}

std::vector<CpuState> CpuNotes::take_states() { return std::move(qemu_.empty() ? prstatus_ : qemu_); }

}  // namespace vm::mem
