#pragma once
/// \file
/// A small PC: memory, interrupt controllers, timer, processors and devices put together, for guests that bring their
/// own kernel. No firmware, no disks, no PCI devices, no ACPI tables.

#include <cstdint>
#include <memory>
#include <vector>

#include "vm/accel/boot/loader.hpp"
#include "vm/accel/devices/bus.hpp"
#include "vm/accel/devices/run_loop.hpp"
#include "vm/accel/devices/serial.hpp"
#include "vm/accel/devices/stop_request.hpp"
#include "vm/accel/hypervisor/hypervisor.hpp"

namespace vm::accel {

struct PcOptions {
  std::uint64_t memory = std::uint64_t{128} << 20;  ///< bytes; see boot::pc_memory
  unsigned cpus = 1;
  std::shared_ptr<ByteSink> serial;  ///< what COM1 sends; null: dropped
  bool test_device = true;           ///< what QEMU's pc-testdev has; see test_device.hpp
};

/// The hypervisor keeps the interrupt controllers and the 8254 timer; on the bus are COM1 (IRQ 4), fw_cfg, the clock,
/// the keyboard controller's reset, an empty PCI bus with its reset register, the power-off port 0x8900, debug-exit at
/// 0xF4 and the port 0x80. CPUID is what the hypervisor supports, each processor at its place. The thread that makes
/// the machine owns its processors; `bus`, `stop`, `serial` and `memory` are for any thread.
class PcMachine {
 public:
  /// Throws InvalidConfig for options that make no sense, NotSupported on another architecture or when the hypervisor
  /// lacks something, ResourceExhausted, PlatformError.
  explicit PcMachine(const std::shared_ptr<Hypervisor>& hypervisor, const PcOptions& options = {});
  PcMachine(const PcMachine&) = delete;
  PcMachine& operator=(const PcMachine&) = delete;
  ~PcMachine();

  const std::shared_ptr<Vm>& vm() const noexcept { return vm_; }
  const std::shared_ptr<mem::GuestMemory>& memory() const noexcept { return memory_; }
  const std::shared_ptr<DeviceBus>& bus() const noexcept { return bus_; }
  const std::shared_ptr<StopRequest>& stop() const noexcept { return stop_; }
  const std::shared_ptr<Serial>& serial() const noexcept { return serial_; }
  const std::vector<std::shared_ptr<Vcpu>>& vcpus() const noexcept { return vcpus_; }

  /// Loads the image and makes the first processor begin there; the others wait for its start-up message, as on a PC.
  /// See boot::load and boot::enter for errors. On the thread that owns the processors.
  boot::LoadedImage load(const boot::Image& image, const boot::LoadOptions& options = {});

  /// Goes on until the guest ends, something happens that no device handles, or the time is over; see run_vm. A machine
  /// that has stopped stays so: the same reason comes again until `stop()->clear()`.
  LoopResult run(const LoopOptions& options = {});

  /// Closes the VM. Twice is fine.
  void close() noexcept;

 private:
  void add_devices(const PcOptions& options);
  void add_test_devices();
  void add_vcpus(const Hypervisor& hypervisor, unsigned count);

  std::shared_ptr<mem::GuestMemory> memory_;
  std::shared_ptr<Vm> vm_;
  std::shared_ptr<DeviceBus> bus_ = std::make_shared<DeviceBus>();
  std::shared_ptr<StopRequest> stop_ = std::make_shared<StopRequest>();
  std::shared_ptr<Serial> serial_;
  std::vector<std::shared_ptr<Vcpu>> vcpus_;
};

}  // namespace vm::accel
