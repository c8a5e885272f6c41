#pragma once
/// \file
/// `Vcpu`: one processor of a virtual machine.

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "vm/accel/exits/exit.hpp"
#include "vm/accel/hypervisor/backend.hpp"
#include "vm/accel/hypervisor/parked_vcpus.hpp"
#include "vm/accel/hypervisor/saved_state.hpp"
#include "vm/accel/hypervisor/watchdog.hpp"

namespace vm::accel {

/// Asked when a run came back because of a signal that is not a kick; may throw to end the run.
class SignalCheck {
 public:
  virtual ~SignalCheck() = default;
  virtual void check() = 0;
  /// How often it is asked without a signal too: a signal that arrives just before the guest is entered would
  /// otherwise be noticed only at the next exit.
  virtual std::chrono::nanoseconds interval() const noexcept = 0;
};

struct RunOptions {
  std::optional<std::chrono::nanoseconds> timeout;  ///< absent: as long as it takes
  SignalCheck* signals = nullptr;
};

/// A vCPU belongs to a thread, the one that created it until another calls `attach`: KVM wants that, HVF enforces it.
/// Only that thread may call anything but `id`, `kick`, `attach`, `park`, `close`, `closed`, `owner_tid`, `measure` and
/// the counts, which any thread may. Calls from a wrong thread throw AccessViolation and change nothing.
class Vcpu {
 public:
  /// For Vm. `watchdog` and `vm` live as long as this object; `parked` is where `park` leaves the backend.
  Vcpu(unsigned id, std::unique_ptr<VcpuBackend> backend, std::shared_ptr<VmBackend> vm,
       std::shared_ptr<Watchdog> watchdog, std::shared_ptr<ParkedVcpus> parked);
  Vcpu(const Vcpu&) = delete;
  Vcpu& operator=(const Vcpu&) = delete;
  ~Vcpu();

  unsigned id() const noexcept { return id_; }

  class Use;

  /// Runs the guest until it needs something, somebody kicks, or the time is over. The result is valid until the next
  /// call and until `close`. Throws InvalidConfig when the last exit asked a question that nobody answered,
  /// PlatformError, ClosedError (also when it was closed meanwhile), AccessViolation, and what `signals` throws; then
  /// the guest can go on later.
  const Exit& run(const RunOptions& options = {});
  /// The same for a caller who holds the right to use this vCPU: while he does, a `close` does not take the result
  /// away.
  const Exit& run(const Use& held, const RunOptions& options);
  /// The last exit; Interrupted before the first run.
  const Exit& last_exit() const;
  /// How many exits there have been: the number of the last one.
  std::uint64_t exits() const noexcept { return exits_; }

  /// Answers the last exit with `size` bytes. Throws InvalidConfig when it asked no question, was answered already, or
  /// wants another number of bytes.
  void reply(const void* data, std::size_t size);
  /// The guest's access to a model-specific register fails with #GP. Throws InvalidConfig for any other exit.
  void refuse();
  /// See VcpuBackend::complete. Throws InvalidConfig when the last exit has to be answered first.
  void complete();

  /// Makes the run in progress, or the next one, come back as Interrupted: every kick is seen, and none is seen again
  /// after that. Any thread; from a signal handler too.
  void kick() noexcept;
  /// Takes back a kick that no run has seen; false when there was none. For the owner, between two runs.
  bool take_kick() noexcept { return kicked_.exchange(false, std::memory_order_acquire); }

  /// The calling thread owns the vCPU from now on. Throws InvalidConfig while another thread is inside a call,
  /// NotSupported.
  void attach();

  /// Releases the vCPU; one that is running comes back with ClosedError first. Twice is fine.
  void close() noexcept;
  /// Has the hypervisor enter [paddr, paddr + size) in its page tables for this vCPU, so that the guest's first touches
  /// cost no fault; what has no memory yet gets it. Throws InvalidConfig for parts of pages, NotSupported naming
  /// KVM_CAP_PRE_FAULT_MEMORY (Linux 6.11, and a processor whose second paging level KVM uses), PlatformError where
  /// there is no slot; then some of it may be entered.
  void pre_fault(std::uint64_t paddr, std::uint64_t size);

  /// Takes the processor out of the machine: closes this object as `close` does, but keeps what the hypervisor has of
  /// the vCPU, so that Vm::create_vcpu can hand out its number again. (KVM gives a number once: a vCPU lives as long as
  /// its VM.) Any thread; nothing happens when it is closed already.
  void park() noexcept;
  bool closed() const noexcept { return (use_.load(std::memory_order_acquire) & (closing | gone)) != 0; }

  /// How often `run` returned for each reason, in the order of `Exit`.
  std::array<std::uint64_t, exit_reasons> exit_counts() const noexcept;
  /// Nanoseconds in `run`, counted from the moment that `measure(true)` was called.
  std::uint64_t run_ns() const noexcept { return run_ns_.load(std::memory_order_relaxed); }
  /// Nanoseconds between a return of `run` and the next call, where both were measured: what the user does with exits.
  std::uint64_t handler_ns() const noexcept { return handler_ns_.load(std::memory_order_relaxed); }
  /// Reading the clock twice costs about as much as everything else in `run`.
  void measure(bool on) noexcept { measured_.store(on, std::memory_order_relaxed); }
  bool measured() const noexcept { return measured_.load(std::memory_order_relaxed); }

  /// The kernel's number of the thread that the vCPU belongs to (gettid); 0 where threads have none.
  int owner_tid() const noexcept { return owner_tid_.load(std::memory_order_relaxed); }

  /// A facet of the backend and the right to use it; let go of it at the end of the expression.
  template <class Facet>
  class Held;

  /// Completes the last exit and saves everything that the guest can change of this vCPU. Throws InvalidConfig when the
  /// last exit has to be answered first, NotSupported.
  std::shared_ptr<const SavedState> save_state();
  /// See VcpuSaver::prepare; before the first `restore_state` of each state. Throws InvalidConfig, NotSupported.
  void prepare_state(const std::shared_ptr<const SavedState>& state);
  /// Puts back the state that was last prepared. An exit that waited for its answer is forgotten; `last_exit` is
  /// Interrupted.
  void restore_state();

  /// Registers and the like of an x86 vCPU: `vcpu.x86()->regs()`. Throws NotSupported on another architecture.
  Held<X86State> x86();
  /// Interrupts by hand. Throws NotSupported where the hypervisor has none.
  Held<VcpuInterrupts> interrupts();
  /// What vCPUs of all architectures have. Throws NotSupported where the backend does not offer it.
  Held<VcpuState> state();
  /// Throws NotSupported where the backend has nothing to ask for.
  Held<Capabilities> capabilities();
  /// Throws NotSupported where the backend keeps none.
  Held<KernelStatistics> kernel_statistics();
  /// Single steps and breakpoints. Throws NotSupported where the backend has none.
  Held<GuestDebug> guest_debug();

 private:
  static constexpr std::uint32_t busy = 1;
  static constexpr std::uint32_t closing = 2;
  static constexpr std::uint32_t gone = 4;

  void enter_until_exit(const RunOptions& options);
  void interrupt_with(const Exit& exit);
  void watch_until(Clock::time_point deadline);
  void require_answered(const char* what) const;
  void nudge() noexcept;
  void release() noexcept;
  VcpuSaver& saver();

  const unsigned id_;
  const std::shared_ptr<VmBackend> vm_;
  const std::shared_ptr<Watchdog> watchdog_;
  const std::shared_ptr<ParkedVcpus> parked_;
  std::unique_ptr<VcpuBackend> backend_;  // goes before vm_
  Watchdog::Entry entry_;
  bool watched_ = false;
  std::atomic<std::thread::id> owner_;
  std::atomic<int> owner_tid_;
  std::atomic<std::uint32_t> use_{0};
  std::atomic<bool> parking_{false};
  std::atomic<std::thread::id> holder_{};  // who made use_ busy
  unsigned uses_ = 0;                      // how often he holds the right
  bool running_ = false;                   // the owner is in run
  std::atomic<std::uint32_t> nudging_{0};  // threads that are about to use backend_ without owning the vCPU
  std::atomic<bool> kicked_{false};
  Exit exit_{Interrupted{}};
  std::uint64_t exits_ = 0;
  bool answered_ = true;
  std::atomic<bool> measured_{false};
  std::atomic<std::uint64_t> run_ns_{0};
  std::atomic<std::uint64_t> handler_ns_{0};
  Clock::time_point left_{};  // when a measured run returned; the epoch: the last one was not measured
  std::array<std::atomic<std::uint64_t>, exit_reasons> counts_{};
};

/// The right to call into the backend: checks the thread, keeps others out, and puts off a `close`. The owner may hold
/// it several times. Throws what `Vcpu` says of wrong threads, ClosedError.
class Vcpu::Use {
 public:
  explicit Use(Vcpu& vcpu);
  Use(Use&& other) noexcept : vcpu_(std::exchange(other.vcpu_, nullptr)) {}
  Use& operator=(Use&&) = delete;
  ~Use();

 private:
  friend class Vcpu;
  struct Taken {};
  Use(Vcpu& vcpu, Taken) noexcept : vcpu_(&vcpu) { hold(); }
  void hold() noexcept;

  Vcpu* vcpu_;
};

template <class Facet>
class Vcpu::Held {
 public:
  Held(Use use, Facet& facet) noexcept : use_(std::move(use)), facet_(facet) {}
  Facet* operator->() const noexcept { return &facet_; }

 private:
  Use use_;
  Facet& facet_;
};

}  // namespace vm::accel
