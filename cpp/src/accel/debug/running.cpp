// Entering vCPUs, and what their exits mean.

#include <algorithm>
#include <string>
#include <utility>

#include "state.hpp"
#include "vm/accel/hypervisor/guest_debug.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

using namespace std::chrono_literals;

// How long one vCPU runs while others wait: long against an exit, short against a person's patience.
constexpr std::chrono::nanoseconds slice = 5ms;

constexpr std::uint32_t debug_vector = 1;
constexpr std::uint32_t breakpoint_vector = 3;
constexpr std::uint64_t dr6_step = 1 << 14;
constexpr std::uint64_t dr6_causes = 0xE00F;  // B0-B3, BD, BS, BT (Intel SDM vol. 3 §17.2.3)
constexpr std::uint32_t emulation_failed = 1;

struct Deadline {
  explicit Deadline(const RunOptions& options) {
    const Clock::time_point now = Clock::now();
    if (options.timeout && *options.timeout < Clock::time_point::max() - now) at = now + *options.timeout;
  }
  /// What is left of the time, at most `most` of it.
  RunOptions left(const RunOptions& options, std::optional<std::chrono::nanoseconds> most) const {
    std::optional<std::chrono::nanoseconds> left = most;
    if (at) {
      const std::chrono::nanoseconds rest = std::max<std::chrono::nanoseconds>(*at - Clock::now(), 0ns);
      left = most ? std::min(*most, rest) : rest;
    }
    return {left, options.signals};
  }
  bool over() const { return at && Clock::now() >= *at; }
  std::optional<Clock::time_point> at;
};

}  // namespace

Debugger::State::Place Debugger::State::place_of(Vcpu& vcpu) const {
  auto x86 = vcpu.x86();
  Place place{x86->regs(), x86->sregs(), 0};
  place.pc = linear_pc(place.regs, place.sregs);
  return place;
}

Breakpoint* Debugger::State::breakpoint_at(Vcpu& vcpu, const Place& place) {
  if (points.breakpoints().empty()) return nullptr;
  const auto found = VirtualMemory(*vm, vcpu).try_find(place.pc);
  return points.at(place.pc, found ? std::optional<std::uint64_t>(found->paddr) : std::nullopt);
}

void Debugger::State::interrupt() noexcept {
  const std::lock_guard<std::mutex> lock(mutex);
  interrupted = true;
  if (current_ == nullptr) return;
  current_->kick();
  kicked_ = true;
}

const Exit& Debugger::State::enter_once(Vcpu& vcpu, const RunOptions& options) {
  static const Exit interruption{Interrupted{}};
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (std::exchange(interrupted, false)) return interruption;
    current_ = &vcpu;
  }
  struct Back {
    State& state;
    Vcpu& vcpu;
    const Exit* exit;
    ~Back() {
      const std::lock_guard<std::mutex> lock(state.mutex);
      state.current_ = nullptr;
      const bool seen = exit != nullptr && std::holds_alternative<Interrupted>(*exit);
      const bool kicked = std::exchange(state.kicked_, false);
      if (seen && kicked) state.interrupted = false;
      if (kicked && !seen) state.stale_.insert(vcpu.id());
    }
  } back{*this, vcpu, nullptr};
  back.exit = &vcpu.run(options);
  return *back.exit;
}

const Exit& Debugger::State::enter(Vcpu& vcpu, const GuestDebugSettings& settings, const RunOptions& options) {
  {
    auto debug = vcpu.guest_debug();
    // The trap flag of a step is lost when registers are written, so a step is always asked for anew.
    if (settings.single_step || !(debug->settings() == settings)) debug->set(settings);
  }
  const Exit* exit = &enter_once(vcpu, options);
  if (std::holds_alternative<Interrupted>(*exit) && stale_.erase(vcpu.id()) != 0) exit = &enter_once(vcpu, options);
  return *exit;
}

Stop Debugger::State::hit(Breakpoint& point, Stop stop) {
  ++point.hits;
  passing_[stop.vcpu] = stop.pc;
  stop.reason = StopReason::breakpoint;
  stop.id = point.id;
  return stop;
}

Stop Debugger::State::hit(Watchpoint& point, Stop stop) {
  ++point.hits;
  stop.reason = StopReason::watchpoint;
  stop.id = point.id;
  stop.address = point.vaddr;
  return stop;
}

std::optional<Stop> Debugger::State::judge_debug(Vcpu& vcpu, const Debug& exit, const Entry& entry, const Stop& stop) {
  if (exit.exception == breakpoint_vector) {
    Breakpoint* point = stop.pc != entry.lifted ? breakpoint_at(vcpu, place_of(vcpu)) : nullptr;
    if (point != nullptr) return hit(*point, stop);
    vcpu.guest_debug()->inject_breakpoint();
    return std::nullopt;
  }
  if (exit.exception != debug_vector) return stop;
  const GuestDebugSettings& settings = entry.settings;
  for (std::size_t i = 0; i < settings.hardware.size(); ++i) {
    if ((exit.dr6 >> i & 1) == 0 || !settings.hardware[i]) continue;
    if (Breakpoint* point = points.breakpoint_of(*settings.hardware[i])) return hit(*point, stop);
    if (Watchpoint* point = points.watchpoint_of(*settings.hardware[i])) return hit(*point, stop);
  }
  if (settings.single_step && (exit.dr6 & dr6_step) != 0) {
    Stop stepped = stop;
    stepped.reason = StopReason::step;
    return stepped;
  }
  vcpu.guest_debug()->inject_debug(exit.dr6 & dr6_causes);
  return std::nullopt;
}

std::optional<Stop> Debugger::State::judge(Vcpu& vcpu, const Exit& exit, const Entry& entry) {
  const Place place = place_of(vcpu);
  Stop stop;
  stop.vcpu = vcpu.id();
  stop.pc = place.pc;
  stop.exit = exit;
  if (std::holds_alternative<Interrupted>(exit)) {
    stop.reason = StopReason::interrupted;
    return stop;
  }
  if (std::holds_alternative<Timeout>(exit)) {
    stop.reason = StopReason::timeout;
    return stop;
  }
  stop.reason = StopReason::exit;
  if (const auto* debug = std::get_if<Debug>(&exit)) {
    std::optional<Stop> judged = judge_debug(vcpu, *debug, entry, stop);
    if (judged && judged->reason != StopReason::step) return judged;
    // Any instruction may have changed what is compared; an access that shows up in an exit is looked at after it.
    if (Watchpoint* point = points.changed()) return hit(*point, stop);
    return judged;
  }
  // KVM's emulator has no INT3 outside real mode: it fails, standing on it.
  const auto* error = std::get_if<InternalError>(&exit);
  if (error != nullptr && error->suberror == emulation_failed && place.pc != entry.lifted) {
    Breakpoint* point = breakpoint_at(vcpu, place);
    if (point != nullptr && !point->hardware) return hit(*point, stop);
  }
  return stop;
}

std::optional<Stop> Debugger::State::step_once(Vcpu& vcpu, const RunOptions& options) {
  const Place before = place_of(vcpu);
  const std::optional<VirtualMemory::Place> here = VirtualMemory(*vm, vcpu).try_find(before.pc);
  Entry entry{points.settings(before.pc), before.pc};
  entry.settings.single_step = true;
  entry.settings.block_interrupts = vcpu.guest_debug()->can_block_interrupts();
  const Patches::Lifted lifted(patches, here ? here->paddr : UINT64_MAX);
  std::optional<Stop> stop = judge(vcpu, enter(vcpu, entry.settings, options), entry);
  const bool early = stop && stop->reason != StopReason::step && stop->reason != StopReason::breakpoint;
  if (early && stop->pc == before.pc) passing_[vcpu.id()] = before.pc;  // it has not got past the breakpoint
  return stop;
}

Stop Debugger::State::step(Vcpu& vcpu, const RunOptions& options, bool announce) {
  const Deadline deadline(options);
  passing_.erase(vcpu.id());
  std::optional<Stop> stop;
  while (!stop) stop = step_once(vcpu, deadline.left(options, std::nullopt));
  if (stop->reason != StopReason::step || !announce) return *stop;
  Breakpoint* point = breakpoint_at(vcpu, place_of(vcpu));
  return point != nullptr ? hit(*point, *stop) : *stop;
}

void Debugger::State::pass(Vcpu& vcpu) { passing_[vcpu.id()] = place_of(vcpu).pc; }

std::optional<Stop> Debugger::State::take_turn(Vcpu& vcpu, const RunOptions& options) {
  const auto passed = passing_.find(vcpu.id());
  if (passed != passing_.end()) {
    const std::uint64_t from = passed->second;
    passing_.erase(passed);
    const Place place = place_of(vcpu);
    if (place.pc == from && breakpoint_at(vcpu, place) != nullptr) {
      const Stop stop = step(vcpu, options, false);
      if (stop.reason != StopReason::step) return stop;
    }
  }
  Entry entry{points.settings(), std::nullopt};
  entry.settings.single_step = points.stepping();
  std::optional<Stop> stop = judge(vcpu, enter(vcpu, entry.settings, options), entry);
  if (stop && stop->reason == StopReason::step) stop.reset();
  return stop;
}

Stop Debugger::State::run(const RunOptions& options, std::optional<unsigned> only) {
  const Deadline deadline(options);
  for (;;) {
    std::vector<std::shared_ptr<Vcpu>> vcpus;
    if (only) {
      vcpus.push_back(find(only));
    } else {
      vcpus = vm->vcpus();
    }
    if (vcpus.empty()) throw InvalidConfig("this VM has no vCPU to run");
    Vcpu& vcpu = *vcpus[turn_ % vcpus.size()];
    const bool shared = vcpus.size() > 1;
    const RunOptions turn = deadline.left(options, shared ? std::optional(slice) : std::nullopt);
    const std::optional<Stop> stop = take_turn(vcpu, turn);
    if (!stop) continue;
    if (stop->reason != StopReason::timeout || deadline.over()) return *stop;
    ++turn_;
  }
}

}  // namespace vm::accel
