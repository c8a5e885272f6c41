#include "vm/accel/devices/run_loop.hpp"

#include <algorithm>
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

  /// False: the exit is for the caller.
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

  bool write_port(const IoOut& out) {
    if (for_caller(BusSpace::port, out.port, out.size)) return false;
    const std::byte* from = out.data;
    for (std::uint32_t i = 0; i < out.count; ++i, from += out.size)
      cursor_.write(BusSpace::port, out.port, out.size, from);
    return true;
  }

  bool read_port(const IoIn& in) {
    if (for_caller(BusSpace::port, in.port, in.size)) return false;
    bytes_.resize(std::size_t{in.size} * in.count);
    std::byte* to = bytes_.data();
    for (std::uint32_t i = 0; i < in.count; ++i, to += in.size) cursor_.read(BusSpace::port, in.port, in.size, to);
    vcpu_.reply(bytes_.data(), bytes_.size());
    return true;
  }

  bool write_memory(const MmioWrite& write) {
    if (for_caller(BusSpace::memory, write.paddr, write.size)) return false;
    cursor_.write(BusSpace::memory, write.paddr, write.size, write.data.data());
    return true;
  }

  bool read_memory(const MmioRead& read) {
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

/// Runs until something is not for the bus, or `stop` is there.
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
  void left(std::size_t index, std::exception_ptr error) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!first_) first_ = index;
      // What was thrown because another vCPU had ended already is a consequence.
      if (error && !error_) error_ = std::move(error);
      running_[index] = false;
      if (called_[index]) vcpus_[index]->take_kick();  // the loop is over: the next run shall not end at once
    }
    call_back();
  }

  std::size_t first() const { return first_.value_or(0); }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const std::vector<std::shared_ptr<Vcpu>>& vcpus_;
  std::mutex mutex_;
  std::vector<bool> running_;         // guarded by mutex_
  std::vector<bool> called_;          // guarded by mutex_
  bool over_ = false;                 // guarded by mutex_
  std::optional<std::size_t> first_;  // guarded by mutex_ until all have left
  std::exception_ptr error_;          // guarded by mutex_ until all have left
};

LoopResult run_group(const std::vector<std::shared_ptr<Vcpu>>& vcpus, const DeviceBus& bus, StopRequest& stop,
                     const LoopOptions& options) {
  const auto deadline = deadline_of(options);
  Group group(vcpus);
  const auto run_one = [&](std::size_t index, const LoopOptions& own) {
    std::exception_ptr error;
    try {
      vcpus[index]->attach();
      if (!group.over()) loop(*vcpus[index], bus, stop, own, deadline);
    } catch (...) {
      error = std::current_exception();
    }
    group.left(index, std::move(error));
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
  group.rethrow();
  Vcpu& first = *vcpus[group.first()];
  return {stop.reason(), first.id(), first.last_exit()};
}

}  // namespace

LoopResult run_vcpu(Vcpu& vcpu, const DeviceBus& bus, StopRequest& stop, const LoopOptions& options) {
  loop(vcpu, bus, stop, options, deadline_of(options));
  return {stop.reason(), vcpu.id(), vcpu.last_exit()};
}

LoopResult run_vm(Vm& vm, const DeviceBus& bus, StopRequest& stop, const LoopOptions& options) {
  const auto vcpus = vm.vcpus();
  if (vcpus.empty()) throw InvalidConfig("this VM has no vCPU to run; create_vcpu() makes one");
  return run_group(vcpus, bus, stop, options);
}

}  // namespace vm::accel
