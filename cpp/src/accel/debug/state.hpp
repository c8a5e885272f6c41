#pragma once
/// \file
/// What stands behind `Debugger`.

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>

#include "patches.hpp"
#include "points.hpp"
#include "vm/accel/debug/debugger.hpp"
#include "vm/accel/debug/virtual_memory.hpp"
#include "vm/accel/hypervisor/x86_registers.hpp"

namespace vm::accel {

class Debugger::State {
 public:
  explicit State(std::shared_ptr<Vm> debugged) noexcept : vm(std::move(debugged)) {}

  /// The vCPU called `id`, or the first one. Throws InvalidConfig.
  std::shared_ptr<Vcpu> find(std::optional<unsigned> id) const;
  const DebugSupport& abilities();
  /// Throws NotSupported, saying that `what` does not work at `place` here.
  [[noreturn]] void refuse(const char* what, DebugPlace place);

  Stop run(const RunOptions& options, std::optional<unsigned> only);
  /// One instruction; `announce`: a breakpoint at the next one is the stop.
  Stop step(Vcpu& vcpu, const RunOptions& options, bool announce);
  /// The vCPU has just been told about the breakpoint where it stands, so it goes on past it.
  void pass(Vcpu& vcpu);
  void interrupt() noexcept;

  const std::shared_ptr<Vm> vm;
  Points points;
  Patches patches;
  std::mutex mutex;
  bool interrupted = false;  // guarded by mutex

 private:
  struct Place {
    X86Regs regs;
    X86SpecialRegs sregs;
    std::uint64_t pc = 0;
  };
  /// How a vCPU was entered.
  struct Entry {
    GuestDebugSettings settings;
    std::optional<std::uint64_t> lifted;  ///< the breakpoint here was out of the way
  };
  Place place_of(Vcpu& vcpu) const;
  Breakpoint* breakpoint_at(Vcpu& vcpu, const Place& place);

  const Exit& enter(Vcpu& vcpu, const GuestDebugSettings& settings, const RunOptions& options);
  const Exit& enter_once(Vcpu& vcpu, const RunOptions& options);
  /// What the exit means; nothing when the guest goes on by itself.
  std::optional<Stop> judge(Vcpu& vcpu, const Exit& exit, const Entry& entry);
  std::optional<Stop> judge_debug(Vcpu& vcpu, const Debug& exit, const Entry& entry, const Stop& stop);
  std::optional<Stop> step_once(Vcpu& vcpu, const RunOptions& options);
  Stop hit(Breakpoint& point, Stop stop);
  static Stop hit(Watchpoint& point, Stop stop);
  std::optional<Stop> take_turn(Vcpu& vcpu, const RunOptions& options);

  std::optional<DebugSupport> support_;
  std::map<unsigned, std::uint64_t> passing_;  // by vCPU: the address whose breakpoint has been reported
  std::size_t turn_ = 0;
  Vcpu* current_ = nullptr;   // guarded by mutex; inside Vcpu::run
  bool kicked_ = false;       // guarded by mutex; current_ was kicked by `interrupt`
  std::set<unsigned> stale_;  // vCPUs with a kick of `interrupt` that their run did not see
};

}  // namespace vm::accel
