// The extension module vm_accel._accel: convert, release the GIL, call, convert back. What a name means is said where
// C++ declares it.

#include "bind.hpp"
#include "vm/python/abi.hpp"

PYBIND11_MODULE(_accel, module, pybind11::mod_gil_not_used()) {
  vm::python::import_core();
  pybind11::module_::import("vm_mem");  // GuestMemory
  module.doc() = "Compiled part of vm_accel; import the names from vm_accel instead.";
  bind_probe(module);
  bind_exits(module);
  bind_slots(module);
  bind_x86_registers(module);
  bind_x86_fpu(module);
  bind_x86_events(module);
  bind_x86_lapic(module);
  bind_x86_cpuid(module);
  bind_x86_msrs(module);
  bind_x86_state(module);
  bind_state(module);
  bind_event_fd(module);
  bind_irq_routing(module);
  bind_x86_irqchip(module);
  bind_interrupts(module);
  bind_io_events(module);
  bind_exit_policy(module);
  bind_balloon(module);
  VcpuType vcpu = bind_vcpu(module);
  add_x86_registers(vcpu);
  add_x86_msrs(vcpu);
  add_x86_state(vcpu);
  add_state(vcpu);
  add_monitor(vcpu);
  add_vcpu_interrupts(vcpu);
  add_hotplug(vcpu);
  VmType vm = bind_vm(module);
  add_vm_state(vm);
  add_interrupts(vm);
  add_io_events(vm);
  add_exit_policy(vm);
  add_monitor(vm);
  add_balloon(vm);
  HypervisorType hypervisor = bind_hypervisor(module);
  add_hypervisor_state(hypervisor);
  bind_scripted(module);
  add_dirty_log(module, vm);
  add_snapshot(module, vm);
  bind_run_loop(module);
  bind_devices(module);
  add_run_loop(vcpu);
  add_run_loop(vm);
  bind_boot(module);
  bind_machine(module);
  bind_guest_debug(module);
  add_guest_debug(vcpu);
  bind_debugger(module);
  add_address_space(vm);
  module.attr("__version__") = VM_VERSION;
}
