#include "vm/accel/scripted/hypervisor.hpp"

#include <string>
#include <utility>

#include "stage.hpp"
#include "vm.hpp"

namespace vm::accel {
namespace scripted {
namespace {

class ScriptedBackend final : public HypervisorBackend {
 public:
  explicit ScriptedBackend(std::shared_ptr<Stage> stage) : stage_(std::move(stage)) {}

  std::string name() const override { return "scripted"; }
  Architecture architecture() const noexcept override { return stage_->plan().architecture; }
  std::shared_ptr<VmBackend> create_vm() override { return std::make_shared<ScriptedVm>(stage_); }
  unsigned max_vcpus() const noexcept override { return stage_->plan().max_vcpus; }

 private:
  const std::shared_ptr<Stage> stage_;
};

}  // namespace
}  // namespace scripted

ScriptedHypervisor::ScriptedHypervisor(scripted::Plan plan)
    : ScriptedHypervisor(std::make_shared<scripted::Stage>(std::move(plan))) {}

ScriptedHypervisor::ScriptedHypervisor(std::shared_ptr<scripted::Stage> stage)
    : Hypervisor(std::make_shared<scripted::ScriptedBackend>(stage)), stage_(std::move(stage)) {}

std::vector<scripted::Call> ScriptedHypervisor::calls() const { return stage_->calls(); }

void ScriptedHypervisor::forget_calls() { stage_->forget_calls(); }

void ScriptedHypervisor::fail(scripted::CallKind kind, int code, std::uint64_t nth) { stage_->fail(kind, code, nth); }

std::uint64_t ScriptedHypervisor::nudges(unsigned vcpu, unsigned vm) const {
  return stage_->nudges(vm, vcpu)->load(std::memory_order_relaxed);
}

}  // namespace vm::accel
