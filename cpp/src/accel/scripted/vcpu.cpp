#include "vcpu.hpp"

#include <string>
#include <utility>

#include "vm/core/error.hpp"

namespace vm::accel::scripted {
namespace {

const Script& script_of(const Plan& plan, unsigned vcpu) {
  static const Script none;
  const auto found = plan.scripts.find(vcpu);
  return found != plan.scripts.end() ? found->second : none;
}

}  // namespace

ScriptedVcpu::ScriptedVcpu(unsigned id, std::shared_ptr<ScriptedVm> vm)
    : id_(id),
      vm_(std::move(vm)),
      stage_(vm_->stage()),
      nudges_(stage_.nudges(vm_->number(), id)),
      script_(script_of(stage_.plan(), id)),
      x86_(*vm_, id) {}

const Step& ScriptedVcpu::next() {
  if (position_ == script_.steps.size() && script_.repeat_from) position_ = *script_.repeat_from;
  if (position_ < script_.steps.size()) return script_.steps[position_];
  const std::string count = std::to_string(position_);
  throw InvalidConfig("the script of vCPU " + std::to_string(id_) +
                      (position_ == 0 ? " has no steps; give the hypervisor one for this vCPU"
                                      : " is over after its " + count + " steps, and run() was called once more"));
}

void ScriptedVcpu::begin_run() {
  if (begun_) return;
  if (stage_.watching()) stage_.fail_if_due({CallKind::run, vm_->number(), id_, 0, {}});
  begun_ = true;
}

bool ScriptedVcpu::came_back() noexcept {
  waker_.clear();
  return false;
}

bool ScriptedVcpu::enter(Exit& exit) {
  if (waker_.called()) return came_back();
  begin_run();
  for (;;) {
    const Step& step = next();
    if (const auto* played = std::get_if<Play>(&step)) {
      play(*played, exit);
      return true;
    }
    if (const auto* action = std::get_if<Do>(&step)) {
      perform(*action);
    } else if (const auto* failure = std::get_if<Fail>(&step)) {
      ++position_;
      begun_ = false;
      stage_.record({CallKind::run, vm_->number(), id_, failure->code, {}});
      throw_failure(call_name(CallKind::run), failure->code);
    } else {
      waker_.wait();
      return came_back();
    }
  }
}

void ScriptedVcpu::play(const Play& play, Exit& exit) {
  ++position_;
  begun_ = false;
  exit = play.exit;
  if (auto* out = std::get_if<IoOut>(&exit)) out->data = play.data.data();
  reply_.clear();
  refused_ = false;
  if (stage_.watching()) stage_.record({CallKind::run, vm_->number(), id_, 0, exit});
}

void ScriptedVcpu::perform(const Do& step) {
  ++position_;
  begun_ = false;  // when it throws, the run is over
  Guest guest{vm_->number(), id_, x86_.guest_regs(), x86_.guest_sregs(), reply_, refused_, vm_->memory()};
  step.action(guest);
  begun_ = true;
}

void ScriptedVcpu::interrupted(const Exit& exit) {
  begun_ = false;
  if (position_ == script_.steps.size() && script_.repeat_from) position_ = *script_.repeat_from;
  if (position_ < script_.steps.size() && std::holds_alternative<Block>(script_.steps[position_])) ++position_;
  if (stage_.watching()) stage_.record({CallKind::run, vm_->number(), id_, 0, exit});
}

void ScriptedVcpu::nudge() noexcept {
  nudges_->fetch_add(1, std::memory_order_relaxed);
  waker_.call();
}

void ScriptedVcpu::reply(const Exit& exit, const std::byte* data) {
  std::vector<std::byte> bytes(data, data + reply_size(exit));
  stage_.take({CallKind::reply, vm_->number(), id_, 0, bytes});
  reply_ = std::move(bytes);
}

void ScriptedVcpu::refuse(const Exit& /*exit*/) {
  stage_.take({CallKind::refuse, vm_->number(), id_, 0, {}});
  refused_ = true;
}

void ScriptedVcpu::complete() { stage_.take({CallKind::complete, vm_->number(), id_, 0, {}}); }

X86State* ScriptedVcpu::x86() noexcept { return stage_.plan().architecture == Architecture::x86_64 ? &x86_ : nullptr; }

}  // namespace vm::accel::scripted
