// What is about to happen to a vCPU.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "bind.hpp"
#include "text.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"

namespace py = pybind11;
using namespace vm::accel;

namespace {

std::string repr_exception(const X86PendingException& self) {
  if (!self.pending && !self.injected) return "<X86PendingException none>";
  return "<X86PendingException" + flag_field("pending", self.pending) + flag_field("injected", self.injected) +
         hex_field("vector", self.vector) + (self.error_code ? hex_field("error_code", *self.error_code) : "") +
         (self.payload ? hex_field("payload", *self.payload) : "") + ">";
}

std::string repr_interrupt(const X86PendingInterrupt& self) {
  const std::string shadow =
      flag_field("shadow_sti", self.shadow_sti) + flag_field("shadow_mov_ss", self.shadow_mov_ss);
  if (!self.injected) return "<X86PendingInterrupt none" + shadow + ">";
  return "<X86PendingInterrupt injected" + flag_field("soft", self.soft) + hex_field("vector", self.vector) + shadow +
         ">";
}

std::string repr_nmi(const X86PendingNmi& self) {
  const std::string text =
      flag_field("injected", self.injected) + flag_field("pending", self.pending) + flag_field("masked", self.masked);
  return "<X86PendingNmi" + (text.empty() ? " none" : text) + ">";
}

std::string repr_smi(const X86PendingSmi& self) {
  const std::string text = flag_field("active", self.active) + flag_field("pending", self.pending) +
                           flag_field("inside_nmi", self.inside_nmi) + flag_field("latched_init", self.latched_init);
  return "<X86PendingSmi" + (text.empty() ? " none" : text) + ">";
}

std::string repr_events(const X86Events& self) {
  return "<X86Events exception=" + repr_exception(self.exception) + " interrupt=" + repr_interrupt(self.interrupt) +
         " nmi=" + repr_nmi(self.nmi) + " smi=" + repr_smi(self.smi) + flag_field("triple_fault", self.triple_fault) +
         ">";
}

}  // namespace

void bind_x86_events(py::module_& module) {
  py::class_<X86PendingException>(module, "X86PendingException", "An exception on its way into the guest.")
      .def(py::init<>())
      .def_readwrite("pending", &X86PendingException::pending, "Raised; its side effects are still to come.")
      .def_readwrite("injected", &X86PendingException::injected, "Side effects are done; it will be delivered.")
      .def_readwrite("vector", &X86PendingException::vector, "0 to 31.")
      .def_readwrite("error_code", &X86PendingException::error_code, "None for an exception without one.")
      .def_readwrite("payload", &X86PendingException::payload, "Of a pending one: the coming CR2 or DR6 bits, or None.")
      .def("__repr__", &repr_exception);
  py::class_<X86PendingInterrupt>(module, "X86PendingInterrupt", "An interrupt on its way into the guest.")
      .def(py::init<>())
      .def_readwrite("injected", &X86PendingInterrupt::injected)
      .def_readwrite("vector", &X86PendingInterrupt::vector)
      .def_readwrite("soft", &X86PendingInterrupt::soft, "Caused by INT n.")
      .def_readwrite("shadow_sti", &X86PendingInterrupt::shadow_sti, "Off for one instruction after STI.")
      .def_readwrite("shadow_mov_ss", &X86PendingInterrupt::shadow_mov_ss, "The same after MOV SS.")
      .def("__repr__", &repr_interrupt);
  py::class_<X86PendingNmi>(module, "X86PendingNmi", "Non-maskable interrupts.")
      .def(py::init<>())
      .def_readwrite("injected", &X86PendingNmi::injected)
      .def_readwrite("pending", &X86PendingNmi::pending)
      .def_readwrite("masked", &X86PendingNmi::masked, "None until IRET.")
      .def("__repr__", &repr_nmi);
  py::class_<X86PendingSmi>(module, "X86PendingSmi", "System management mode.")
      .def(py::init<>())
      .def_readwrite("active", &X86PendingSmi::active, "The vCPU is in it.")
      .def_readwrite("pending", &X86PendingSmi::pending)
      .def_readwrite("inside_nmi", &X86PendingSmi::inside_nmi)
      .def_readwrite("latched_init", &X86PendingSmi::latched_init)
      .def("__repr__", &repr_smi);
  py::class_<X86Events>(module, "X86Events", "What is about to happen. A copy: assign it to ``vcpu.events``.")
      .def(py::init<>())
      .def_readwrite("exception", &X86Events::exception)
      .def_readwrite("interrupt", &X86Events::interrupt)
      .def_readwrite("nmi", &X86Events::nmi)
      .def_readwrite("smi", &X86Events::smi)
      .def_readwrite("sipi_vector", &X86Events::sipi_vector, "Of the start-up message, or None.")
      .def_readwrite("triple_fault", &X86Events::triple_fault, "A Shutdown is on its way.")
      .def("__repr__", &repr_events);
}
