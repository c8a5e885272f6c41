#include "vm/accel/debug/debugger.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "state.hpp"
#include "vm/accel/hypervisor/guest_debug.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

DebugPlace debug_place(Vcpu& vcpu) {
  auto x86 = vcpu.x86();
  const X86SpecialRegs sregs = x86->sregs();
  const CpuMode mode = cpu_mode(sregs, x86->regs().rflags);
  if (privilege_level(sregs) == 3) return DebugPlace::user;
  return mode == CpuMode::real ? DebugPlace::real : DebugPlace::kernel;
}

void switch_off(Vcpu& vcpu) {
  auto debug = vcpu.guest_debug();
  if (debug->settings().any()) debug->set({});
}

}  // namespace

std::shared_ptr<Vcpu> Debugger::State::find(std::optional<unsigned> id) const {
  const std::vector<std::shared_ptr<Vcpu>> vcpus = vm->vcpus();
  for (const auto& vcpu : vcpus) {
    if (!id || vcpu->id() == *id) return vcpu;
  }
  if (!id) throw InvalidConfig("this VM has no vCPU; debugging wants one, for its registers and page tables");
  throw InvalidConfig("this VM has no vCPU " + std::to_string(*id) + " (of " + std::to_string(vcpus.size()) + ")");
}

const DebugSupport& Debugger::State::abilities() {
  if (!support_) support_ = probe_debug(*vm->create_sibling());
  return *support_;
}

void Debugger::State::refuse(const char* what, DebugPlace place) {
  const char* where = place == DebugPlace::real     ? "in real mode"
                      : place == DebugPlace::kernel ? "in protected and long mode at privilege level 0"
                                                    : "at privilege level 3";
  throw NotSupported(std::string(what) + " does not work for guest code " + where +
                     " on this machine: its KVM accepts KVM_SET_GUEST_DEBUG, but a guest that tried went on; "
                     "`support` lists what works, and processors with VT-x or SVM have all of it");
}

Debugger::Debugger(std::shared_ptr<Vm> vm) : state_(std::make_unique<State>(std::move(vm))) {
  if (!state_->vm) throw InvalidConfig("a Debugger needs a VM, got none");
  const Architecture architecture = state_->vm->architecture();
  if (architecture != Architecture::x86_64) {
    throw NotSupported(std::string("debugging guests of ") + architecture_name(architecture) +
                       " is not implemented; only x86-64 is");
  }
}

Debugger::~Debugger() {
  try {
    detach();
  } catch (const VmError&) {  // the vCPUs are another thread's, or gone; the memory is as it was
  }
}

const std::shared_ptr<Vm>& Debugger::vm() const noexcept { return state_->vm; }

const DebugSupport& Debugger::support() { return state_->abilities(); }

Breakpoint Debugger::break_at(std::uint64_t vaddr, BreakpointKind kind, std::optional<unsigned> vcpu) {
  State& state = *state_;
  const std::shared_ptr<Vcpu> viewer = state.find(vcpu);
  const DebugPlace place = debug_place(*viewer);
  const DebugSupport& support = state.abilities();
  Breakpoint point;
  point.vaddr = vaddr;
  if (kind != BreakpointKind::hardware && support.software_breakpoint(place)) {
    const VirtualMemory memory(*state.vm, *viewer);
    point.paddr = memory.find(vaddr).paddr;
    if (kind == BreakpointKind::software || memory.memory()->view(point.paddr, 1).writable) {
      state.patches.add(*memory.memory(), point.paddr, std::byte{support.trap_instruction()});
      return state.points.add(point);
    }
    point.paddr = 0;
  } else if (kind == BreakpointKind::software) {
    state.refuse("a software breakpoint", place);
  }
  if (!support[place].breakpoint) state.refuse("a breakpoint", place);
  point.hardware = true;
  return state.points.add(point);
}

Watchpoint Debugger::watch(std::uint64_t vaddr, std::uint8_t size, bool read, bool write, WatchpointKind kind,
                           std::optional<unsigned> vcpu) {
  State& state = *state_;
  if (!read && !write) throw InvalidConfig("a watchpoint watches reads, writes or both");
  GuestDebugSettings form;
  form.hardware[0] = HardwareBreakpoint{vaddr, size, HardwareBreakpoint::Kind::write};
  validate(form);
  const std::shared_ptr<Vcpu> viewer = state.find(vcpu);
  const DebugPlace place = debug_place(*viewer);
  const DebugAbilities& abilities = state.abilities()[place];
  Points::Watched entry;
  entry.point.vaddr = vaddr;
  entry.point.size = size;
  entry.point.read = read;
  entry.point.write = write;
  entry.point.hardware =
      kind == WatchpointKind::hardware || (kind == WatchpointKind::automatic && abilities.watchpoint);
  if (entry.point.hardware) {
    if (!abilities.watchpoint) state.refuse("a hardware watchpoint", place);
    return state.points.add(std::move(entry));
  }
  if (!abilities.single_step) state.refuse("a watchpoint", place);
  if (read) {
    throw NotSupported(
        "a stepping watchpoint sees bytes change, so it cannot watch reads, and hardware watchpoints do "
        "not work here (see `support`); watch writes");
  }
  const VirtualMemory memory(*state.vm, *viewer);
  entry.bytes = memory.memory()->view(memory.find(vaddr).paddr, size);
  return state.points.add(std::move(entry));
}

void Debugger::remove(unsigned id) {
  const std::optional<Breakpoint> removed = state_->points.remove(id);
  if (removed && !removed->hardware) state_->patches.drop(removed->paddr);
}

void Debugger::clear() {
  state_->patches.clear();
  state_->points.clear();
}

std::vector<Breakpoint> Debugger::breakpoints() const { return state_->points.breakpoints(); }

std::vector<Watchpoint> Debugger::watchpoints() const {
  std::vector<Watchpoint> result;
  for (const Points::Watched& entry : state_->points.watched()) result.push_back(entry.point);
  return result;
}

Stop Debugger::run(const RunOptions& options, std::optional<unsigned> vcpu) { return state_->run(options, vcpu); }

Stop Debugger::step(std::optional<unsigned> vcpu, const RunOptions& options) {
  const std::shared_ptr<Vcpu> stepped = state_->find(vcpu);
  const DebugPlace place = debug_place(*stepped);
  if (!state_->abilities()[place].single_step) state_->refuse("a single step", place);
  return state_->step(*stepped, options, true);
}

Stop Debugger::run_to(std::uint64_t vaddr, const RunOptions& options, std::optional<unsigned> vcpu) {
  const unsigned id = break_at(vaddr, BreakpointKind::automatic, vcpu).id;
  struct Temporary {
    Debugger& debugger;
    unsigned id;
    ~Temporary() { debugger.remove(id); }
  } const temporary{*this, id};
  for (const auto& each : state_->vm->vcpus()) {
    if (!vcpu || each->id() == *vcpu) state_->pass(*each);
  }
  Stop stop = run(options, vcpu);
  if (stop.id == id) stop.id.reset();
  return stop;
}

Stop Debugger::run_until(const std::function<bool(Vcpu&)>& reached, std::uint64_t limit, std::optional<unsigned> vcpu,
                         const RunOptions& options) {
  const std::shared_ptr<Vcpu> stepped = state_->find(vcpu);
  Stop stop;
  stop.vcpu = stepped->id();
  stop.pc = pc(stepped->id());
  for (std::uint64_t steps = 0; steps < limit; ++steps) {
    stop = step(stepped->id(), options);
    if (stop.reason != StopReason::step || reached(*stepped)) return stop;
  }
  stop.reason = StopReason::timeout;
  stop.exit = Timeout{};
  return stop;
}

void Debugger::interrupt() noexcept { state_->interrupt(); }

void Debugger::forget_interrupt() noexcept {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->interrupted = false;
}

void Debugger::read(std::uint64_t vaddr, void* destination, std::size_t size, std::optional<unsigned> vcpu) {
  const VirtualMemory memory(*state_->vm, *state_->find(vcpu));
  auto* to = static_cast<std::byte*>(destination);
  for (std::size_t done = 0; done < size;) {
    const VirtualMemory::Place place = memory.find(vaddr + done);
    const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(place.page_left, size - done));
    memory.memory()->read(place.paddr, to + done, part);
    state_->patches.hide(place.paddr, to + done, part);
    done += part;
  }
}

void Debugger::write(std::uint64_t vaddr, const void* source, std::size_t size, std::optional<unsigned> vcpu) {
  const VirtualMemory memory(*state_->vm, *state_->find(vcpu));
  const auto* from = static_cast<const std::byte*>(source);
  for (std::size_t done = 0; done < size;) {
    const VirtualMemory::Place place = memory.find(vaddr + done);
    const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(place.page_left, size - done));
    memory.memory()->write(place.paddr, from + done, part);
    state_->patches.written(place.paddr, part);
    done += part;
  }
}

std::uint64_t Debugger::pc(std::optional<unsigned> vcpu) {
  const std::shared_ptr<Vcpu> which = state_->find(vcpu);
  auto x86 = which->x86();
  return linear_pc(x86->regs(), x86->sregs());
}

void Debugger::detach() {
  clear();
  if (state_->vm->closed()) return;
  for (const auto& vcpu : state_->vm->vcpus()) switch_off(*vcpu);
}

}  // namespace vm::accel
