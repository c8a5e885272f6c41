#pragma once
/// \file
/// What was asked of a scripted hypervisor.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "vm/accel/exits/exit.hpp"
#include "vm/accel/hypervisor/memory_slot.hpp"
#include "vm/accel/hypervisor/x86_registers.hpp"

namespace vm::accel::scripted {

/// A request that is recorded and can be made to fail.
enum class CallKind : std::uint8_t {
  create_vm,
  create_vcpu,
  add_slot,
  remove_slot,
  change_slot,
  run,
  reply,
  refuse,
  complete,
  set_regs,
  set_sregs,
  set_state,
};

/// "create_vm", as the enumerator is spelled.
const char* call_name(CallKind kind) noexcept;
/// Throws InvalidConfig naming those that there are.
CallKind parse_call(const std::string& name);

struct SlotChange {
  MemorySlot before, after;
};

/// By kind: the slot (add, remove) without its host memory; both slots (change); how the run ended (run); the bytes
/// (reply); the registers (set_regs, set_sregs); the name of what else was written (set_state). Nothing for the others
/// and for a run that failed.
using CallValue = std::variant<std::monostate, MemorySlot, SlotChange, Exit, std::vector<std::byte>, X86Regs,
                               X86SpecialRegs, std::string>;

struct Call {
  CallKind kind = CallKind::create_vm;
  unsigned vm = 0;               ///< which VM, from 0
  std::optional<unsigned> vcpu;  ///< absent for what concerns the whole VM
  int error = 0;                 ///< the errno that it was made to fail with
  CallValue value;
};

}  // namespace vm::accel::scripted
