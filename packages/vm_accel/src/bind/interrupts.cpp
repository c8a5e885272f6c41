// Interrupts: what `vm.interrupts` is, and interrupts for one vCPU.

#include "vm/accel/hypervisor/interrupts.hpp"

#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "event_fd.hpp"
#include "vm/accel/hypervisor/vcpu_interrupts.hpp"
#include "vm/accel/hypervisor/x86_irqchip.hpp"
#include "vm/core/error.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;
using WithoutGil = py::call_guard<py::gil_scoped_release>;

namespace {

/// The VM, seen from its interrupts.
struct VmInterrupts {
  std::shared_ptr<Vm> vm;

  std::shared_ptr<Interrupts> facet() const { return vm->interrupts(); }
  std::shared_ptr<X86Irqchip> pc() const { return vm->x86_irqchip(); }
};
using InterruptsType = py::class_<VmInterrupts>;

std::uint32_t gsi_of(Unsigned gsi) {
  if (gsi.value > UINT32_MAX) throw vm::InvalidConfig("a GSI has 32 bits, got " + vm::hex(gsi.value));
  return static_cast<std::uint32_t>(gsi.value);
}

LineStatus pulse(const VmInterrupts& self, Unsigned gsi) {
  const auto facet = self.facet();
  const LineStatus status = facet->set_line(gsi_of(gsi), true);
  facet->set_line(gsi_of(gsi), false);
  return status;
}

std::vector<std::tuple<std::unique_ptr<PyEvent>, std::uint32_t, std::unique_ptr<PyEvent>>> irqfds(
    const VmInterrupts& self) {
  std::vector<std::tuple<std::unique_ptr<PyEvent>, std::uint32_t, std::unique_ptr<PyEvent>>> result;
  for (const Irqfd& irqfd : self.facet()->irqfds()) {
    result.emplace_back(std::make_unique<PyEvent>(irqfd.event), irqfd.gsi,
                        irqfd.resample ? std::make_unique<PyEvent>(irqfd.resample) : nullptr);
  }
  return result;
}

std::string repr(const VmInterrupts& self) {
  if (self.vm->closed()) return "<Interrupts of a closed VM>";
  const auto facet = self.facet();
  return std::string("<Interrupts, irqchip ") + irqchip_name(facet->irqchip()) + ", " +
         std::to_string(facet->routes().size()) + " routes, " + std::to_string(facet->irqfds().size()) + " events>";
}

void bind_controllers(InterruptsType& type) {
  type.def_property_readonly(
          "irqchip", [](const VmInterrupts& self) { return irqchip_name(self.facet()->irqchip()); },
          "\"none\", \"kernel\" or \"split\".")
      .def(
          "create", [](const VmInterrupts& self) { self.facet()->create_irqchip(); }, WithoutGil(),
          "Let the hypervisor play all controllers: local APICs, and on x86 PIC and IOAPIC.\n\n"
          "Before the first vCPU. A HLT of the guest then waits in the hypervisor instead of exiting. Raises "
          "InvalidConfig when there is one, or a vCPU.")
      .def(
          "create_split", [](const VmInterrupts& self, unsigned pins) { self.facet()->create_split_irqchip(pins); },
          WithoutGil(), py::kw_only(), "pins"_a = 24,
          "Let the hypervisor play the local APICs only; PIC and IOAPIC are yours.\n\n"
          "The first ``pins`` GSIs are those of your IOAPIC: when the guest ends a level-triggered interrupt that one "
          "of them routes as a message, the vCPU exits with IoapicEoi. Before the first vCPU.")
      .def(
          "create_pit", [](const VmInterrupts& self, bool speaker) { self.pc()->create_pit(speaker); }, WithoutGil(),
          py::kw_only(), "speaker"_a = true,
          "Let the hypervisor play a timer at ports 0x40-0x43 that raises GSI 0; with ``speaker`` it answers at port "
          "0x61 too.")
      .def(
          "set_pit_reinjection", [](const VmInterrupts& self, bool on) { self.pc()->set_pit_reinjection(on); },
          WithoutGil(), "on"_a, "Whether ticks that the guest was too slow to take are delivered later.")
      .def(
          "set_tss_address", [](const VmInterrupts& self, Unsigned paddr) { self.pc()->set_tss_address(paddr.value); },
          WithoutGil(), "paddr"_a,
          "Three free pages below 4 GiB for KVM, which Intel processors that cannot run real mode need.")
      .def(
          "set_identity_map_address",
          [](const VmInterrupts& self, Unsigned paddr) { self.pc()->set_identity_map_address(paddr.value); },
          WithoutGil(), "paddr"_a, "One free page below 4 GiB for KVM likewise; before the first vCPU.")
      .def(
          "set_boot_vcpu", [](const VmInterrupts& self, unsigned id) { self.pc()->set_boot_vcpu(id); }, WithoutGil(),
          "id"_a, "The vCPU that starts, 0 unless set; the others wait for its messages. Before the first vCPU.");
}

template <class State>
void property(InterruptsType& type, const char* name, State (X86Irqchip::*get)(), void (X86Irqchip::*set)(const State&),
              const char* doc) {
  type.def_property(
      name, py::cpp_function([get](const VmInterrupts& self) { return ((*self.pc()).*get)(); }, WithoutGil()),
      py::cpp_function([set](const VmInterrupts& self, const State& state) { ((*self.pc()).*set)(state); },
                       WithoutGil()),
      doc);
}

void pic_property(InterruptsType& type, const char* name, IrqController controller, const char* doc) {
  type.def_property(
      name,
      py::cpp_function([controller](const VmInterrupts& self) { return self.pc()->pic(controller); }, WithoutGil()),
      py::cpp_function(
          [controller](const VmInterrupts& self, const PicState& state) { self.pc()->set_pic(controller, state); },
          WithoutGil()),
      doc);
}

void bind_delivery(InterruptsType& type) {
  type.def(
          "set_line",
          [](const VmInterrupts& self, Unsigned gsi, bool level) { return self.facet()->set_line(gsi_of(gsi), level); },
          WithoutGil(), "gsi"_a, "level"_a,
          "Set the level of a line of the irqchip; returns a LineStatus. Raises InvalidConfig without an irqchip.")
      .def("pulse", &pulse, WithoutGil(), "gsi"_a, "Raise a line and lower it at once; the LineStatus of raising it.")
      .def(
          "signal", [](const VmInterrupts& self, const Msi& message) { return self.facet()->signal(message); },
          WithoutGil(), "message"_a,
          "Deliver a message; False when the guest blocked it: its local APIC is off, or nobody has this address.")
      .def_property("routes",
                    py::cpp_function([](const VmInterrupts& self) { return self.facet()->routes(); }, WithoutGil()),
                    py::cpp_function([](const VmInterrupts& self,
                                        std::vector<GsiRoute> routes) { self.facet()->set_routes(std::move(routes)); },
                                     WithoutGil()),
                    "The table of GSIs, a list of GsiRoute; assigning replaces the whole table.\n\n"
                    "Raises InvalidConfig, naming the row, for a table that makes no sense; then the old one stays.")
      .def(
          "attach",
          [](const VmInterrupts& self, const PyEvent& event, Unsigned gsi, const PyEvent* resample) {
            self.facet()->attach_irqfd(event.get(), gsi_of(gsi), resample == nullptr ? nullptr : resample->get());
          },
          WithoutGil(), "event"_a, "gsi"_a, py::kw_only(), "resample"_a = py::none(),
          "Let every write to ``event`` raise ``gsi`` (an irqfd), until it is detached or the VM is closed.\n\n"
          "Without ``resample`` it is an edge. With it the line stays up until the guest has ended the interrupt; then "
          "``resample`` counts. Raises InvalidConfig when the event raises a GSI already, or without an irqchip.")
      .def(
          "detach", [](const VmInterrupts& self, const PyEvent& event) { self.facet()->detach_irqfd(*event.get()); },
          WithoutGil(), "event"_a, "When it returns, ``event`` raises nothing any more. Raises InvalidConfig.")
      .def_property_readonly("events", &irqfds, "What is attached: (event, gsi, resample event or None).");
}

}  // namespace

void bind_interrupts(py::module_& module) {
  InterruptsType type(
      module, "Interrupts",
      "How interrupts come into a VM: controllers, lines, messages, routes, events. Any thread may call "
      "anything at once. Raises NotSupported naming the capability where the hypervisor lacks one.");
  bind_controllers(type);
  bind_delivery(type);
  pic_property(type, "pic_master", IrqController::pic_master, "PicState of the first PIC (GSI 0-7).");
  pic_property(type, "pic_slave", IrqController::pic_slave, "PicState of the second PIC (GSI 8-15).");
  property(type, "ioapic", &X86Irqchip::ioapic, &X86Irqchip::set_ioapic, "IoapicState.");
  property(type, "pit", &X86Irqchip::pit, &X86Irqchip::set_pit, "PitState.");
  type.def("__repr__", &repr);
}

void add_interrupts(VmType& type) {
  type.def_property_readonly(
      "interrupts", [](std::shared_ptr<Vm> self) { return VmInterrupts{std::move(self)}; },
      "How interrupts come into the VM (Interrupts): ``vm.interrupts.create()``.");
}

void add_vcpu_interrupts(VcpuType& type) {
  type.def(
          "interrupt",
          [](Vcpu& self, Unsigned vector) {
            self.interrupts()->interrupt(static_cast<unsigned>(std::min<std::uint64_t>(vector.value, 256)));
          },
          WithoutGil(), "vector"_a,
          "Make the guest take interrupt ``vector`` as soon as it runs, in a VM without an irqchip or with a split one."
          "\n\nRaises InvalidConfig unless ``interrupt_ready``.")
      .def_property_readonly(
          "interrupt_ready", [](Vcpu& self) { return self.interrupts()->ready(); },
          "Whether the guest could take an interrupt when it last came back, and got none since.")
      .def_property_readonly(
          "interrupts_enabled", [](Vcpu& self) { return self.interrupts()->enabled(); },
          "The guest's interrupt flag as it was when it last came back.")
      .def(
          "request_interrupt_window", [](Vcpu& self) { self.interrupts()->request_window(); },
          "Let ``run`` return IrqWindowOpen, once, as soon as the guest can take an interrupt.")
      .def(
          "nmi", [](Vcpu& self) { self.interrupts()->nmi(); }, WithoutGil(), "Raise a non-maskable interrupt.")
      .def(
          "smi", [](Vcpu& self) { self.interrupts()->smi(); }, WithoutGil(),
          "Raise a system-management interrupt. Raises NotSupported where the hypervisor has no such mode.")
      .def_property(
          "task_priority", [](Vcpu& self) { return self.interrupts()->task_priority(); },
          [](Vcpu& self, Unsigned priority) {
            self.interrupts()->set_task_priority(static_cast<unsigned>(std::min<std::uint64_t>(priority.value, 16)));
          },
          "CR8 as the guest left it, 0 to 15; assigning gives it to the guest, in a VM without an irqchip.")
      .def_property_readonly(
          "apic_base", [](Vcpu& self) { return self.interrupts()->apic_base(); },
          "IA32_APIC_BASE as the guest left it; 0 before the first run.");
}
