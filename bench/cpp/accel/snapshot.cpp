// Going back to a snapshot beside copying everything, clones, and the life of a VM, on real KVM.

#include "vm/accel/snapshot/snapshot.hpp"

#include <benchmark/benchmark.h>
#include <dirent.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "vm/accel/backends/backends.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

namespace {

using namespace vm::accel;

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t guest_size = std::uint64_t{256} << 20;
constexpr std::uint32_t dirty_pages = 100;

/// Real mode with flat data: adds one to `ecx` pages from 1 MiB on, 4 pages apart, then tells a port, again and again.
const std::vector<std::uint8_t> code = {0x66, 0xB9, dirty_pages, 0, 0,    0,     // mov ecx, 100
                                        0x66, 0xBF, 0,           0, 0x10, 0,     // mov edi, 0x100000
                                        0x67, 0xFE, 0x07,                        // inc byte [edi]
                                        0x66, 0x81, 0xC7,        0, 0x40, 0, 0,  // add edi, 0x4000
                                        0x66, 0x49,                              // dec ecx
                                        0x75, 0xF2,                              // jnz inc
                                        0xEE, 0xEB, 0xE3};                       // out; jmp start

/// A guest with every page in use.
struct Guest {
  explicit Guest(std::uint64_t size = guest_size, DirtyMethod method = DirtyMethod::bitmap)
      : hypervisor(create_hypervisor("kvm")),
        vm(hypervisor->create_vm()),
        memory(vm::mem::GuestMemory::anonymous(size)) {
    if (method == DirtyMethod::ring) vm->dirty_log()->use_ring(4096);
    std::byte* bytes = memory->view(0, size).host;
    for (std::uint64_t at = 0; at < size; at += page)
      std::memset(bytes + at, static_cast<int>(at / page % 255) + 1, page);
    memory->write(0x1000, code.data(), code.size());
    vm->map(*memory);
    vcpu = vm->create_vcpu();
    X86SpecialRegs sregs = vcpu->x86()->sregs();
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    sregs.ds.limit = 0xFFFF'FFFF;
    sregs.ds.granularity = true;
    vcpu->x86()->set_sregs(sregs);
    X86Regs regs;
    regs.rip = 0x1000;
    vcpu->x86()->set_regs(regs);
  }

  std::shared_ptr<Hypervisor> hypervisor;
  std::shared_ptr<Vm> vm;
  std::shared_ptr<vm::mem::GuestMemory> memory;
  std::shared_ptr<Vcpu> vcpu;
};

bool has_kvm(benchmark::State& state) {
  for (const BackendInfo& backend : available_backends()) {
    if (backend.name == "kvm" && backend.works) return true;
  }
  state.SkipWithError("KVM does not work here");
  return false;
}

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
}

/// Restore of 100 dirty pages. In the same loop, now and then: copying all memory, the peer.
void restore_dirty_pages(benchmark::State& state, DirtyMethod method) {
  if (!has_kvm(state)) return;
  Guest guest(guest_size, method);
  const auto snapshot = Snapshot::take(*guest.vm);
  const MemoryImage& image = *snapshot->parts().memory;
  std::byte* host = guest.memory->view(0, guest_size).host;
  std::uint64_t restores_ns = 0;
  std::uint64_t copies_ns = 0;
  std::uint64_t copies = 0;
  std::uint64_t rounds = 0;
  for (auto _ : state) {
    guest.vcpu->run();
    const std::uint64_t start = now_ns();
    const RestoreResult result = snapshot->restore(*guest.vm);
    const std::uint64_t spent = now_ns() - start;
    if (result.pages != dirty_pages) return state.SkipWithError("another number of pages than was written");
    restores_ns += spent;
    state.SetIterationTime(static_cast<double>(spent) * 1e-9);
    if (rounds++ % 256 == 0) {
      const std::uint64_t before = now_ns();
      std::memcpy(host, image.page(0), guest_size);
      copies_ns += now_ns() - before;
      ++copies;
    }
  }
  const double restore = static_cast<double>(restores_ns) / static_cast<double>(rounds);
  const double copy = static_cast<double>(copies_ns) / static_cast<double>(copies);
  state.counters["restore_us"] = restore / 1e3;
  state.counters["copy_all_us"] = copy / 1e3;
  state.counters["ratio"] = copy / restore;
}

void BM_Restore100PagesBitmap(benchmark::State& state) { restore_dirty_pages(state, DirtyMethod::bitmap); }
BENCHMARK(BM_Restore100PagesBitmap)->UseManualTime()->Unit(benchmark::kMicrosecond);

void BM_Restore100PagesRing(benchmark::State& state) { restore_dirty_pages(state, DirtyMethod::ring); }
BENCHMARK(BM_Restore100PagesRing)->UseManualTime()->Unit(benchmark::kMicrosecond);

/// Nothing but the state of one vCPU and the VM's clock.
void BM_RestoreVcpuState(benchmark::State& state) {
  if (!has_kvm(state)) return;
  Guest guest;
  guest.vcpu->run();
  const auto snapshot = Snapshot::take(*guest.vm);
  for (auto _ : state) benchmark::DoNotOptimize(snapshot->restore(*guest.vm));
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK(BM_RestoreVcpuState)->Unit(benchmark::kMicrosecond);

/// snapshot -> mutate -> run -> restore, with 100 pages written by the guest at ring 0.
void BM_FuzzLoop(benchmark::State& state) {
  if (!has_kvm(state)) return;
  Guest guest;
  const auto snapshot = Snapshot::take(*guest.vm);
  std::uint64_t input = 0;
  for (auto _ : state) {
    guest.vm->write(0x8000, &++input, sizeof input);
    guest.vcpu->run();
    snapshot->restore(*guest.vm);
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK(BM_FuzzLoop)->Unit(benchmark::kMicrosecond);

/// The sum of a line of /proc/self/smaps_rollup in KiB: "Pss", "Rss".
double rollup_kib(const std::string& name) {
  std::ifstream file("/proc/self/smaps_rollup");
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, name.size() + 1, name + ":") == 0) return std::stod(line.substr(name.size() + 1));
  }
  return 0;
}

double available_kib() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, 13, "MemAvailable:") == 0) return std::stod(line.substr(13));
  }
  return 0;
}

/// A clone of the 256 MiB guest, restored and ready to run; memory that 64 of them take, after each has run.
void BM_Clone(benchmark::State& state) {
  if (!has_kvm(state)) return;
  Guest guest;
  const auto snapshot = Snapshot::take(*guest.vm, false);
  for (auto _ : state) {
    const auto clone = snapshot->clone(*guest.hypervisor);
    benchmark::DoNotOptimize(clone.get());
    clone->close();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()));
  constexpr int many = 64;
  std::vector<std::shared_ptr<Vm>> clones;
  const double free_before = available_kib();
  const double pss_before = rollup_kib("Pss");
  for (int i = 0; i < many; ++i) clones.push_back(snapshot->clone(*guest.hypervisor));
  state.counters["idle_pss_kib"] = (rollup_kib("Pss") - pss_before) / many;
  state.counters["idle_with_kernel_kib"] = (free_before - available_kib()) / many;
  for (const auto& clone : clones) clone->vcpus()[0]->run();
  state.counters["ran_pss_kib"] = (rollup_kib("Pss") - pss_before) / many;
  state.counters["ran_with_kernel_kib"] = (free_before - available_kib()) / many;
}
BENCHMARK(BM_Clone)->Unit(benchmark::kMicrosecond);

/// From nothing to the first exit of a guest with 1 MiB.
void BM_CreateToFirstExit(benchmark::State& state) {
  if (!has_kvm(state)) return;
  const auto hypervisor = create_hypervisor("kvm");
  const auto memory = vm::mem::GuestMemory::anonymous(1 << 20);
  const std::uint8_t halt = 0xF4;
  memory->write(0xFFFF0, &halt, 1);  // where a processor begins: 0xFFFFFFF0, shown at the end of the first MiB
  for (auto _ : state) {
    const auto vm = hypervisor->create_vm();
    vm->map(*memory, {}, 0xFFF0'0000);
    const auto vcpu = vm->create_vcpu();
    if (!std::holds_alternative<Hlt>(vcpu->run())) return state.SkipWithError("no Hlt");
    vm->close();
  }
}
BENCHMARK(BM_CreateToFirstExit)->Unit(benchmark::kMicrosecond);

double open_descriptors() {
  int count = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return count;
}

/// 10,000 VMs with memory and a vCPU, one after another: what is left of them.
void BM_TenThousandVms(benchmark::State& state) {
  if (!has_kvm(state)) return;
  const auto hypervisor = create_hypervisor("kvm");
  const auto memory = vm::mem::GuestMemory::anonymous(1 << 20);
  const auto cycle = [&] {
    const auto vm = hypervisor->create_vm();
    vm->map(*memory);
    const auto vcpu = vm->create_vcpu();
    vm->close();
  };
  for (int i = 0; i < 100; ++i) cycle();
  for (auto _ : state) {
    state.counters["fds_before"] = open_descriptors();
    state.counters["rss_before_kib"] = rollup_kib("Rss");
    for (int i = 0; i < 10'000; ++i) cycle();
    state.counters["fds_after"] = open_descriptors();
    state.counters["rss_after_kib"] = rollup_kib("Rss");
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * 10'000);
}
BENCHMARK(BM_TenThousandVms)->Iterations(1)->Repetitions(1)->Unit(benchmark::kSecond);

}  // namespace
