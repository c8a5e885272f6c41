#include "vm/accel/hypervisor/vcpu.hpp"

#include <algorithm>
#include <string>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "vm/accel/hypervisor/capabilities.hpp"
#include "vm/accel/hypervisor/kernel_statistics.hpp"
#include "vm/accel/hypervisor/vcpu_interrupts.hpp"
#include "vm/accel/hypervisor/vcpu_state.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

std::string name_of(unsigned id) { return "vCPU " + std::to_string(id); }

int this_tid() noexcept {
#if defined(__linux__)
  return static_cast<int>(::syscall(SYS_gettid));  // glibc has gettid since 2.30 only
#else
  return 0;
#endif
}

/// Only the vCPU's owner adds, so it needs no read-modify-write.
void add(std::atomic<std::uint64_t>& sum, Clock::duration time) noexcept {
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
  sum.store(sum.load(std::memory_order_relaxed) + static_cast<std::uint64_t>(ns), std::memory_order_relaxed);
}

}  // namespace

Vcpu::Vcpu(unsigned id, std::unique_ptr<VcpuBackend> backend, std::shared_ptr<VmBackend> vm,
           std::shared_ptr<Watchdog> watchdog, std::shared_ptr<ParkedVcpus> parked)
    : id_(id),
      vm_(std::move(vm)),
      watchdog_(std::move(watchdog)),
      parked_(std::move(parked)),
      backend_(std::move(backend)),
      entry_(*backend_),
      owner_(std::this_thread::get_id()),
      owner_tid_(this_tid()) {
  backend_->attach();
}

Vcpu::~Vcpu() { close(); }

Vcpu::Use::Use(Vcpu& vcpu) : vcpu_(&vcpu) {
  std::uint32_t idle = 0;
  // Relaxed: the owner wrote it itself, and everybody else reads some other thread either way.
  if (vcpu.owner_.load(std::memory_order_relaxed) != std::this_thread::get_id()) {
    if (vcpu.closed()) throw ClosedError(name_of(vcpu.id_) + " is closed");
    throw AccessViolation(name_of(vcpu.id_) + " belongs to another thread; call attach() on this one to take it over");
  }
  // Acquire pairs with the release in ~Use of the thread that had the vCPU before. What is busy and belongs to this
  // thread is held further up in it, or has just been taken by another one that calls attach().
  if (!vcpu.use_.compare_exchange_strong(idle, busy, std::memory_order_acquire)) {
    if ((idle & (closing | gone)) != 0) throw ClosedError(name_of(vcpu.id_) + " is closed");
    if (vcpu.holder_.load(std::memory_order_relaxed) != std::this_thread::get_id())
      throw InvalidConfig(name_of(vcpu.id_) + " is being taken over by another thread");
  }
  hold();
}

void Vcpu::Use::hold() noexcept {
  // Relaxed here and in ~Use: a thread asks only whether it is the holder itself.
  if (vcpu_->uses_++ == 0) vcpu_->holder_.store(std::this_thread::get_id(), std::memory_order_relaxed);
}

Vcpu::Use::~Use() {
  if (vcpu_ == nullptr || --vcpu_->uses_ != 0) return;
  vcpu_->holder_.store(std::thread::id(), std::memory_order_relaxed);
  if ((vcpu_->use_.fetch_and(~busy, std::memory_order_acq_rel) & closing) != 0) vcpu_->release();
}

void Vcpu::release() noexcept {
  // Whoever turns "closing and idle" into "gone" does the work, once.
  std::uint32_t expected = closing;
  if (!use_.compare_exchange_strong(expected, gone, std::memory_order_seq_cst)) return;
  while (nudging_.load(std::memory_order_seq_cst) != 0) std::this_thread::yield();
  if (watched_) watchdog_->remove(entry_);
  if (parking_.load(std::memory_order_relaxed)) parked_->put(id_, std::move(backend_));  // written before `closing`
  backend_.reset();
}

void Vcpu::park() noexcept {
  if (closed()) return;
  parking_.store(true, std::memory_order_relaxed);  // before `closing` is set, with release
  close();
}

void Vcpu::close() noexcept {
  const std::uint32_t before = use_.fetch_or(closing, std::memory_order_acq_rel);
  if ((before & (closing | gone)) != 0) return;
  if ((before & busy) != 0) {
    nudge();
  } else {
    release();
  }
}

void Vcpu::nudge() noexcept {
  // Both seq_cst, as in release(): either it sees this thread and waits, or this thread sees that the backend is gone.
  nudging_.fetch_add(1, std::memory_order_seq_cst);
  if ((use_.load(std::memory_order_seq_cst) & gone) == 0) backend_->nudge();
  nudging_.fetch_sub(1, std::memory_order_release);
}

void Vcpu::kick() noexcept {
  kicked_.store(true, std::memory_order_seq_cst);  // before the nudge: run() looks here when it comes back
  nudge();
}

void Vcpu::attach() {
  const auto before = owner_.load(std::memory_order_relaxed);
  if (before == std::this_thread::get_id() && !closed()) return;
  std::uint32_t idle = 0;
  // Acquire pairs with the release in ~Use of the thread that had the vCPU before.
  if (!use_.compare_exchange_strong(idle, busy, std::memory_order_acquire)) {
    if ((idle & (closing | gone)) != 0) throw ClosedError(name_of(id_) + " is closed");
    throw InvalidConfig(name_of(id_) + " is inside a call on its thread; it can change its thread when it is back");
  }
  const Use use(*this, Use::Taken{});
  backend_->attach();
  owner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  owner_tid_.store(this_tid(), std::memory_order_relaxed);
}

void Vcpu::require_answered(const char* what) const {
  if (answered_) return;
  throw InvalidConfig(std::string(what) + ": the guest waits for an answer to " + exit_name(exit_) + " of " +
                      name_of(id_) + "; call reply() first (all bits set is what a bus without a device answers)");
}

const Exit& Vcpu::last_exit() const { return exit_; }

const Exit& Vcpu::run(const RunOptions& options) { return run(Use(*this), options); }

const Exit& Vcpu::run(const Use& /*held*/, const RunOptions& options) {
  require_answered("run");
  if (running_) throw InvalidConfig(name_of(id_) + " is running; what a signal calls cannot run it again");
  running_ = true;
  const struct Ending {
    bool& running;
    ~Ending() { running = false; }
  } ending{running_};
  if (measured_.load(std::memory_order_relaxed)) {
    const Clock::time_point start = Clock::now();
    if (left_ != Clock::time_point()) add(handler_ns_, start - left_);
    left_ = {};  // in case of an exception
    enter_until_exit(options);
    left_ = Clock::now();
    add(run_ns_, left_ - start);
  } else {
    left_ = {};
    enter_until_exit(options);
  }
  ++exits_;
  answered_ = reply_size(exit_) == 0;
  // No read-modify-write: only the owner writes.
  std::atomic<std::uint64_t>& count = counts_[exit_.index()];
  count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  return exit_;
}

void Vcpu::enter_until_exit(const RunOptions& options) {
  const Clock::time_point never = Clock::time_point::max();
  const bool timed = options.timeout || options.signals != nullptr;
  Clock::time_point now = timed ? Clock::now() : Clock::time_point();  // reading the clock is half of a short run
  const Clock::time_point deadline = options.timeout && *options.timeout < never - now ? now + *options.timeout : never;
  for (;;) {
    Clock::time_point look = deadline;
    if (options.signals != nullptr) look = std::min(look, now + options.signals->interval());
    if (look != never) watch_until(look);
    // Acquire: what the kicking thread wrote before is visible to the one that sees the kick.
    if (kicked_.load(std::memory_order_relaxed) && kicked_.exchange(false, std::memory_order_acquire)) {
      interrupt_with(Interrupted{});
      break;
    }
    if (backend_->enter(exit_)) break;
    if ((use_.load(std::memory_order_acquire) & closing) != 0)
      throw ClosedError(name_of(id_) + " was closed or parked while it was running");
    if (kicked_.exchange(false, std::memory_order_seq_cst)) {
      interrupt_with(Interrupted{});
      break;
    }
    if (timed) now = Clock::now();
    if (now >= deadline) {
      interrupt_with(Timeout{});
      break;
    }
    if (options.signals != nullptr) options.signals->check();
  }
  if (watched_) watchdog_->disarm(entry_);
}

void Vcpu::interrupt_with(const Exit& exit) {
  exit_ = exit;
  backend_->interrupted(exit_);
}

void Vcpu::watch_until(Clock::time_point deadline) {
  if (!watched_) {
    watchdog_->add(entry_);
    watched_ = true;
  }
  watchdog_->arm(entry_, deadline);
}

void Vcpu::reply(const void* data, std::size_t size) {
  const Use use(*this);
  const std::size_t wanted = reply_size(exit_);
  const auto what = [this] { return std::string(exit_name(exit_)) + " of " + name_of(id_); };
  if (wanted == 0) throw InvalidConfig(what() + " asks no question; only reads and calls of the guest are answered");
  if (answered_) throw InvalidConfig(what() + " was answered already");
  if (size != wanted) {
    throw InvalidConfig(what() + " wants an answer of " + std::to_string(wanted) + " bytes, got " +
                        std::to_string(size));
  }
  backend_->reply(exit_, static_cast<const std::byte*>(data));
  answered_ = true;
}

void Vcpu::refuse() {
  const Use use(*this);
  if (!std::holds_alternative<RdMsr>(exit_) && !std::holds_alternative<WrMsr>(exit_))
    throw InvalidConfig(std::string(exit_name(exit_)) + " cannot be refused; only RdMsr and WrMsr can");
  backend_->refuse(exit_);
  answered_ = true;
}

void Vcpu::complete() {
  const Use use(*this);
  require_answered("complete");
  backend_->complete();
}

void Vcpu::pre_fault(std::uint64_t paddr, std::uint64_t size) {
  const Use use(*this);
  const std::uint64_t page = vm_->page_size();
  if (paddr % page != 0 || size % page != 0)
    throw InvalidConfig("pre_fault takes whole pages, got " + hex(size) + " bytes at " + hex(paddr));
  backend_->pre_fault(paddr, size);
}

std::array<std::uint64_t, exit_reasons> Vcpu::exit_counts() const noexcept {
  std::array<std::uint64_t, exit_reasons> counts{};
  for (std::size_t i = 0; i < exit_reasons; ++i) counts[i] = counts_[i].load(std::memory_order_relaxed);
  return counts;
}

Vcpu::Held<X86State> Vcpu::x86() {
  Use use(*this);
  X86State* state = backend_->x86();
  if (state == nullptr) throw NotSupported(name_of(id_) + " has no x86 registers: it is of another architecture");
  return {std::move(use), *state};
}

Vcpu::Held<VcpuInterrupts> Vcpu::interrupts() {
  Use use(*this);
  VcpuInterrupts* facet = backend_->interrupts();
  if (facet == nullptr) throw NotSupported("this hypervisor gives no interrupts to " + name_of(id_) + " by hand");
  return {std::move(use), *facet};
}

Vcpu::Held<VcpuState> Vcpu::state() {
  Use use(*this);
  VcpuState* state = backend_->state();
  if (state == nullptr) throw NotSupported(name_of(id_) + ": this backend shows no state beside the registers");
  return {std::move(use), *state};
}

Vcpu::Held<KernelStatistics> Vcpu::kernel_statistics() {
  Use use(*this);
  KernelStatistics* statistics = backend_->kernel_statistics();
  if (statistics == nullptr) throw NotSupported("this hypervisor keeps no statistics of " + name_of(id_));
  return {std::move(use), *statistics};
}

Vcpu::Held<Capabilities> Vcpu::capabilities() {
  Use use(*this);
  Capabilities* capabilities = backend_->capabilities();
  if (capabilities == nullptr) throw NotSupported(name_of(id_) + ": this backend has no capabilities to ask for");
  return {std::move(use), *capabilities};
}

Vcpu::Held<GuestDebug> Vcpu::guest_debug() {
  Use use(*this);
  GuestDebug* debug = backend_->guest_debug();
  if (debug == nullptr) {
    throw NotSupported(name_of(id_) + " cannot be debugged: this backend has no breakpoints (KVM_CAP_SET_GUEST_DEBUG)");
  }
  return {std::move(use), *debug};
}

std::shared_ptr<const SavedState> Vcpu::save_state() {
  const Use use(*this);
  require_answered("save");
  return saver().save();
}

void Vcpu::prepare_state(const std::shared_ptr<const SavedState>& state) {
  const Use use(*this);
  saver().prepare(state);
}

void Vcpu::restore_state() {
  const Use use(*this);
  saver().restore();
  exit_ = Interrupted{};
  answered_ = true;
  ++exits_;  // objects that remember the exit before must not answer it any more
}

VcpuSaver& Vcpu::saver() {
  VcpuSaver* saver = backend_->saver();
  if (saver == nullptr) throw NotSupported("this hypervisor cannot save and restore a vCPU; use the backend \"kvm\"");
  return *saver;
}

}  // namespace vm::accel
