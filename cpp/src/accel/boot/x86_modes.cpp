#include "vm/accel/boot/x86_modes.hpp"

#include <vector>

#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/paging/address_space.hpp"

namespace vm::accel::boot {
namespace {

// SDM vol. 3 §3.4.5.1, §3.5: types with the accessed bit, as after a load.
constexpr std::uint8_t code_type = 11, data_type = 3, busy_task = 11;
constexpr std::uint32_t everything = 0xFFFFFFFF;

constexpr std::uint64_t cr0_pe = 1, cr0_mp = 1 << 1, cr0_et = 1 << 4, cr0_ne = 1 << 5, cr0_pg = 1ULL << 31;
constexpr std::uint64_t cr4_pae = 1 << 5, cr4_osfxsr = 1 << 9;
constexpr std::uint64_t efer_lme = 1 << 8, efer_lma = 1 << 10, efer_nx = 1 << 11;

X86Segment flat(std::uint16_t selector, std::uint8_t type, std::uint8_t dpl, bool long_mode) noexcept {
  X86Segment segment;
  segment.limit = everything;
  segment.selector = selector;
  segment.type = type;
  segment.dpl = dpl;
  segment.present = segment.code_or_data = segment.granularity = true;
  segment.long_mode = long_mode;
  segment.db = !long_mode;
  return segment;
}

X86Segment task_segment(std::uint64_t tss, std::uint64_t size = tss_size) noexcept {
  X86Segment segment;
  segment.base = tss;
  segment.limit = static_cast<std::uint32_t>(size - 1);
  segment.selector = selector::task;
  segment.type = busy_task;
  segment.present = true;
  return segment;
}

X86Segment unusable() noexcept {
  X86Segment segment;
  segment.unusable = true;
  return segment;
}

void write_words(mem::GuestMemory& memory, std::uint64_t paddr, const std::vector<std::uint64_t>& words) {
  std::vector<std::byte> bytes;
  for (const std::uint64_t word : words)
    for (unsigned i = 0; i < 8; ++i) bytes.push_back(static_cast<std::byte>(word >> (8 * i)));
  memory.write(paddr, bytes.data(), bytes.size());
}

void set_data_segments(X86SpecialRegs& sregs, const X86Segment& segment) noexcept {
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment;
}

}  // namespace

std::uint64_t encode_descriptor(const X86Segment& segment) noexcept {
  const bool pages = segment.granularity || segment.limit >= (1U << 20);
  const std::uint64_t limit = pages ? segment.limit >> 12 : segment.limit;
  std::uint64_t result = (limit & 0xFFFF) | (limit >> 16 & 0xF) << 48;
  result |= (segment.base & 0xFFFFFF) << 16 | (segment.base >> 24 & 0xFF) << 56;
  const std::uint64_t access = (segment.type & 0xFU) | (segment.code_or_data ? 0x10U : 0U) | (segment.dpl & 3U) << 5 |
                               (segment.present ? 0x80U : 0U);
  const std::uint64_t flags =
      (segment.available ? 1U : 0U) | (segment.long_mode ? 2U : 0U) | (segment.db ? 4U : 0U) | (pages ? 8U : 0U);
  return result | access << 40 | flags << 52;
}

X86Segment decode_descriptor(std::uint64_t descriptor, std::uint16_t selector) noexcept {
  const auto bit = [descriptor](unsigned n) { return (descriptor >> n & 1) != 0; };
  X86Segment segment;
  segment.selector = selector;
  segment.base = (descriptor >> 16 & 0xFFFFFF) | (descriptor >> 56) << 24;
  segment.type = static_cast<std::uint8_t>(descriptor >> 40 & 0xF);
  segment.code_or_data = bit(44);
  segment.dpl = static_cast<std::uint8_t>(descriptor >> 45 & 3);
  segment.present = bit(47);
  segment.available = bit(52);
  segment.long_mode = bit(53);
  segment.db = bit(54);
  segment.granularity = bit(55);
  const auto limit = static_cast<std::uint32_t>((descriptor & 0xFFFF) | (descriptor >> 48 & 0xF) << 16);
  segment.limit = segment.granularity ? limit << 12 | 0xFFF : limit;
  return segment;
}

void write_gdt(mem::GuestMemory& memory, std::uint64_t gdt, std::uint64_t tss, std::uint64_t stack, bool ports) {
  const std::uint64_t size = ports ? tss_with_ports_size : tss_size;
  const std::uint64_t code32 = encode_descriptor(flat(selector::code32, code_type, 0, false));
  const std::uint64_t code64 = encode_descriptor(flat(selector::code64, code_type, 0, true));
  const std::uint64_t data = encode_descriptor(flat(selector::data, data_type, 0, false));
  const std::uint64_t user_data = encode_descriptor(flat(selector::user_data, data_type, 3, false));
  const std::uint64_t user_code = encode_descriptor(flat(selector::user_code64, code_type, 3, true));
  const std::uint64_t task = encode_descriptor(task_segment(tss, size));
  write_words(memory, gdt, {0, code32, code64, data, user_data, user_code, task, tss >> 32});
  std::vector<std::byte> state(size);  // SDM vol. 3 §8.7: RSP0 at 4, the offset of the ports' bits at 102
  for (unsigned i = 0; i < 8; ++i) state[4 + i] = static_cast<std::byte>(stack >> (8 * i));
  state[102] = std::byte{tss_size};
  if (ports) state.back() = std::byte{0xFF};
  memory.write(tss, state.data(), state.size());
}

void write_gate(mem::GuestMemory& memory, std::uint64_t idt, std::uint8_t vector, const Gate& gate) {
  const std::uint64_t type = gate.trap ? 0xF : 0xE;
  const std::uint64_t access = 0x80U | (gate.privilege & 3U) << 5 | type;
  const std::uint64_t low = (gate.handler & 0xFFFF) | std::uint64_t{gate.selector} << 16 |
                            std::uint64_t{gate.stack & 7U} << 32 | access << 40 | (gate.handler >> 16 & 0xFFFF) << 48;
  write_words(memory, idt + std::uint64_t{vector} * 16, {low, gate.handler >> 32});
}

void set_real_mode(X86SpecialRegs& sregs) noexcept {
  X86Segment segment;
  segment.limit = 0xFFFF;
  segment.type = data_type;
  segment.present = segment.code_or_data = true;
  set_data_segments(sregs, segment);
  segment.type = code_type;
  sregs.cs = segment;
  sregs.cr0 = cr0_et;
  sregs.cr3 = sregs.cr4 = sregs.efer = 0;
}

void set_protected_mode(X86SpecialRegs& sregs, std::uint64_t gdt) noexcept {
  sregs.cs = flat(selector::code32, code_type, 0, false);
  set_data_segments(sregs, flat(selector::data, data_type, 0, false));
  sregs.tr = task_segment(0);
  sregs.ldt = unusable();
  sregs.gdt = {gdt, static_cast<std::uint16_t>(gdt_size - 1)};
  sregs.idt = {0, 0};
  sregs.cr0 = cr0_pe | cr0_et;
  sregs.cr3 = sregs.cr4 = sregs.efer = 0;
}

void set_long_mode(X86SpecialRegs& sregs, const LongModeOptions& options) {
  if (options.privilege != 0 && options.privilege != 3)
    throw InvalidConfig("code begins at privilege 0 or 3, not " + std::to_string(options.privilege));
  const bool user = options.privilege == 3;
  sregs.cs = flat(user ? selector::user_code64 : selector::code64, code_type, user ? 3 : 0, true);
  set_data_segments(sregs, flat(user ? selector::user_data : selector::data, data_type, user ? 3 : 0, false));
  sregs.tr = task_segment(options.tss, user ? tss_with_ports_size : tss_size);
  sregs.ldt = unusable();
  sregs.gdt = {options.gdt, static_cast<std::uint16_t>(gdt_size - 1)};
  sregs.idt = {0, 0};
  sregs.cr0 = cr0_pe | cr0_mp | cr0_et | cr0_ne | cr0_pg;
  sregs.cr3 = options.tables;
  sregs.cr4 = cr4_pae | cr4_osfxsr;
  sregs.efer = efer_lme | efer_lma | efer_nx;
}

void write_long_mode_tables(const std::shared_ptr<mem::GuestMemory>& memory, const LongModeOptions& options) {
  constexpr std::uint64_t page = 4096, large = 2 << 20;
  if (options.tables % page != 0 || options.tables_end <= options.tables + page)
    throw InvalidConfig("page tables begin at a page and need more than one; got " + hex(options.tables) + " to " +
                        hex(options.tables_end));
  if (options.mapped == 0 || options.mapped % large != 0)
    throw InvalidConfig("pages of 2 MiB cannot map " + hex(options.mapped) + " bytes");
  const std::vector<std::byte> zeros(page);
  memory->write(options.tables, zeros.data(), zeros.size());
  mem::paging::X86Config config;
  config.root = options.tables;
  mem::paging::AddressSpaceOptions frames;
  frames.tables = mem::paging::TableRange{options.tables + page, options.tables_end - 1};
  mem::paging::AddressSpace space(memory, config, frames);
  mem::paging::MapRequest request;
  request.size = options.mapped;
  request.access = Access::read | Access::write | Access::execute;
  request.user = options.privilege == 3;
  request.page_size = large;
  space.map(request);
  write_gdt(*memory, options.gdt, options.tss, options.exception_stack, options.privilege == 3);
}

void enter_long_mode(const std::shared_ptr<mem::GuestMemory>& memory, Vcpu& vcpu, std::uint64_t rip, std::uint64_t rsp,
                     const LongModeOptions& options) {
  constexpr std::uint64_t iopl3 = 3 << 12;
  X86SpecialRegs sregs = vcpu.x86()->sregs();
  set_long_mode(sregs, options);
  write_long_mode_tables(memory, options);
  X86Regs regs;
  regs.rip = rip;
  regs.rsp = rsp;
  if (options.privilege == 3) regs.rflags |= iopl3;
  vcpu.x86()->set_sregs(sregs);
  vcpu.x86()->set_regs(regs);
}

}  // namespace vm::accel::boot
