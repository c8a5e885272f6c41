#pragma once
/// \file
/// What a scripted vCPU does: a list of steps that stands in for the guest's code.

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "vm/accel/exits/exit.hpp"
#include "vm/accel/hypervisor/backend.hpp"
#include "vm/accel/hypervisor/x86_registers.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::accel::scripted {

/// What a `Do` step may touch: the side of the guest, while its vCPU is inside `run`.
struct Guest {
  unsigned vm = 0;  ///< which VM of the hypervisor, from 0
  unsigned vcpu = 0;
  X86Regs& regs;
  X86SpecialRegs& sregs;
  const std::vector<std::byte>& reply;  ///< the answer to the exit before; empty when it asked for none
  bool refused = false;                 ///< the access to a model-specific register before was refused
  /// The slots as the guest sees them: writes to read-only ones throw AccessViolation, holes OutOfRange.
  std::shared_ptr<mem::GuestMemory> memory;
};

/// `run` comes back with `exit`. An IoOut takes its bytes from `data`, whatever its own pointer is.
struct Play {
  Exit exit;
  std::vector<std::byte> data;
};

/// The guest does something and goes on. What `action` throws, `run` throws; the step counts as done.
struct Do {
  std::function<void(Guest&)> action;
};

/// The guest keeps its processor until a run ends by a kick or a timeout, also one that ends before it got here.
struct Block {};

/// `run` fails as if the operating system had refused with `code`, an errno.
struct Fail {
  int code = 0;
};

using Step = std::variant<Play, Do, Block, Fail>;

struct Script {
  std::vector<Step> steps;
  /// After the last step the one with this number is next, for ever; absent: then the script is over and `run` throws
  /// InvalidConfig.
  std::optional<std::size_t> repeat_from;
};

/// What a scripted hypervisor offers, and what its vCPUs do.
struct Plan {
  std::map<unsigned, Script> scripts;  ///< by vCPU; the vCPUs of every VM begin at the first step
  bool record = true;                  ///< keep the calls; without, only failures are counted
  Architecture architecture = Architecture::x86_64;
  std::size_t max_slots = 509;
  unsigned max_vcpus = 64;
};

/// Throws InvalidConfig naming the step: an IoOut whose bytes are not size * count, sizes that the processor does not
/// have, an action that is missing, an end that repeats without ever coming back.
void check(const Script& script);

}  // namespace vm::accel::scripted
