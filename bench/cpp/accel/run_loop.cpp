// What a device costs: an exit answered by a run loop through the bus, beside Vcpu::run with a switch written by hand
// for the one device that there is. The scripted hypervisor plays the exits, so nothing else is left.

#include "vm/accel/devices/run_loop.hpp"

#include <benchmark/benchmark.h>

#include <memory>
#include <utility>
#include <variant>

#include "vm/accel/scripted/hypervisor.hpp"

namespace {

using namespace vm::accel;

constexpr std::uint16_t port = 0x3F8;
constexpr unsigned batch = 1000;  // exits for each turn of a benchmark's loop

/// Ends the loop after a batch of accesses.
class Counter final : public Device {
 public:
  explicit Counter(StopRequest& stop) : stop_(stop) {}
  std::uint64_t read(std::uint64_t /*offset*/, unsigned /*width*/) override {
    count();
    return 7;
  }
  void write(std::uint64_t /*offset*/, unsigned /*width*/, std::uint64_t value) override {
    sum += value;
    count();
  }

  std::uint64_t sum = 0;

 private:
  void count() {
    if (++accesses_ % batch == 0) stop_.request({});
  }

  StopRequest& stop_;
  unsigned accesses_ = 0;
};

struct Fixture {
  explicit Fixture(scripted::Play play) : hypervisor(plan(std::move(play))), vm(hypervisor.create_vm()) {
    vcpu = vm->create_vcpu();
    bus.add_ports(port, 8, counter, "measured");
    // Seven neighbours, so that a lookup has something to look through.
    for (std::uint16_t i = 1; i < 8; ++i) bus.add_ports(static_cast<std::uint16_t>(0x1000 * i), 8, counter);
  }
  static scripted::Plan plan(scripted::Play play) {
    scripted::Plan result;
    result.record = false;
    result.scripts[0] = {{std::move(play)}, 0};
    return result;
  }

  ScriptedHypervisor hypervisor;
  std::shared_ptr<Vm> vm;
  std::shared_ptr<Vcpu> vcpu;
  StopRequest stop;
  std::shared_ptr<Counter> counter = std::make_shared<Counter>(stop);
  DeviceBus bus;
};

scripted::Play out() { return {IoOut{port, 1, 1, nullptr}, {std::byte{7}}}; }
scripted::Play in() { return {IoIn{port, 1, 1}, {}}; }

void by_hand(benchmark::State& state, scripted::Play (*play)()) {
  Fixture fixture(play());
  for (auto _ : state) {
    for (unsigned i = 0; i < batch; ++i) {
      const Exit& exit = fixture.vcpu->run();
      if (const auto* write = std::get_if<IoOut>(&exit); write != nullptr && write->port == port) {
        fixture.counter->write(0, 1, std::to_integer<unsigned>(*write->data));
      } else if (const auto* read = std::get_if<IoIn>(&exit); read != nullptr && read->port == port) {
        const std::uint64_t value = fixture.counter->read(0, 1);
        fixture.vcpu->reply(&value, 1);
      }
    }
  }
  benchmark::DoNotOptimize(fixture.counter->sum);
  state.SetItemsProcessed(state.iterations() * batch);
}

void by_run_loop(benchmark::State& state, scripted::Play (*play)()) {
  Fixture fixture(play());
  for (auto _ : state) {
    fixture.stop.clear();
    run_vcpu(*fixture.vcpu, fixture.bus, fixture.stop);
  }
  benchmark::DoNotOptimize(fixture.counter->sum);
  state.SetItemsProcessed(state.iterations() * batch);
}

BENCHMARK_CAPTURE(by_hand, port_write, &out);
BENCHMARK_CAPTURE(by_run_loop, port_write, &out);
BENCHMARK_CAPTURE(by_hand, port_read, &in);
BENCHMARK_CAPTURE(by_run_loop, port_read, &in);

}  // namespace
