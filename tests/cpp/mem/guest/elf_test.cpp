// ELF cores: segments, zero tails, both classes, many headers, overlaps, lies, and the notes of CPUs.
#include <gtest/gtest.h>

#include "support.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::mem {
namespace {

using test::Builder;
using test::Bytes;
using test::elf_core;
using test::ElfSegment;
using test::mentions;
using test::message_of;
using test::note;
using test::pattern;
using test::program_header_at;
using test::TemporaryDirectory;

constexpr std::uint32_t note_segment = 4;

class ElfImages : public ::testing::Test {
 protected:
  std::shared_ptr<GuestMemory> open(const Bytes& content, bool writable = false) {
    return GuestMemory::open(directory_.write("core", content), ImageFormat::automatic, writable);
  }
  std::string refusal(const Bytes& content) {
    return message_of<InvalidConfig>([&] { open(content); });
  }
  /// One segment of 0x100 bytes with one field of its program header overwritten.
  Bytes lying(std::size_t field, std::uint64_t value) {
    return Builder().raw(elf_core({{0x1000, pattern(0x100)}})).patch(program_header_at(0) + field, value, 8).bytes();
  }

  TemporaryDirectory directory_;
};

constexpr std::size_t p_offset = 8, p_paddr = 24, p_filesz = 32, p_memsz = 40;

Bytes read(const GuestMemory& memory, std::uint64_t paddr, std::size_t size) {
  Bytes bytes(size);
  memory.read(paddr, bytes.data(), size);
  return bytes;
}

TEST_F(ElfImages, SegmentsOfBothClassesAtUnalignedOffsets) {
  for (const std::size_t word : {8U, 4U}) {
    const auto memory = open(elf_core({{0, pattern(0x1003, 1)}, {0x80000000, pattern(0x800, 2)}}, 62, word));
    EXPECT_EQ(memory->format(), "elf");
    EXPECT_EQ(memory->table()->regions().size(), 2U);
    EXPECT_EQ(read(*memory, 0, 0x1003), pattern(0x1003, 1));
    EXPECT_EQ(read(*memory, 0x80000000, 0x800), pattern(0x800, 2));
    EXPECT_THROW(read(*memory, 0x1003, 1), OutOfRange);
    EXPECT_TRUE(memory->facts().cpu_states.empty());
  }
}

TEST_F(ElfImages, WhatTheFileDoesNotHoldReadsAsZeros) {
  const auto memory = open(elf_core({{0x1000, pattern(16), 0x3000}, {0x10000, {}, 0x1000}}), true);
  EXPECT_EQ(memory->size(), 0x4000U);
  Bytes expected = pattern(16);
  expected.resize(0x3000);
  EXPECT_EQ(read(*memory, 0x1000, 0x3000), expected);
  EXPECT_EQ(read(*memory, 0x10000, 0x1000), Bytes(0x1000));
  std::byte byte{};
  EXPECT_NO_THROW(memory->write(0x100F, &byte, 1));
  EXPECT_THROW(memory->write(0x1010, &byte, 1), AccessViolation) << "no file bytes stand behind the tail";
}

TEST_F(ElfImages, NoFileBytesNeedNoFileOffset) {
  // QEMU writes p_offset -1 for memory that its filter left out.
  const Bytes core = Builder()
                         .raw(elf_core({{0x1000, pattern(16)}, {0x8000, {}, 0x1000}}))
                         .patch(program_header_at(1) + p_offset, UINT64_MAX, 8)
                         .bytes();
  EXPECT_EQ(read(*open(core), 0x8000, 16), Bytes(16));
}

TEST_F(ElfImages, EmptySegmentsAndForeignTypesAreSkipped) {
  const auto memory = open(elf_core({{0x1000, {}}, {0x2000, pattern(16)}, {0x2000, pattern(16), 0, 0x6474E551}}));
  EXPECT_EQ(memory->table()->regions().size(), 1U);
}

TEST_F(ElfImages, NeighboursInMemoryAndFileBecomeOneRegion) {
  const auto memory = open(elf_core({{0x1000, pattern(0x1000, 1)}, {0x2000, pattern(0x1000, 2)}}));
  EXPECT_EQ(memory->table()->regions().size(), 1U);
  EXPECT_NO_THROW(memory->view(0x1FFF, 2));
}

TEST_F(ElfImages, RepeatedSegmentsWithTheSameBytesAreFine) {
  // As QEMU's dump-guest-memory -p (same file bytes) and kdump's vmcore (a copy of the kernel's text) have them.
  const Bytes body = pattern(0x3000);
  const Bytes part(body.begin() + 0x1000, body.begin() + 0x1800);
  const auto copied = open(elf_core({{0x101000, part}, {0x100000, body}}));
  EXPECT_EQ(copied->size(), 0x3000U);
  EXPECT_EQ(read(*copied, 0x100000, 0x3000), body);
  const Bytes aliased = Builder()
                            .raw(elf_core({{0x1000, body}, {0x2000, {}, 0}}))
                            .patch(program_header_at(1) + p_offset, program_header_at(2) + 0x1000, 8)
                            .patch(program_header_at(1) + p_filesz, 0x800, 8)
                            .patch(program_header_at(1) + p_memsz, 0x800, 8)
                            .bytes();
  EXPECT_EQ(open(aliased)->size(), 0x3000U);
}

TEST_F(ElfImages, AnOverlapThatReachesFurtherExtendsTheMemory) {
  const Bytes body = pattern(0x3000);
  const Bytes tail(body.begin() + 0x1000, body.end());
  const auto memory = open(elf_core({{0x1000, Bytes(body.begin(), body.begin() + 0x2000)}, {0x2000, tail}}));
  EXPECT_EQ(read(*memory, 0x1000, 0x3000), body);
}

TEST_F(ElfImages, OverlapsWithOtherBytesAreRefused) {
  const std::string message = refusal(elf_core({{0x1000, pattern(0x1000, 1)}, {0x1800, pattern(0x1000, 2)}}));
  EXPECT_TRUE(mentions(message, {"file offset 0x78", "0x1800-0x27ff", "0x40", "0x1000-0x1fff", "differ"}));
  EXPECT_TRUE(mentions(refusal(elf_core({{0x1000, pattern(16)}, {0x1000, {}, 0x1000}})), {"overlap"}));
  EXPECT_TRUE(mentions(refusal(elf_core({{0x1000, {}, 0x1000}, {0x1800, {}, 0x1000}})), {"overlap"}));
}

TEST_F(ElfImages, ChainsOfOverlapsAreBounded) {
  // All bytes are equal, but each segment begins one byte after the last, reaches further, and takes its bytes from
  // elsewhere: without a budget the comparisons would grow with the square of the number of segments.
  constexpr std::size_t count = 4000;
  Builder core;
  core.raw(elf_core(std::vector<ElfSegment>(count)));
  const std::size_t zeros_at = core.bytes().size();
  core.zeros(2 * count);
  for (std::size_t i = 0; i < count; ++i) {
    core.patch(program_header_at(i) + p_paddr, 0x1000 + i, 8).patch(program_header_at(i) + p_offset, zeros_at, 8);
    core.patch(program_header_at(i) + p_filesz, count + i, 8).patch(program_header_at(i) + p_memsz, count + i, 8);
  }
  EXPECT_TRUE(mentions(refusal(core.bytes()), {"overlap", "more than a genuine dump repeats"}));
}

TEST_F(ElfImages, LiesAboutSegmentsAreNamedWithTheirHeader) {
  EXPECT_TRUE(mentions(refusal(lying(p_offset, 0x10000)), {"file offset 0x40", "0x100 bytes at file offset 0x10000"}));
  EXPECT_TRUE(mentions(refusal(lying(p_offset, UINT64_MAX - 0x10)), {"truncated"}));
  EXPECT_TRUE(mentions(refusal(lying(p_filesz, 0x101)), {"0x101 bytes in the file for only 0x100"}));
  EXPECT_TRUE(mentions(refusal(lying(p_filesz, UINT64_MAX)), {"in the file for only"}));
  EXPECT_TRUE(mentions(refusal(lying(p_memsz, 0)), {"in the file for only"}));
  EXPECT_TRUE(mentions(refusal(lying(p_paddr, UINT64_MAX - 0xFE)), {"beyond the last 64-bit address"}));
  EXPECT_TRUE(mentions(refusal(lying(p_memsz, UINT64_MAX)), {"beyond the last 64-bit address"}));
  EXPECT_THROW(open(lying(p_memsz, std::uint64_t{1} << 62)), ResourceExhausted);
  const Bytes sum_wraps = Builder()
                              .raw(lying(p_filesz, std::uint64_t{1} << 63))
                              .patch(program_header_at(0) + p_memsz, std::uint64_t{1} << 63, 8)
                              .bytes();
  EXPECT_TRUE(mentions(refusal(sum_wraps), {"0x8000000000000000 bytes at file offset"}));
}

TEST_F(ElfImages, TruncationAnywhereIsRefused) {
  const Bytes core = elf_core({{0x1000, pattern(0x40)}, {0, note("CORE", 1, Bytes(400)), 0, note_segment}});
  for (std::size_t size = 4; size < core.size(); ++size) {
    const Bytes cut(core.begin(), core.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_THROW(open(cut), VmError) << size;
  }
}

TEST_F(ElfImages, HeadersThatDoNotFitAreRefused) {
  const Bytes core = elf_core({{0x1000, pattern(0x40)}});
  const auto with = [&core](std::size_t offset, std::uint64_t value, std::size_t bytes) {
    return Builder().raw(core).patch(offset, value, bytes).bytes();
  };
  EXPECT_TRUE(mentions(refusal(with(4, 3, 1)), {"class at file offset 4 is 3"}));
  EXPECT_THROW(open(with(5, 2, 1)), NotSupported);
  EXPECT_TRUE(mentions(refusal(with(16, 2, 2)), {"type 2", "program"}));
  EXPECT_TRUE(mentions(refusal(with(32, UINT64_MAX, 8)), {"1 program headers at file offset 0xffffffffffffffff"}));
  EXPECT_TRUE(mentions(refusal(with(54, 55, 2)), {"55 bytes", "56"}));
  EXPECT_TRUE(mentions(refusal(with(56, 0xFFFE, 2)), {"65534 program headers", "truncated"}));
  EXPECT_TRUE(mentions(refusal(with(56, 0xFFFF, 2)), {"section header at file offset 0x0"}));
  EXPECT_TRUE(mentions(refusal(with(56, 0, 2)), {"without a memory segment"}));
  EXPECT_TRUE(mentions(message_of<NotSupported>([&] { open(Builder().raw(with(56, 0, 2)).patch(60, 3, 2).bytes()); }),
                       {"sections"}));
  EXPECT_TRUE(mentions(
      message_of<InvalidConfig>([&] { GuestMemory::open(directory_.write("raw", pattern(100)), ImageFormat::elf); }),
      {"does not begin with an ELF header"}));
}

TEST_F(ElfImages, ExtendedNumberingCountsInSectionZero) {
  Builder core;
  core.raw(elf_core({{0x1000, pattern(0x40)}}));
  const std::size_t section_at = core.bytes().size();
  core.zeros(64).patch(56, 0xFFFF, 2).patch(40, section_at, 8).patch(section_at + 44, 1, 4);
  EXPECT_EQ(read(*open(core.bytes()), 0x1000, 0x40), pattern(0x40));
  core.patch(section_at + 44, 0xFFFFFFFF, 4);
  EXPECT_TRUE(mentions(refusal(core.bytes()), {"4294967295 program headers", "more than any machine"}));
  core.patch(40, section_at + 1, 8);
  EXPECT_TRUE(mentions(refusal(core.bytes()), {"section header"}));
}

TEST_F(ElfImages, CoresOfProcessesAreTold) {
  EXPECT_TRUE(mentions(refusal(elf_core({{0, pattern(16)}, {0, pattern(32)}})), {"core of a process"}));
}

/// QEMUCPUState version 1 with every 64-bit field set to 0x1000 + its offset.
Bytes qemu_state(std::size_t size = 440) {
  Builder state;
  state.u32(1).u32(static_cast<std::uint32_t>(size));
  while (state.bytes().size() < size) state.u64(0x1000 + state.bytes().size());
  return state.bytes();
}

TEST_F(ElfImages, QemuNotesGiveControlRegisters) {
  const Bytes notes = Builder()
                          .raw(note("CORE", 1, Bytes(336)))
                          .raw(note("VMCOREINFO", 0, Bytes(7)))
                          .raw(note("QEMU", 0, qemu_state()))
                          .raw(note("QEMU", 0, qemu_state(432)))
                          .bytes();
  const auto memory = open(elf_core({{0, notes, 0, note_segment}, {0x1000, pattern(16)}}));
  const auto& states = memory->facts().cpu_states;
  ASSERT_EQ(states.size(), 2U);
  EXPECT_EQ(states[0].architecture, "x86_64");
  EXPECT_EQ(states[0].get("rax"), 0x1008U);
  EXPECT_EQ(states[0].get("rsp"), 0x1000U + 8 + 6 * 8);
  EXPECT_EQ(states[0].get("rip"), 0x1000U + 8 + 16 * 8);
  EXPECT_EQ(states[0].get("rflags"), 0x1000U + 8 + 17 * 8);
  EXPECT_EQ(states[0].get("cs_base"), 0x1000U + 152 + 16);
  EXPECT_EQ(states[0].get("idt_base"), 0x1000U + 152 + 9 * 24 + 16);
  EXPECT_EQ(states[0].get("cr0"), 0x1000U + 392);
  EXPECT_EQ(states[0].get("cr1"), std::nullopt);
  EXPECT_EQ(states[0].get("cr2"), 0x1000U + 408);
  EXPECT_EQ(states[0].get("cr3"), 0x1000U + 416);
  EXPECT_EQ(states[0].get("cr4"), 0x1000U + 424);
  EXPECT_EQ(states[0].get("kernel_gs_base"), 0x1000U + 432);
  EXPECT_EQ(states[1].get("kernel_gs_base"), std::nullopt);
  EXPECT_EQ(states[0].get("efer"), std::nullopt);
  EXPECT_EQ(states[0].program_counter(), states[0].get("rip"));
  EXPECT_EQ(states[0].stack_pointer(), states[0].get("rsp"));
}

TEST_F(ElfImages, PrstatusGivesRegistersWhereQemuHasNoNote) {
  struct Case {
    std::uint16_t machine;
    std::size_t elf_word;
    const char* architecture;
    std::size_t size, word, registers_at, pc_index, sp_index;
  };
  for (const Case& c : {Case{62, 8, "x86_64", 336, 8, 112, 16, 19}, Case{3, 4, "i386", 144, 4, 72, 12, 15},
                        Case{183, 8, "aarch64", 392, 8, 112, 32, 31}, Case{40, 4, "arm", 148, 4, 72, 15, 13},
                        Case{243, 8, "riscv64", 376, 8, 112, 0, 2}, Case{243, 4, "riscv32", 204, 4, 72, 0, 2}}) {
    const Bytes status = Builder()
                             .zeros(c.size)
                             .patch(c.registers_at + c.word * c.pc_index, 0x1234, c.word)
                             .patch(c.registers_at + c.word * c.sp_index, 0x5678, c.word)
                             .bytes();
    const auto core = [&](const Bytes& content) {
      return elf_core({{0, note("CORE", 1, content), 0, note_segment}, {0x1000, pattern(16)}}, c.machine, c.elf_word);
    };
    const auto memory = open(core(status));
    ASSERT_EQ(memory->facts().cpu_states.size(), 1U) << c.architecture;
    EXPECT_EQ(memory->facts().cpu_states[0].architecture, c.architecture);
    EXPECT_EQ(memory->facts().cpu_states[0].program_counter(), 0x1234U) << c.architecture;
    EXPECT_EQ(memory->facts().cpu_states[0].stack_pointer(), 0x5678U) << c.architecture;
    EXPECT_TRUE(mentions(refusal(core(Bytes(c.registers_at))), {"NT_PRSTATUS", c.architecture}));
  }
}

TEST_F(ElfImages, MachinesWithoutAFormatHaveNoStates) {
  const auto memory = open(elf_core({{0, note("CORE", 1, Bytes(8)), 0, note_segment}, {0x1000, pattern(16)}}, 22));
  EXPECT_TRUE(memory->facts().cpu_states.empty());
}

TEST_F(ElfImages, LyingNotesAreRefusedWithTheirPlace) {
  const auto with_note = [](const Bytes& bytes) {
    return elf_core({{0, bytes, 0, note_segment}, {0x1000, pattern(16)}});
  };
  const std::size_t at = program_header_at(2);
  EXPECT_TRUE(mentions(refusal(with_note(Builder().u32(0xFFFFFFFF).u32(0).u32(1).bytes())), {"0xb0", "0xffffffff"}));
  EXPECT_EQ(at, 0xB0U);
  EXPECT_TRUE(mentions(refusal(with_note(Builder().u32(0).u32(1).u32(1).bytes())), {"beyond its segment"}));
  EXPECT_TRUE(mentions(refusal(with_note(note("QEMU", 0, qemu_state(424)))), {"QEMU CPU state", "424 bytes"}));
  const Bytes future = Builder().raw(qemu_state()).patch(0, 2, 4).bytes();
  EXPECT_TRUE(mentions(refusal(with_note(note("QEMU", 0, future))), {"version 2"}));
  const Bytes outside =
      Builder().raw(with_note(note("CORE", 3, Bytes(8)))).patch(program_header_at(0) + p_offset, 0x100000, 8).bytes();
  EXPECT_TRUE(mentions(refusal(outside), {"note segment", "file offset 0x40"}));
  EXPECT_NO_THROW(open(with_note(Bytes(30))));  // zero padding is no note
}

}  // namespace
}  // namespace vm::mem
