// What a round trip to a guest costs through Vcpu::run beside ioctl(KVM_RUN) in a bare loop, and what Vcpu::run itself
// adds, which a scripted hypervisor shows because nothing else is left.

#include <benchmark/benchmark.h>

#include <chrono>
#include <memory>
#include <utility>
#include <variant>

#include "../../peers/bare_kvm.hpp"
#include "vm/accel/backends/backends.hpp"
#include "vm/accel/hypervisor/vcpu_state.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/accel/scripted/hypervisor.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

namespace {

using namespace vm::accel;
using Maker = bare::Program (*)();

void to_user_mode(X86SpecialRegs& s) {
  s.cr0 |= 0x80000001;
  s.cr3 = bare::tables;
  s.cr4 |= 0x20;
  s.efer = 0x500;
  X86Segment data;
  data.limit = 0xFFFFFFFF;
  data.selector = 0x2B;
  data.type = 3;
  data.dpl = 3;
  data.present = data.code_or_data = data.db = data.granularity = true;
  s.ds = s.es = s.fs = s.gs = s.ss = data;
  s.cs = data;
  s.cs.selector = 0x33;
  s.cs.type = 0xB;
  s.cs.db = false;
  s.cs.long_mode = true;
}

/// The same as bare::Machine, through the library.
class Machine {
 public:
  Machine(Hypervisor& hypervisor, const bare::Program& program) : vm_(hypervisor.create_vm()) {
    const auto memory = vm::mem::GuestMemory::anonymous(bare::ram, 0, vm::mem::HugePages::none);
    memory->write(bare::entry, program.code.data(), program.code.size());
    bare::write_tables(reinterpret_cast<std::uint8_t*>(memory->view(0, bare::ram).host));
    vm_->map(*memory);
    vcpu_ = vm_->create_vcpu();
    X86SpecialRegs sregs = vcpu_->x86()->sregs();
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    if (program.ring3) to_user_mode(sregs);
    vcpu_->x86()->set_sregs(sregs);
    X86Regs regs;
    regs.rip = bare::entry;
    regs.rflags = program.ring3 ? 0x3002 : 2;
    vcpu_->x86()->set_regs(regs);
  }
  ~Machine() { vm_->close(); }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  std::uint64_t run(std::uint64_t exits, const RunOptions& options = {}) {
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < exits; ++i)
      sum += std::to_integer<unsigned>(*std::get<IoOut>(vcpu_->run(options)).data);
    return sum;
  }

  /// Reads the general registers after each exit: from the area that the vCPU shares with the kernel, or by
  /// KVM_GET_REGS when `ask` has the vCPU forget what is there.
  std::uint64_t run_and_read(std::uint64_t exits, bool ask) {
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < exits; ++i) {
      vcpu_->run();
      if (ask) vcpu_->state();
      sum += vcpu_->x86()->regs().rax;
    }
    return sum;
  }

 private:
  std::shared_ptr<Vm> vm_;
  std::shared_ptr<Vcpu> vcpu_;
};

constexpr std::uint64_t batch = 100;  // exits for each turn of a benchmark's loop

/// Nothing and a message where KVM does not work.
std::shared_ptr<Hypervisor> kvm(benchmark::State& state) {
  try {
    return create_hypervisor("kvm");
  } catch (const vm::VmError& error) {
    state.SkipWithError(error.what());
    return nullptr;
  }
}

void bare_ioctl(benchmark::State& state, Maker program) {
  if (!kvm(state)) return;
  bare::Machine machine(program());
  for (auto _ : state) benchmark::DoNotOptimize(machine.run(batch));
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(batch));
}

void vcpu_run(benchmark::State& state, Maker program) {
  const auto hypervisor = kvm(state);
  if (!hypervisor) return;
  Machine machine(*hypervisor, program());
  for (auto _ : state) benchmark::DoNotOptimize(machine.run(batch));
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(batch));
}

void vcpu_run_with_timeout(benchmark::State& state, Maker program) {
  const auto hypervisor = kvm(state);
  if (!hypervisor) return;
  Machine machine(*hypervisor, program());
  const RunOptions options{std::chrono::seconds(5), nullptr};
  for (auto _ : state) benchmark::DoNotOptimize(machine.run(batch, options));
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(batch));
}

void vcpu_run_and_regs(benchmark::State& state, bool ask) {
  const auto hypervisor = kvm(state);
  if (!hypervisor) return;
  Machine machine(*hypervisor, bare::user_port_loop());
  for (auto _ : state) benchmark::DoNotOptimize(machine.run_and_read(batch, ask));
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(batch));
}

void scripted_run(benchmark::State& state, const RunOptions& options) {
  scripted::Plan plan;
  plan.record = false;
  plan.scripts[0] = {{scripted::Play{IoOut{0x3F8, 1, 1, nullptr}, {std::byte{7}}}}, 0};
  ScriptedHypervisor hypervisor(std::move(plan));
  const auto vm = hypervisor.create_vm();
  const auto vcpu = vm->create_vcpu();
  std::uint64_t sum = 0;
  for (auto _ : state) sum += std::to_integer<unsigned>(*std::get<IoOut>(vcpu->run(options)).data);
  benchmark::DoNotOptimize(sum);
  state.SetItemsProcessed(state.iterations());
}

/// From nothing to the guest's first exit, and all of it closed again.
void bare_first_exit(benchmark::State& state) {
  if (!kvm(state)) return;
  for (auto _ : state) benchmark::DoNotOptimize(bare::Machine(bare::port_loop()).run(1));
}

void vm_first_exit(benchmark::State& state) {
  if (!kvm(state)) return;
  for (auto _ : state) {
    const auto hypervisor = create_hypervisor("kvm");
    benchmark::DoNotOptimize(Machine(*hypervisor, bare::port_loop()).run(1));
  }
}

void vm_first_exit_of_an_open_hypervisor(benchmark::State& state) {
  const auto hypervisor = kvm(state);
  if (!hypervisor) return;
  for (auto _ : state) benchmark::DoNotOptimize(Machine(*hypervisor, bare::port_loop()).run(1));
}

/// 10^8 turns of a loop of two instructions at privilege 3; an item is a turn.
void user_loop_in_guest(benchmark::State& state) {
  const auto hypervisor = kvm(state);
  if (!hypervisor) return;
  Machine machine(*hypervisor, bare::user_count());
  for (auto _ : state) benchmark::DoNotOptimize(machine.run(1));
  state.SetItemsProcessed(state.iterations() * 100'000'000);
}

void user_loop_on_host(benchmark::State& state) {
  for (auto _ : state) {
    std::uint32_t turns = 100'000'000;
    asm volatile("1: dec %0\n jnz 1b" : "+r"(turns) : : "cc");
  }
  state.SetItemsProcessed(state.iterations() * 100'000'000);
}

BENCHMARK_CAPTURE(bare_ioctl, ring0, &bare::port_loop);
BENCHMARK_CAPTURE(vcpu_run, ring0, &bare::port_loop);
BENCHMARK_CAPTURE(vcpu_run_with_timeout, ring0, &bare::port_loop);
BENCHMARK_CAPTURE(bare_ioctl, ring3, &bare::user_port_loop);
BENCHMARK_CAPTURE(vcpu_run, ring3, &bare::user_port_loop);
BENCHMARK_CAPTURE(vcpu_run_with_timeout, ring3, &bare::user_port_loop);
BENCHMARK_CAPTURE(vcpu_run_and_regs, shared_area, false);
BENCHMARK_CAPTURE(vcpu_run_and_regs, kvm_get_regs, true);
BENCHMARK_CAPTURE(scripted_run, plain, RunOptions{});
BENCHMARK_CAPTURE(scripted_run, with_timeout, RunOptions{std::chrono::seconds(5), nullptr});
BENCHMARK(bare_first_exit);
BENCHMARK(vm_first_exit);
BENCHMARK(vm_first_exit_of_an_open_hypervisor);
BENCHMARK(user_loop_in_guest);
BENCHMARK(user_loop_on_host);

}  // namespace
