#pragma once
/// \file
/// The parts of the extension module, one file each.

#include <pybind11/pybind11.h>

#include "vm/accel/hypervisor/hypervisor.hpp"
#include "vm/accel/hypervisor/vcpu.hpp"
#include "vm/accel/hypervisor/vm.hpp"

using HypervisorType = pybind11::class_<vm::accel::Hypervisor, pybind11::smart_holder>;
using VmType = pybind11::class_<vm::accel::Vm, pybind11::smart_holder>;
using VcpuType = pybind11::class_<vm::accel::Vcpu, pybind11::smart_holder>;

void bind_probe(pybind11::module_& module);
void bind_exits(pybind11::module_& module);
void bind_slots(pybind11::module_& module);
void bind_x86_registers(pybind11::module_& module);
void bind_x86_fpu(pybind11::module_& module);
void bind_x86_events(pybind11::module_& module);
void bind_x86_lapic(pybind11::module_& module);
void bind_x86_cpuid(pybind11::module_& module);
void bind_x86_msrs(pybind11::module_& module);
void bind_x86_state(pybind11::module_& module);
void bind_state(pybind11::module_& module);
void bind_balloon(pybind11::module_& module);
void bind_event_fd(pybind11::module_& module);
void bind_irq_routing(pybind11::module_& module);
void bind_x86_irqchip(pybind11::module_& module);
void bind_interrupts(pybind11::module_& module);
void bind_io_events(pybind11::module_& module);
void bind_exit_policy(pybind11::module_& module);

HypervisorType bind_hypervisor(pybind11::module_& module);
VmType bind_vm(pybind11::module_& module);
VcpuType bind_vcpu(pybind11::module_& module);

void add_x86_registers(VcpuType& type);
void add_x86_msrs(VcpuType& type);
void add_x86_state(VcpuType& type);
void add_state(VcpuType& type);
void add_vm_state(VmType& type);
void add_balloon(VmType& type);
void add_hotplug(VcpuType& type);
void add_hypervisor_state(HypervisorType& type);
void add_monitor(VcpuType& type);
void add_monitor(VmType& type);
void add_vcpu_interrupts(VcpuType& type);
void add_interrupts(VmType& type);
void add_io_events(VmType& type);
void add_exit_policy(VmType& type);
/// After bind_hypervisor.
void bind_scripted(pybind11::module_& module);
void add_dirty_log(pybind11::module_& module, VmType& type);
void add_snapshot(pybind11::module_& module, VmType& type);

void bind_devices(pybind11::module_& module);
void bind_run_loop(pybind11::module_& module);
void bind_boot(pybind11::module_& module);
void bind_machine(pybind11::module_& module);
void add_run_loop(VcpuType& type);
void add_run_loop(VmType& type);
void bind_guest_debug(pybind11::module_& module);
void add_guest_debug(VcpuType& type);
void bind_debugger(pybind11::module_& module);  ///< after Vm and Hypervisor
void add_address_space(VmType& type);
