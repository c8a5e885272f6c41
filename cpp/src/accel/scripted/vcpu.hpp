#pragma once
/// \file
/// A scripted vCPU: its place in the script, and registers.

#include <cstddef>
#include <memory>
#include <vector>

#include "vm.hpp"
#include "vm/accel/hypervisor/backend.hpp"
#include "waker.hpp"
#include "x86_state.hpp"

namespace vm::accel::scripted {

class ScriptedVcpu final : public VcpuBackend {
 public:
  ScriptedVcpu(unsigned id, std::shared_ptr<ScriptedVm> vm);

  void attach() override {}
  bool enter(Exit& exit) override;
  void interrupted(const Exit& exit) override;
  void nudge() noexcept override;
  void reply(const Exit& exit, const std::byte* data) override;
  void refuse(const Exit& exit) override;
  void complete() override;
  X86State* x86() noexcept override;

 private:
  const Step& next();
  void begin_run();
  bool came_back() noexcept;
  void play(const Play& play, Exit& exit);
  void perform(const Do& step);

  const unsigned id_;
  const std::shared_ptr<ScriptedVm> vm_;
  Stage& stage_;  // of vm_
  const std::shared_ptr<NudgeCount> nudges_;
  const Script& script_;  // of stage_, or empty
  std::size_t position_ = 0;
  bool begun_ = false;  // a run has come as far as this step and not been interrupted since
  Waker waker_;
  ScriptedX86State x86_;
  std::vector<std::byte> reply_;  // to the exit before
  bool refused_ = false;
};

}  // namespace vm::accel::scripted
