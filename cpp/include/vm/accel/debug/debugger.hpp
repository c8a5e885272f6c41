#pragma once
/// \file
/// `Debugger`: breakpoints, watchpoints and steps over the vCPUs of a VM.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "vm/accel/debug/stop.hpp"
#include "vm/accel/debug/support.hpp"
#include "vm/accel/hypervisor/vm.hpp"

namespace vm::accel {

enum class BreakpointKind : std::uint8_t {
  automatic,  ///< software; where that cannot be (read-only memory), hardware
  software,   ///< a trap instruction in guest memory: any number
  hardware,   ///< a debug register: four together with watchpoints
};

enum class WatchpointKind : std::uint8_t {
  automatic,  ///< hardware where that works for the vCPU's present mode, else stepping
  hardware,   ///< a debug register
  stepping,   ///< every instruction is a step, and the bytes are compared: sees changes, not accesses, and is slow
};

struct Breakpoint {
  unsigned id = 0;
  std::uint64_t vaddr = 0;
  std::uint64_t paddr = 0;  ///< of the patch; 0 for a hardware breakpoint
  bool hardware = false;
  std::uint64_t hits = 0;
};

struct Watchpoint {
  unsigned id = 0;
  std::uint64_t vaddr = 0;
  std::uint8_t size = 0;
  bool read = false;
  bool write = false;
  bool hardware = false;
  std::uint64_t hits = 0;
};

/// Runs the VM's vCPUs and says where and why they stop. All stand still while one is looked at, and they take turns on
/// the calling thread, so that no vCPU passes a breakpoint while another is being stepped over it.
///
/// Addresses are linear: what comes out of segmentation. A software breakpoint is put where the address translates to
/// when it is set, and stays there; `read` and `write` here do not show it, other ways to the memory do, so `clear`
/// before a snapshot. While hardware breakpoints are set the guest's own debug registers have no effect. Debug
/// exceptions that are the guest's own are given to it and are not stops.
///
/// One thread, which owns the vCPUs (Vcpu::attach), but for `interrupt`, which any thread may call. x86 only.
class Debugger {
 public:
  /// Throws NotSupported when the VM is not x86. Nothing is touched yet.
  explicit Debugger(std::shared_ptr<Vm> vm);
  Debugger(const Debugger&) = delete;
  Debugger& operator=(const Debugger&) = delete;
  /// As `detach`; on another thread than the vCPUs' only memory is restored.
  ~Debugger();

  const std::shared_ptr<Vm>& vm() const noexcept;
  /// What works here: found out by the first call that needs to know, in a VM of its own.
  const DebugSupport& support();

  /// Stops before the instruction at `vaddr`, as `vcpu` (absent: the first one) sees memory. Setting one twice gives
  /// two ids for one place. Throws PageFault, OutOfRange (no memory), AccessViolation (read-only memory),
  /// ResourceExhausted (debug registers), NotSupported when nothing here stops code in such a place.
  Breakpoint break_at(std::uint64_t vaddr, BreakpointKind kind = BreakpointKind::automatic,
                      std::optional<unsigned> vcpu = {});
  /// Stops after an access to [vaddr, vaddr + size). size: 1, 2, 4 or 8; vaddr a multiple of it. x86 cannot watch reads
  /// alone: `read` includes writes. Throws as break_at, InvalidConfig.
  Watchpoint watch(std::uint64_t vaddr, std::uint8_t size, bool read = false, bool write = true,
                   WatchpointKind kind = WatchpointKind::automatic, std::optional<unsigned> vcpu = {});
  /// Takes away a breakpoint or watchpoint. Throws OutOfRange for an id that is none.
  void remove(unsigned id);
  void clear();
  std::vector<Breakpoint> breakpoints() const;
  std::vector<Watchpoint> watchpoints() const;

  /// Runs all vCPUs, or the one called `vcpu`, until one stops. Throws what Vcpu::run throws, InvalidConfig when there
  /// is no such vCPU.
  Stop run(const RunOptions& options = {}, std::optional<unsigned> vcpu = {});
  /// Executes one instruction of a vCPU; the others stand still, and interrupts wait where the kernel can hold them. A
  /// breakpoint at the instruction that comes next is `breakpoint`, not `step`. Throws NotSupported where code does not
  /// stop after one instruction.
  Stop step(std::optional<unsigned> vcpu = {}, const RunOptions& options = {});
  /// Runs until `vaddr`; a breakpoint of its own is set and removed. Stops for anything else too.
  Stop run_to(std::uint64_t vaddr, const RunOptions& options = {}, std::optional<unsigned> vcpu = {});
  /// Steps a vCPU until `reached` says yes after an instruction, at most `limit` of them: then `timeout`. Stops for
  /// anything else too.
  Stop run_until(const std::function<bool(Vcpu&)>& reached, std::uint64_t limit, std::optional<unsigned> vcpu = {},
                 const RunOptions& options = {});
  /// The run in progress, or the next one, stops as `interrupted`. Any thread.
  void interrupt() noexcept;
  /// Forgets an interrupt that came after the run it was meant for.
  void forget_interrupt() noexcept;

  /// Guest memory as the vCPU's page tables show it, without permission checks and without the patches. Throws
  /// PageFault, OutOfRange, AccessViolation; `write` may then have written the pages before.
  void read(std::uint64_t vaddr, void* destination, std::size_t size, std::optional<unsigned> vcpu = {});
  void write(std::uint64_t vaddr, const void* source, std::size_t size, std::optional<unsigned> vcpu = {});
  std::uint64_t pc(std::optional<unsigned> vcpu = {});

  /// Removes everything, and switches debugging of the vCPUs off. The debugger can be used again. Twice is fine.
  void detach();

 private:
  class State;
  const std::unique_ptr<State> state_;
};

}  // namespace vm::accel
