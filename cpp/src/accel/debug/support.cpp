#include "vm/accel/debug/support.hpp"

#include <array>
#include <chrono>
#include <vector>

#include "vm/accel/hypervisor/guest_debug.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/paging/address_space.hpp"

namespace vm::accel {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t code_at = 0x1000;
constexpr std::uint64_t data_at = 0x2000;
constexpr std::uint64_t tables_at = 0x4000;
constexpr std::uint64_t memory_size = 0x10000;
// Every attempt ends by itself; this is for a kernel that gets one wrong in yet another way.
constexpr std::chrono::nanoseconds patience = 1s;
constexpr std::uint8_t int3 = 0xCC;
constexpr std::uint8_t int1 = 0xF1;

// nop; mov [0x2000], ax (eax in long mode); out 0x80, al: where code ends that nothing has stopped.
const std::vector<std::uint8_t> real_code = {0x90, 0xA3, 0x00, 0x20, 0xE6, 0x80};
const std::vector<std::uint8_t> long_code = {0x90, 0x89, 0x04, 0x25, 0x00, 0x20, 0x00, 0x00, 0xE6, 0x80};
// The same at address 0, where the empty interrupt table of real mode leads. In long mode an exception without a table
// is a shutdown.
const std::vector<std::uint8_t> unhandled = {0xE6, 0x80};

X86Segment segment(std::uint8_t type, std::uint8_t level) {
  X86Segment s;
  s.limit = 0xFFFFFFFF;
  s.selector = static_cast<std::uint16_t>((type == 11 ? 8 : 16) | level);
  s.type = type;
  s.dpl = level;
  s.present = s.code_or_data = s.granularity = true;
  s.long_mode = type == 11;
  s.db = type != 11;
  return s;
}

X86SpecialRegs special_registers(const X86SpecialRegs& reset, DebugPlace place) {
  X86SpecialRegs s = reset;
  if (place == DebugPlace::real) {
    s.cs.base = 0;
    s.cs.selector = 0;
    return s;
  }
  const std::uint8_t level = place == DebugPlace::user ? 3 : 0;
  s.cs = segment(11, level);
  s.ds = s.es = s.fs = s.gs = s.ss = segment(3, level);
  s.cr0 = 0x80000011;  // PG, ET, PE
  s.cr3 = tables_at;
  s.cr4 = 0x20;    // PAE
  s.efer = 0x500;  // LME, LMA
  return s;
}

/// One attempt: a fresh vCPU in a VM whose memory holds the code.
class Attempt {
 public:
  Attempt(Vm& vm, mem::GuestMemory& memory) : vm_(vm), memory_(memory) {}

  Exit run(DebugPlace place, const GuestDebugSettings& settings, std::uint8_t first) {
    std::vector<std::uint8_t> code = place == DebugPlace::real ? real_code : long_code;
    code[0] = first;
    memory_.write(code_at, code.data(), code.size());
    memory_.write(0, unhandled.data(), unhandled.size());
    const auto vcpu = vm_.create_vcpu();
    const X86SpecialRegs reset = vcpu->x86()->sregs();
    vcpu->x86()->set_sregs(special_registers(reset, place));
    X86Regs regs;
    regs.rip = code_at;
    regs.rsp = data_at + 0x800;
    regs.rflags |= 0x3000;  // IOPL 3: the port is for every privilege level
    vcpu->x86()->set_regs(regs);
    vcpu->guest_debug()->set(settings);
    const Exit exit = vcpu->run({patience, nullptr});
    // A processor that has shut down may refuse to tell where it was.
    pc_ = std::holds_alternative<Debug>(exit) || std::holds_alternative<InternalError>(exit) ? vcpu->x86()->regs().rip
                                                                                             : 0;
    vcpu->close();
    return exit;
  }

  bool stops(DebugPlace place, const GuestDebugSettings& settings, std::uint64_t pc, std::uint8_t first = 0x90) {
    const Exit exit = run(place, settings, first);
    const auto* debug = std::get_if<Debug>(&exit);
    return debug != nullptr && debug->pc == pc;
  }
  bool fails_on_it(DebugPlace place, const GuestDebugSettings& settings, std::uint8_t first) {
    const Exit exit = run(place, settings, first);
    const auto* error = std::get_if<InternalError>(&exit);
    return error != nullptr && error->suberror == 1 && pc_ == code_at;
  }

 private:
  Vm& vm_;
  mem::GuestMemory& memory_;
  std::uint64_t pc_ = 0;
};

DebugAbilities abilities(Attempt& attempt, DebugPlace place) {
  using Kind = HardwareBreakpoint::Kind;
  const std::uint64_t after_write = code_at + (place == DebugPlace::real ? real_code : long_code).size() - 2;
  GuestDebugSettings steps, traps, breakpoint, watchpoint;
  steps.single_step = true;
  traps.software_breakpoints = true;
  breakpoint.hardware[0] = HardwareBreakpoint{code_at + 1, 1, Kind::execute};
  watchpoint.hardware[0] = HardwareBreakpoint{data_at, 2, Kind::write};
  DebugAbilities found;
  found.single_step = attempt.stops(place, steps, code_at + 1);
  found.breakpoint = attempt.stops(place, breakpoint, code_at + 1);
  found.watchpoint = attempt.stops(place, watchpoint, after_write);
  found.int3 = attempt.stops(place, traps, code_at, int3);
  found.int3_fails = attempt.fails_on_it(place, traps, int3);
  found.int1_fails = attempt.fails_on_it(place, traps, int1);
  return found;
}

}  // namespace

const char* to_string(DebugPlace place) noexcept {
  switch (place) {
    case DebugPlace::real: return "real";
    case DebugPlace::kernel: return "kernel";
    case DebugPlace::user: return "user";
  }
  return "unknown";
}

std::uint8_t DebugSupport::trap_instruction() const noexcept {
  const DebugAbilities& real = (*this)[DebugPlace::real];
  return !real.int3 && !real.int3_fails && real.int1_fails ? int1 : int3;
}

bool DebugSupport::software_breakpoint(DebugPlace place) const noexcept {
  const DebugAbilities& here = (*this)[place];
  return trap_instruction() == int3 ? here.int3 || here.int3_fails : here.int1_fails;
}

DebugSupport probe_debug(Vm& scratch) {
  if (scratch.architecture() != Architecture::x86_64)
    throw NotSupported(std::string("debugging guests of ") + architecture_name(scratch.architecture()) +
                       " is not implemented; only x86-64 is");
  const auto memory = mem::GuestMemory::anonymous(memory_size);
  mem::paging::X86Config paging;
  paging.levels = 4;
  paging.root = tables_at;
  mem::paging::AddressSpaceOptions options;
  options.tables = mem::paging::TableRange{tables_at + 0x1000, 0x8FFF};
  mem::paging::AddressSpace(memory, paging, options)
      .map({0, 0, memory_size, Access::read | Access::write | Access::execute, true, 4096});
  scratch.map(*memory);
  Attempt attempt(scratch, *memory);
  DebugSupport support;
  for (std::size_t i = 0; i < debug_places; ++i) support.at[i] = abilities(attempt, static_cast<DebugPlace>(i));
  return support;
}

}  // namespace vm::accel
