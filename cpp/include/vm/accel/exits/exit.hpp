#pragma once
/// \file
/// Why a vCPU came back, as data. One struct per reason; `Exit` is any of them.
///
/// Where a struct points at bytes (`IoOut::data`), they belong to the vCPU and are valid until its next `run`.
/// The names of the reasons follow Linux, Documentation/virt/kvm/api.rst §5; what a backend cannot name is `Unknown`,
/// a value like the others.

#include <array>
#include <cstddef>
#include <cstdint>
#include <variant>

namespace vm::accel {

/// The guest executed HLT and nobody in the kernel wakes it up.
struct Hlt {};

/// The guest reads a port: `count` items of `size` bytes (more than one: a string instruction). To be answered.
struct IoIn {
  std::uint16_t port = 0;
  std::uint8_t size = 0;  ///< bytes of an item: 1, 2 or 4
  std::uint32_t count = 1;
};

/// The guest writes `count` items of `size` bytes to a port, all of them in `data`.
struct IoOut {
  std::uint16_t port = 0;
  std::uint8_t size = 0;
  std::uint32_t count = 1;
  const std::byte* data = nullptr;  ///< size * count bytes
};

/// The guest reads guest-physical memory that nothing is mapped to. To be answered.
struct MmioRead {
  std::uint64_t paddr = 0;
  std::uint8_t size = 0;  ///< 1 to 8 bytes
};

/// The guest writes where nothing is mapped, or where the mapping is read-only.
struct MmioWrite {
  std::uint64_t paddr = 0;
  std::uint8_t size = 0;
  std::array<std::byte, 8> data{};  ///< the first `size` bytes
};

/// The guest cannot go on by itself: on x86 a triple fault.
struct Shutdown {};

/// The hypervisor gave up. `suberror` 1 is an instruction that it could not emulate.
struct InternalError {
  std::uint32_t suberror = 0;
  std::uint32_t count = 0;  ///< how many of `data` mean something
  std::array<std::uint64_t, 16> data{};
};

/// The processor refused to enter the guest; `reason` is the hardware's own code.
struct FailEntry {
  std::uint64_t reason = 0;
  std::uint32_t cpu = 0;
};

/// A breakpoint, watchpoint or single step that was asked for.
struct Debug {
  std::uint32_t exception = 0;  ///< x86: vector 1 (#DB) or 3 (#BP)
  std::uint64_t pc = 0;
  std::uint64_t dr6 = 0;  ///< x86
  std::uint64_t dr7 = 0;  ///< x86
};

/// An exception of the guest that the backend hands out instead of delivering.
struct Exception {
  std::uint32_t vector = 0;
  std::uint32_t error_code = 0;
};

/// The guest called its hypervisor. To be answered.
struct Hypercall {
  std::uint64_t number = 0;
  std::array<std::uint64_t, 6> arguments{};
  std::uint64_t flags = 0;
};

/// The guest reads a model-specific register that was asked to come here. To be answered.
struct RdMsr {
  std::uint32_t index = 0;
  std::uint32_t reason = 0;  ///< KVM_MSR_EXIT_REASON_*: 1 invalid, 2 unknown, 4 filtered
};

/// The guest writes such a register.
struct WrMsr {
  std::uint32_t index = 0;
  std::uint64_t value = 0;
  std::uint32_t reason = 0;
};

/// The guest asks its platform for something.
struct SystemEvent {
  std::uint32_t type = 0;  ///< 1 shutdown, 2 reset, 3 crash, 4 wakeup, 5 suspend, 6 SEV termination
  std::uint32_t count = 0;
  std::array<std::uint64_t, 16> data{};
};

/// The guest touched memory whose attributes forbid it, or that could not be brought in.
struct MemoryFault {
  std::uint64_t paddr = 0;
  std::uint64_t size = 0;
  std::uint64_t flags = 0;  ///< bit 3: a private access
};

/// The guest can take an interrupt now, which somebody asked to be told.
struct IrqWindowOpen {};

/// The guest ended an interrupt of a user-space IOAPIC (split irqchip).
struct IoapicEoi {
  std::uint8_t vector = 0;
};

/// The guest changed its task priority (CR8) and the limit that was set was crossed.
struct SetTpr {};

/// The ring of dirty pages is full and has to be collected before the guest goes on.
struct DirtyRingFull {};

/// The guest took a bus lock.
struct BusLock {};

/// The guest kept the processor from taking events for longer than allowed.
struct Notify {
  std::uint32_t flags = 0;
};

/// Somebody called `kick`.
struct Interrupted {};

/// The time that `run` was given is over.
struct Timeout {};

/// A reason that this library has no name for.
struct Unknown {
  std::uint32_t code = 0;      ///< the backend's own number
  std::uint64_t hardware = 0;  ///< the processor's own number where the backend tells it
};

using Exit = std::variant<Hlt, IoIn, IoOut, MmioRead, MmioWrite, Shutdown, InternalError, FailEntry, Debug, Exception,
                          Hypercall, RdMsr, WrMsr, SystemEvent, MemoryFault, IrqWindowOpen, IoapicEoi, SetTpr,
                          DirtyRingFull, BusLock, Notify, Interrupted, Timeout, Unknown>;

inline constexpr std::size_t exit_reasons = std::variant_size_v<Exit>;

/// The name of the struct: "IoOut".
const char* exit_name(const Exit& exit) noexcept;
/// The same by `Exit::index()`; `index` is below `exit_reasons`.
const char* exit_name(std::size_t index) noexcept;

/// How many bytes answer this exit; 0 when it needs no answer. For a Hypercall or an MSR, 8.
std::size_t reply_size(const Exit& exit) noexcept;

}  // namespace vm::accel
