#pragma once
/// \file
/// `Vm`: one virtual machine, its memory and its processors.

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "vm/accel/hypervisor/backend.hpp"
#include "vm/accel/hypervisor/dirty_log.hpp"
#include "vm/accel/hypervisor/parked_vcpus.hpp"
#include "vm/accel/hypervisor/saved_state.hpp"
#include "vm/accel/hypervisor/vcpu.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::accel {

class Balloon;

/// Any thread may call anything at once. Every method but `close` and `closed` throws ClosedError after `close`.
class Vm : public std::enable_shared_from_this<Vm> {
 public:
  /// For Hypervisor.
  Vm(std::shared_ptr<HypervisorBackend> hypervisor, std::shared_ptr<VmBackend> backend);
  Vm(const Vm&) = delete;
  Vm& operator=(const Vm&) = delete;
  /// vCPUs that somebody holds go on; they keep the machine and its memory.
  ~Vm();

  /// Shows the regions that `memory` has now to the guest, without copying: one slot each, at their own addresses or
  /// moved together so that the lowest begins at `at`. Read-only regions become
  /// read-only slots. The slots keep the host memory mapped, whatever happens to `memory`; regions that it gets later
  /// are not added. Throws InvalidConfig on an overlap and on regions that do not begin and end at page boundaries (a
  /// dump with headers), ResourceExhausted, PlatformError; then no slot was added.
  std::vector<MemorySlot> map(const mem::GuestMemory& memory, SlotFlags flags = {},
                              std::optional<std::uint64_t> at = {});
  /// Takes away the slot that begins at `base`. Throws OutOfRange.
  void unmap(std::uint64_t base);
  /// The slot that begins at `base` begins at `to` instead. Throws OutOfRange, InvalidConfig on an overlap.
  void move(std::uint64_t base, std::uint64_t to);
  /// Throws OutOfRange, InvalidConfig (a slot over read-only host memory stays read-only).
  void set_flags(std::uint64_t base, SlotFlags flags);
  /// By address.
  std::vector<MemorySlot> slots() const;
  /// The slots as guest memory, for reading and writing as the guest sees it. Shares the host memory; slots that come
  /// later are not in it.
  std::shared_ptr<mem::GuestMemory> memory() const;

  /// The calling thread owns the vCPU, and the VM keeps it until one of them is closed; others may run meanwhile. `id`
  /// absent: the lowest that no vCPU of this VM had; a number is not given twice, because KVM keeps a vCPU as long as
  /// its VM. Only the number of a parked vCPU is (see Vcpu::park): it comes back with the registers it had, after its
  /// last exit was completed; one that nobody answered is answered with what is there. Throws InvalidConfig when the
  /// number was given, PlatformError when the hypervisor refuses.
  std::shared_ptr<Vcpu> create_vcpu(std::optional<unsigned> id = {});
  /// Those that live and are not closed, by id.
  std::vector<std::shared_ptr<Vcpu>> vcpus() const;
  /// The numbers of the parked ones, ascending.
  std::vector<unsigned> parked() const;

  /// What takes memory from the guest and gives it back.
  std::shared_ptr<Balloon> balloon();

  Architecture architecture() const;
  /// "kvm", "scripted".
  std::string backend_name() const;
  /// Facets of the backend; they outlive `close`. Throw NotSupported on another architecture, and where the backend
  /// does not offer them.
  std::shared_ptr<X86VmState> x86() const;
  std::shared_ptr<Capabilities> capabilities() const;
  std::shared_ptr<KernelStatistics> kernel_statistics() const;

  /// What the hypervisor lets a user do with a VM, by groups. Each throws NotSupported where it has none, and works as
  /// long as the pointer is held, also when the VM is closed meanwhile.
  std::shared_ptr<Interrupts> interrupts() const;
  std::shared_ptr<X86Irqchip> x86_irqchip() const;
  std::shared_ptr<IoEvents> io_events() const;
  std::shared_ptr<ExitPolicy> exit_policy() const;
  std::shared_ptr<GuestMemfds> guest_memfds() const;
  /// A device that the hypervisor plays. Throws NotSupported, PlatformError.
  std::shared_ptr<KernelDevice> create_device(KernelDeviceKind kind) const;
  /// A new VM of the same hypervisor, without memory and vCPUs. Closing the `Hypervisor` does not close it.
  std::shared_ptr<Vm> create_sibling() const;

  /// Which pages were written. Throws NotSupported.
  std::shared_ptr<DirtyLog> dirty_log() const;
  /// This process wrote [paddr, paddr + size), and a restore has to put it back. Throws OutOfRange.
  void mark_dirty(std::uint64_t paddr, std::uint64_t size);
  /// Writes guest memory and marks what was written. Throws OutOfRange, AccessViolation; then nothing was written.
  void write(std::uint64_t paddr, const void* source, std::uint64_t size);

  /// The state of interrupt controllers, timers and the clock; serialize the calls. Throws NotSupported.
  std::shared_ptr<VmSaver> saver() const;

  /// Closes the vCPUs (see Vcpu::close), then the VM. Twice is fine.
  void close() noexcept;
  bool closed() const noexcept;

 private:
  std::shared_ptr<VmBackend> backend() const;
  std::unique_ptr<VcpuBackend> unpark(unsigned id);
  void slots_changed();
  void check_slot(const VmBackend& backend, const mem::Region& region) const;

  const std::shared_ptr<HypervisorBackend> hypervisor_;
  const std::shared_ptr<Watchdog> watchdog_ = std::make_shared<Watchdog>();
  const std::shared_ptr<ParkedVcpus> parked_ = std::make_shared<ParkedVcpus>();
  mutable std::mutex mutex_;
  std::shared_ptr<VmBackend> backend_;        // guarded by mutex_; null once closed
  std::shared_ptr<DirtyLog> dirty_log_;       // guarded by mutex_; null where the backend has none
  std::vector<std::shared_ptr<Vcpu>> vcpus_;  // guarded by mutex_
  std::set<unsigned> ids_;                    // guarded by mutex_; of all vCPUs that ever were
  std::shared_ptr<Balloon> balloon_;          // guarded by mutex_; made when it is asked for
};

}  // namespace vm::accel
