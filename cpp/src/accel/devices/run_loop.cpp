#include "vm/accel/devices/run_loop.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "accel/hypervisor/thread_signals.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

/// Answers the exits of one vCPU from the bus.
class Answers {
 public:
  Answers(Vcpu& vcpu, const DeviceBus& bus, bool stop_at_unclaimed)
      : vcpu_(vcpu), cursor_(bus), strict_(stop_at_unclaimed) {}

  /// False: the exit is for the caller. The parts below take copies: a device may run the vCPU itself, and then `exit`
  /// is another one.
  bool answer(const Exit& exit) {
    if (const auto* out = std::get_if<IoOut>(&exit)) return write_port(*out);
    if (const auto* in = std::get_if<IoIn>(&exit)) return read_port(*in);
    if (const auto* write = std::get_if<MmioWrite>(&exit)) return write_memory(*write);
    if (const auto* read = std::get_if<MmioRead>(&exit)) return read_memory(*read);
    return false;
  }

 private:
  bool for_caller(BusSpace space, std::uint64_t address, unsigned width) {
    return strict_ && !cursor_.claims(space, address, width);
  }

  bool write_port(IoOut out) {
    if (for_caller(BusSpace::port, out.port, out.size)) return false;
    const std::byte* from = out.data;
    for (std::uint32_t i = 0; i < out.count; ++i, from += out.size)
      cursor_.write(BusSpace::port, out.port, out.size, from);
    return true;
  }

  bool read_port(IoIn in) {
    if (for_caller(BusSpace::port, in.port, in.size)) return false;
    bytes_.resize(std::size_t{in.size} * in.count);
    std::byte* to = bytes_.data();
    for (std::uint32_t i = 0; i < in.count; ++i, to += in.size) cursor_.read(BusSpace::port, in.port, in.size, to);
    vcpu_.reply(bytes_.data(), bytes_.size());
    return true;
  }

  bool write_memory(MmioWrite write) {
    if (for_caller(BusSpace::memory, write.paddr, write.size)) return false;
    cursor_.write(BusSpace::memory, write.paddr, write.size, write.data.data());
    return true;
  }

  bool read_memory(MmioRead read) {
    if (for_caller(BusSpace::memory, read.paddr, read.size)) return false;
    std::array<std::byte, 8> data{};
    cursor_.read(BusSpace::memory, read.paddr, read.size, data.data());
    vcpu_.reply(data.data(), read.size);
    return true;
  }

  Vcpu& vcpu_;
  DeviceBus::Cursor cursor_;
  const bool strict_;
  std::vector<std::byte> bytes_;  // of a string instruction
};

std::optional<Clock::time_point> deadline_of(const LoopOptions& options) {
  if (!options.timeout) return std::nullopt;
  const Clock::time_point now = Clock::now();
  const Clock::time_point never = Clock::time_point::max();
  return *options.timeout < never - now ? now + *options.timeout : never;
}

/// How the vCPU came back last, with bytes of its own: a `close` unmaps those that IoOut points at as soon as nobody
/// holds the right to use the vCPU.
LoopResult ending_of(const Vcpu& vcpu) {
  LoopResult result{std::nullopt, vcpu.id(), vcpu.last_exit(), vcpu.exits(), nullptr};
  if (auto* out = std::get_if<IoOut>(&result.exit)) {
    result.data =
        std::make_shared<const std::vector<std::byte>>(out->data, out->data + std::size_t{out->size} * out->count);
    out->data = result.data->data();
  }
  return result;
}

/// Runs until something is not for the bus, or `stop` is there. The caller holds the right to use the vCPU: a device,
/// or another thread, may close it while its exit is answered.
void loop(Vcpu& vcpu, const DeviceBus& bus, const StopRequest& stop, const LoopOptions& options,
          std::optional<Clock::time_point> deadline) {
  // Exits that come one after the other leave no gap in which Vcpu::run would ask about signals.
  constexpr unsigned exits_between_checks = 1024;
  Answers answers(vcpu, bus, options.stop_at_unclaimed);
  RunOptions run{std::nullopt, options.signals};
  for (unsigned exits = 1; !stop.requested(); ++exits) {
    if (deadline) run.timeout = std::max<Clock::duration>(*deadline - Clock::now(), Clock::duration::zero());
    if (!answers.answer(vcpu.run(run))) return;
    if (options.signals != nullptr && exits % exits_between_checks == 0) options.signals->check();
  }
}

/// vCPUs that run together: the first that ends calls the others back.
class Group {
 public:
  explicit Group(const std::vector<std::shared_ptr<Vcpu>>& vcpus)
      : vcpus_(vcpus), running_(vcpus.size(), true), called_(vcpus.size(), false) {}

  /// Makes every vCPU that still runs come back.
  void call_back() {
    const std::lock_guard<std::mutex> lock(mutex_);
    over_ = true;
    for (std::size_t i = 0; i < vcpus_.size(); ++i) {
      if (!running_[i] || called_[i]) continue;
      vcpus_[i]->kick();
      called_[i] = true;
    }
  }

  bool over() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return over_;
  }

  /// On the vCPU's thread, as the last thing.
  void left(std::size_t index, LoopResult result, std::exception_ptr error) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!first_) first_ = std::move(result);
      // What was thrown because another vCPU had ended already is a consequence.
      if (error && !error_) error_ = std::move(error);
      running_[index] = false;
      if (called_[index]) vcpus_[index]->take_kick();  // the loop is over: the next run shall not end at once
    }
    call_back();
  }

  /// How the first of them ended; throws what the first of them threw. After all have left.
  LoopResult result() {
    if (error_) std::rethrow_exception(error_);
    return std::move(*first_);
  }

 private:
  const std::vector<std::shared_ptr<Vcpu>>& vcpus_;
  std::mutex mutex_;
  std::vector<bool> running_;        // guarded by mutex_
  std::vector<bool> called_;         // guarded by mutex_
  bool over_ = false;                // guarded by mutex_
  std::optional<LoopResult> first_;  // guarded by mutex_ until all have left
  std::exception_ptr error_;         // guarded by mutex_ until all have left
};

LoopResult run_group(const std::vector<std::shared_ptr<Vcpu>>& vcpus, const DeviceBus& bus, StopRequest& stop,
                     const LoopOptions& options) {
  const auto deadline = deadline_of(options);
  Group group(vcpus);
  const auto run_one = [&](std::size_t index, const LoopOptions& own) {
    LoopResult result;
    std::exception_ptr error;
    try {
      Vcpu& vcpu = *vcpus[index];
      vcpu.attach();
      const Vcpu::Use held(vcpu);
      if (!group.over()) loop(vcpu, bus, stop, own, deadline);
      result = ending_of(vcpu);
    } catch (...) {
      error = std::current_exception();
    }
    group.left(index, std::move(result), std::move(error));
  };
  LoopOptions quiet = options;
  quiet.signals = nullptr;
  std::vector<std::thread> threads;
  {
    const StopRequest::Subscription subscription(stop, [&group] { group.call_back(); });
    std::exception_ptr failure;
    try {
      const BlockAllSignals inherited;  // the process's signals are for its own threads
      for (std::size_t i = 1; i < vcpus.size(); ++i) threads.emplace_back(run_one, i, quiet);
    } catch (const std::system_error& error) {
      failure = std::make_exception_ptr(
          PlatformError(std::string("a vCPU needs a thread of its own: ") + error.what(), error.code().value()));
      group.call_back();
    }
    run_one(0, options);
    for (std::thread& thread : threads) thread.join();
    if (failure) std::rethrow_exception(failure);
  }
  for (const auto& vcpu : vcpus)
    if (!vcpu->closed()) vcpu->attach();
  LoopResult result = group.result();
  result.stop = stop.reason();
  return result;
}

}  // namespace

LoopResult run_vcpu(Vcpu& vcpu, const DeviceBus& bus, StopRequest& stop, const LoopOptions& options) {
  const Vcpu::Use held(vcpu);
  struct Call {
    Vcpu& vcpu;
    std::atomic<bool> made{false};
    ~Call() {
      if (made.load()) vcpu.take_kick();  // the loop is over: the next run shall not end at once
    }
  } call{vcpu};
  const StopRequest::Subscription subscription(stop, [&call] {
    call.made = true;
    call.vcpu.kick();
  });
  loop(vcpu, bus, stop, options, deadline_of(options));
  LoopResult result = ending_of(vcpu);
  result.stop = stop.reason();
  return result;
}

LoopResult run_vm(Vm& vm, const DeviceBus& bus, StopRequest& stop, const LoopOptions& options) {
  const auto vcpus = vm.vcpus();
  if (vcpus.empty()) throw InvalidConfig("this VM has no vCPU to run; create_vcpu() makes one");
  return run_group(vcpus, bus, stop, options);
}

}  // namespace vm::accel
