#include "exit.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace vm::accel::kvm {
namespace {

/// The bytes of a port exit inside the area, or nullptr when they would not fit.
std::byte* port_data(kvm_run& area, std::size_t size) noexcept {
  const std::uint64_t length = std::uint64_t{area.io.size} * area.io.count;
  if (area.io.data_offset > size || length > size - area.io.data_offset) return nullptr;
  return reinterpret_cast<std::byte*>(&area) + area.io.data_offset;
}

Exit read_port(kvm_run& area, std::size_t size) noexcept {
  std::byte* data = port_data(area, size);
  if (data == nullptr) return Unknown{area.exit_reason, 0};
  if (area.io.direction == KVM_EXIT_IO_IN) return IoIn{area.io.port, area.io.size, area.io.count};
  return IoOut{area.io.port, area.io.size, area.io.count, data};
}

Exit read_mmio(const kvm_run& area) noexcept {
  const auto size = static_cast<std::uint8_t>(std::min<std::uint32_t>(area.mmio.len, sizeof area.mmio.data));
  if (area.mmio.is_write == 0) return MmioRead{area.mmio.phys_addr, size};
  MmioWrite write{area.mmio.phys_addr, size, {}};
  std::memcpy(write.data.data(), area.mmio.data, size);
  return write;
}

template <class To, class From>
void copy_words(To& to, const From& from, std::uint32_t count) noexcept {
  to.count = std::min<std::uint32_t>(count, static_cast<std::uint32_t>(to.data.size()));
  std::copy_n(from, to.count, to.data.begin());
}

Exit read_internal_error(const kvm_run& area) noexcept {
  InternalError error;
  error.suberror = area.internal.suberror;
  copy_words(error, area.internal.data, area.internal.ndata);
  return error;
}

Exit read_system_event(const kvm_run& area) noexcept {
  SystemEvent event;
  event.type = area.system_event.type;
  copy_words(event, area.system_event.data, area.system_event.ndata);
  return event;
}

Exit read_debug(const kvm_run& area) noexcept {
#if defined(__x86_64__)
  const auto& arch = area.debug.arch;
  return Debug{arch.exception, arch.pc, arch.dr6, arch.dr7};
#else
  return Debug{};
#endif
}

Exit read_hypercall(const kvm_run& area) noexcept {
  Hypercall call;
  call.number = area.hypercall.nr;
  std::copy(std::begin(area.hypercall.args), std::end(area.hypercall.args), call.arguments.begin());
  call.flags = area.hypercall.longmode;
  return call;
}

Exit read_memory_fault(const kvm_run& area) noexcept {
  MemoryFaultArea fault{};
  std::memcpy(&fault, area.padding, sizeof fault);
  return MemoryFault{fault.gpa, fault.size, fault.flags};
}

}  // namespace

Exit read_exit(kvm_run& area, std::size_t size) noexcept {
  switch (area.exit_reason) {
    case KVM_EXIT_HLT: return Hlt{};
    case KVM_EXIT_IO: return read_port(area, size);
    case KVM_EXIT_MMIO: return read_mmio(area);
    case KVM_EXIT_SHUTDOWN: return Shutdown{};
    case KVM_EXIT_INTERNAL_ERROR: return read_internal_error(area);
    case KVM_EXIT_FAIL_ENTRY: return FailEntry{area.fail_entry.hardware_entry_failure_reason, area.fail_entry.cpu};
    case KVM_EXIT_DEBUG: return read_debug(area);
    case KVM_EXIT_EXCEPTION: return Exception{area.ex.exception, area.ex.error_code};
    case KVM_EXIT_HYPERCALL: return read_hypercall(area);
    case KVM_EXIT_X86_RDMSR: return RdMsr{area.msr.index, area.msr.reason};
    case KVM_EXIT_X86_WRMSR: return WrMsr{area.msr.index, area.msr.data, area.msr.reason};
    case KVM_EXIT_SYSTEM_EVENT: return read_system_event(area);
    case KVM_EXIT_MEMORY_FAULT: return read_memory_fault(area);
    case KVM_EXIT_IRQ_WINDOW_OPEN:
      area.request_interrupt_window = 0;  // asked once, told once: else the guest would not get past it
      return IrqWindowOpen{};
    case KVM_EXIT_IOAPIC_EOI: return IoapicEoi{area.eoi.vector};
    case KVM_EXIT_SET_TPR: return SetTpr{};
    case KVM_EXIT_DIRTY_RING_FULL: return DirtyRingFull{};
    case KVM_EXIT_X86_BUS_LOCK: return BusLock{};
    case KVM_EXIT_NOTIFY: return Notify{area.notify.flags};
    case KVM_EXIT_UNKNOWN: return Unknown{area.exit_reason, area.hw.hardware_exit_reason};
    default: return Unknown{area.exit_reason, 0};
  }
}

bool is_exit_with_error(const kvm_run& area, int code) noexcept {
  return (code == EFAULT || code == EHWPOISON) && area.exit_reason == KVM_EXIT_MEMORY_FAULT;
}

void write_reply(kvm_run& area, std::size_t size, const Exit& exit, const std::byte* data) noexcept {
  if (std::holds_alternative<IoIn>(exit)) {
    if (std::byte* to = port_data(area, size)) std::memcpy(to, data, reply_size(exit));
  } else if (std::holds_alternative<MmioRead>(exit)) {
    std::memcpy(area.mmio.data, data, reply_size(exit));
  } else if (std::holds_alternative<RdMsr>(exit)) {
    area.msr.error = 0;
    std::memcpy(&area.msr.data, data, sizeof area.msr.data);
  } else if (std::holds_alternative<Hypercall>(exit)) {
    std::memcpy(&area.hypercall.ret, data, sizeof area.hypercall.ret);
  }
}

}  // namespace vm::accel::kvm
