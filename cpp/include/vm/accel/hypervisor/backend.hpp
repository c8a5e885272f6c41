#pragma once
/// \file
/// What a hypervisor implements to stand behind `Hypervisor`, `Vm` and `Vcpu`. Written for KVM, HVF (x86 and Arm), WHPX
/// and a scripted double; users of the library see the classes in front of it.
///
/// The front keeps the rules that are the same everywhere (who may call, what is closed, which ranges overlap, whether
/// an exit was answered); a backend does the work. What it cannot do stays the default: NotSupported, or a null facet.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vm/accel/exits/exit.hpp"
#include "vm/accel/hypervisor/memory_slot.hpp"

namespace vm::accel {

class DirtyPages;
class VcpuSaver;
class VmSaver;
class ExitPolicy;
class GuestMemfds;
class Interrupts;
class IoEvents;
class KernelDevice;
class KernelStatistics;
class VcpuInterrupts;
class X86Irqchip;
class GuestDebug;
class X86State;
enum class KernelDeviceKind : std::uint32_t;
class Capabilities;
class VcpuState;
class X86State;
class X86System;
class X86VmState;

enum class Architecture : std::uint8_t { x86_64, aarch64, riscv64 };

/// "x86_64", "aarch64", "riscv64".
const char* architecture_name(Architecture architecture) noexcept;

/// One vCPU. Every call but `nudge` comes from one thread at a time, the vCPU's owner.
class VcpuBackend {
 public:
  virtual ~VcpuBackend() = default;

  /// The calling thread is the owner from now on. Throws NotSupported where a vCPU cannot change its thread.
  virtual void attach() = 0;

  /// Runs the guest. True: it came back for the reason in `exit`. False: it came back because of `nudge` or a signal,
  /// with nothing to handle. Throws PlatformError.
  virtual bool enter(Exit& exit) = 0;
  /// The run ends with `exit`, Interrupted or Timeout, whether `enter` was called in it or not.
  virtual void interrupted(const Exit& /*exit*/) {}

  /// Makes the `enter` in progress return false, or the next one if there is none; that one may happen more often than
  /// asked. Any thread, also from a signal handler.
  virtual void nudge() noexcept = 0;

  /// The answer to the last exit: `reply_size` bytes.
  virtual void reply(const Exit& exit, const std::byte* data) = 0;
  /// The guest gets a fault instead (RdMsr, WrMsr). Throws NotSupported.
  virtual void refuse(const Exit& exit);

  /// Does what the last exit left to do in the guest (the loaded register, the advanced instruction pointer) without
  /// running it, so that the state can be read.
  virtual void complete() = 0;

  virtual X86State* x86() noexcept { return nullptr; }
  virtual VcpuInterrupts* interrupts() noexcept { return nullptr; }
  virtual VcpuState* state() noexcept { return nullptr; }
  virtual Capabilities* capabilities() noexcept { return nullptr; }
  virtual KernelStatistics* kernel_statistics() noexcept { return nullptr; }
  /// See Vcpu::pre_fault.
  virtual void pre_fault(std::uint64_t paddr, std::uint64_t size);
  virtual GuestDebug* guest_debug() noexcept { return nullptr; }
  virtual VcpuSaver* saver() noexcept { return nullptr; }
};

/// One virtual machine. Any thread; calls that change it are serialized by the front.
class VmBackend {
 public:
  virtual ~VmBackend() = default;

  virtual std::unique_ptr<VcpuBackend> create_vcpu(unsigned id, const std::shared_ptr<VmBackend>& self) = 0;

  /// `slot` is complete and overlaps no other. Throws PlatformError, ResourceExhausted, NotSupported.
  virtual void add_slot(const MemorySlot& slot) = 0;
  virtual void remove_slot(const MemorySlot& slot) = 0;
  /// Replaces `before` by `after`: another base, or other flags, over the same host memory.
  virtual void change_slot(const MemorySlot& before, const MemorySlot& after) = 0;
  /// Guest addresses and host addresses of slots are multiples of this.
  virtual std::uint64_t page_size() const noexcept = 0;
  /// How many slots a VM can have.
  virtual std::size_t max_slots() const noexcept = 0;

  virtual Interrupts* interrupts() noexcept { return nullptr; }
  virtual X86Irqchip* x86_irqchip() noexcept { return nullptr; }
  virtual IoEvents* io_events() noexcept { return nullptr; }
  virtual ExitPolicy* exit_policy() noexcept { return nullptr; }
  /// Throws NotSupported for a device that it does not have.
  virtual std::shared_ptr<KernelDevice> create_device(KernelDeviceKind kind);
  virtual X86VmState* x86() noexcept { return nullptr; }
  virtual Capabilities* capabilities() noexcept { return nullptr; }
  virtual KernelStatistics* kernel_statistics() noexcept { return nullptr; }
  virtual GuestMemfds* guest_memfds() noexcept { return nullptr; }
  virtual DirtyPages* dirty_pages() noexcept { return nullptr; }
  virtual VmSaver* saver() noexcept { return nullptr; }

  /// The slots that the front has added. Here, so that the memory outlives the last vCPU that could touch it.
  SlotTable slots;
};

/// An opened hypervisor. Any thread.
class HypervisorBackend {
 public:
  virtual ~HypervisorBackend() = default;

  /// "kvm", "scripted".
  virtual std::string name() const = 0;
  virtual Architecture architecture() const noexcept = 0;
  virtual std::shared_ptr<VmBackend> create_vm() = 0;
  virtual unsigned max_vcpus() const noexcept = 0;

  virtual X86System* x86() noexcept { return nullptr; }
  virtual Capabilities* capabilities() noexcept { return nullptr; }
};

}  // namespace vm::accel
