#pragma once
/// \file
/// What is about to happen to an x86 vCPU, as plain values (SDM vol. 3 §6; Linux, Documentation/virt/kvm/api.rst
/// §4.31).

#include <cstdint>
#include <optional>

namespace vm::accel {

/// An exception on its way into the guest. At most one of `pending` and `injected`.
struct X86PendingException {
  bool pending = false;   ///< raised; its side effects (CR2, DR6) are still to come
  bool injected = false;  ///< side effects are done; it will be delivered
  std::uint8_t vector = 0;
  std::optional<std::uint32_t> error_code;
  std::optional<std::uint64_t> payload;  ///< of a pending one: the coming CR2 (#PF) or DR6 bits (#DB)
};

/// AMD's processors do not tell the two shadows apart; there KVM shows both when either is there.
struct X86PendingInterrupt {
  bool injected = false;
  std::uint8_t vector = 0;
  bool soft = false;           ///< by INT n
  bool shadow_sti = false;     ///< interrupts are off for one instruction after STI
  bool shadow_mov_ss = false;  ///< the same after MOV SS or POP SS
};

struct X86PendingNmi {
  bool injected = false;
  bool pending = false;
  bool masked = false;  ///< no NMI until IRET
};

/// System management mode.
struct X86PendingSmi {
  bool active = false;  ///< the vCPU is in SMM
  bool pending = false;
  bool inside_nmi = false;
  bool latched_init = false;
};

struct X86Events {
  X86PendingException exception;
  X86PendingInterrupt interrupt;
  X86PendingNmi nmi;
  X86PendingSmi smi;
  std::optional<std::uint32_t> sipi_vector;  ///< of the start-up message; only read, unless it is set
  bool triple_fault = false;                 ///< a Shutdown is on its way
};

}  // namespace vm::accel
