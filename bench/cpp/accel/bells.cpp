// What a guest's write to a port costs: as an exit that Vcpu::run hands out (the peer), as an event that the hypervisor
// rings (ioeventfd), and as a write that waits in a ring. An item is a write. And what raising an interrupt costs.

#include <benchmark/benchmark.h>

#include <memory>
#include <variant>
#include <vector>

#include "vm/accel/backends/backends.hpp"
#include "vm/accel/hypervisor/interrupts.hpp"
#include "vm/accel/hypervisor/io_events.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

namespace {

using namespace vm::accel;

constexpr std::uint16_t bell = 0x50;
constexpr std::uint16_t done = 0x51;
constexpr int writes = 100;  // to `bell` before each one to `done`

/// Nothing and a message where KVM does not work.
std::shared_ptr<Vm> create_vm(benchmark::State& state) {
  try {
    return create_hypervisor("kvm")->create_vm();
  } catch (const vm::VmError& error) {
    state.SkipWithError(error.what());
    return nullptr;
  }
}

std::shared_ptr<Vcpu> ringing_vcpu(Vm& vm) {
  // start: mov cx, 100; again: out 0x50, al; loop again; out 0x51, al; jmp start
  const std::vector<std::uint8_t> code = {0xB9, writes, 0, 0xE6, bell, 0xE2, 0xFC, 0xE6, done, 0xEB, 0xF5};
  const auto memory = vm::mem::GuestMemory::anonymous(1 << 16, 0, vm::mem::HugePages::none);
  memory->write(0x1000, code.data(), code.size());
  vm.map(*memory);
  auto vcpu = vm.create_vcpu();
  X86SpecialRegs sregs = vcpu->x86()->sregs();
  sregs.cs.base = 0;
  sregs.cs.selector = 0;
  vcpu->x86()->set_sregs(sregs);
  X86Regs regs;
  regs.rip = 0x1000;
  vcpu->x86()->set_regs(regs);
  return vcpu;
}

void run_until_done(Vcpu& vcpu) {
  while (std::get<IoOut>(vcpu.run()).port != done) {
  }
}

void ring(benchmark::State& state, void (*prepare)(IoEvents&, const std::shared_ptr<EventFd>&)) {
  const auto vm = create_vm(state);
  if (!vm) return;
  const auto event = std::make_shared<EventFd>();
  const auto io = vm->io_events();
  prepare(*io, event);
  const auto vcpu = ringing_vcpu(*vm);
  for (auto _ : state) {
    run_until_done(*vcpu);
    benchmark::DoNotOptimize(io->collect());
  }
  state.SetItemsProcessed(state.iterations() * writes);
}

void as_exit(IoEvents& /*io*/, const std::shared_ptr<EventFd>& /*event*/) {}
void as_event(IoEvents& io, const std::shared_ptr<EventFd>& event) { io.attach({IoSpace::port, bell, 1, {}}, event); }
void as_waiting_write(IoEvents& io, const std::shared_ptr<EventFd>& /*event*/) {
  io.coalesce({IoSpace::port, bell, 1});
}

BENCHMARK_CAPTURE(ring, exit, &as_exit);
BENCHMARK_CAPTURE(ring, event, &as_event);
BENCHMARK_CAPTURE(ring, waiting_write, &as_waiting_write);

/// Nobody is there to take it: what the call itself costs, beside a write of an event that does the same.
void raise_a_line(benchmark::State& state) {
  const auto vm = create_vm(state);
  if (!vm) return;
  const auto interrupts = vm->interrupts();
  interrupts->create_irqchip();
  for (auto _ : state) {
    interrupts->set_line(5, true);
    interrupts->set_line(5, false);
  }
}

void raise_by_event(benchmark::State& state) {
  const auto vm = create_vm(state);
  if (!vm) return;
  const auto interrupts = vm->interrupts();
  interrupts->create_irqchip();
  const auto event = std::make_shared<EventFd>();
  interrupts->attach_irqfd(event, 5);
  for (auto _ : state) event->write();
}

BENCHMARK(raise_a_line);
BENCHMARK(raise_by_event);

}  // namespace
