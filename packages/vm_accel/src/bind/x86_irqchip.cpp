// The controllers and the timer of a PC as plain values.

#include "vm/accel/hypervisor/x86_irqchip.hpp"

#include <pybind11/stl.h>

#include <string>

#include "bind.hpp"
#include "vm/core/error.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;

namespace {

using vm::hex;

std::string repr(const PicState& self) {
  return "<PicState vectors from " + hex(self.irq_base) + ", requested=" + hex(self.irr) + " masked=" + hex(self.imr) +
         " in service=" + hex(self.isr) + " level=" + hex(self.elcr) + ">";
}

std::string repr(const IoapicRedirection& self) {
  return "<IoapicRedirection vector=" + hex(self.vector) + (self.masked ? " masked" : "") + " to " +
         (self.logical ? "set " : "APIC ") + std::to_string(self.destination) + (self.level ? ", level" : ", edge") +
         (self.active_low ? ", active low" : "") + (self.remote_irr ? ", in service" : "") +
         (self.pending ? ", pending" : "") + ", delivery mode " + std::to_string(self.delivery_mode) + ">";
}

std::string repr(const IoapicState& self) {
  std::size_t open = 0;
  for (const IoapicRedirection& row : self.redirections) open += row.masked ? 0 : 1;
  return "<IoapicState at " + hex(self.base) + ", id " + std::to_string(self.id) + ", " + std::to_string(open) +
         " of " + std::to_string(self.redirections.size()) + " inputs open, requested=" + hex(self.irr) + ">";
}

std::string repr(const PitChannel& self) {
  return "<PitChannel mode=" + std::to_string(self.mode) + " count=" + std::to_string(self.count) +
         (self.gate != 0 ? " running" : " stopped") + ">";
}

std::string repr(const PitState& self) {
  std::string text = "<PitState";
  for (const PitChannel& channel : self.channels) text += " " + repr(channel);
  return text + (self.speaker_on ? ", speaker on" : "") + ">";
}

template <class T>
py::class_<T> value_type(py::module_& module, const char* name, const char* doc) {
  py::class_<T> type(module, name, doc);
  type.def(py::init<>()).def("__repr__", [](const T& self) { return repr(self); });
  return type;
}

void bind_pic(py::module_& module) {
  value_type<PicState>(module, "PicState",
                       "One Intel 8259A; bit i of a mask is input i. A copy: assign it to ``pic_master`` or "
                       "``pic_slave``.")
      .def_readwrite("last_irr", &PicState::last_irr, "The inputs as they were last seen, to find edges.")
      .def_readwrite("irr", &PicState::irr, "Requested.")
      .def_readwrite("imr", &PicState::imr, "Masked.")
      .def_readwrite("isr", &PicState::isr, "In service.")
      .def_readwrite("priority_add", &PicState::priority_add)
      .def_readwrite("irq_base", &PicState::irq_base, "Vector of input 0.")
      .def_readwrite("read_reg_select", &PicState::read_reg_select)
      .def_readwrite("poll", &PicState::poll)
      .def_readwrite("special_mask", &PicState::special_mask)
      .def_readwrite("init_state", &PicState::init_state, "The initialization word that is awaited; 0: none.")
      .def_readwrite("auto_eoi", &PicState::auto_eoi)
      .def_readwrite("rotate_on_auto_eoi", &PicState::rotate_on_auto_eoi)
      .def_readwrite("special_fully_nested_mode", &PicState::special_fully_nested_mode)
      .def_readwrite("init4", &PicState::init4)
      .def_readwrite("elcr", &PicState::elcr, "Level-triggered inputs.")
      .def_readwrite("elcr_mask", &PicState::elcr_mask, "Inputs whose trigger can be chosen.");
}

void bind_ioapic(py::module_& module) {
  value_type<IoapicRedirection>(module, "IoapicRedirection", "One row of an IOAPIC (Intel 82093AA §3.2.4).")
      .def_static(
          "from_bits", [](Unsigned bits) { return IoapicRedirection::from_bits(bits.value); }, "bits"_a,
          "What the 64 bits of the register say.")
      .def_property_readonly("bits", &IoapicRedirection::bits, "The register's 64 bits.")
      .def_readwrite("vector", &IoapicRedirection::vector, "0 to 255.")
      .def_readwrite("delivery_mode", &IoapicRedirection::delivery_mode, "3 bits, as MsiDelivery.")
      .def_readwrite("logical", &IoapicRedirection::logical, "``destination`` is a set, not an APIC ID.")
      .def_readwrite("pending", &IoapicRedirection::pending, "Sent, not accepted yet.")
      .def_readwrite("active_low", &IoapicRedirection::active_low)
      .def_readwrite("remote_irr", &IoapicRedirection::remote_irr, "A level-triggered interrupt is with a processor.")
      .def_readwrite("level", &IoapicRedirection::level, "Level-triggered, not edge-triggered.")
      .def_readwrite("masked", &IoapicRedirection::masked)
      .def_readwrite("destination", &IoapicRedirection::destination, "0 to 255.");
  value_type<IoapicState>(module, "IoapicState", "The IOAPIC. A copy: assign it to ``ioapic``.")
      .def_readwrite("base", &IoapicState::base, "Guest-physical address.")
      .def_readwrite("selected", &IoapicState::selected, "The register that IOWIN shows.")
      .def_readwrite("id", &IoapicState::id)
      .def_readwrite("irr", &IoapicState::irr, "Requested inputs.")
      .def_readwrite("redirections", &IoapicState::redirections,
                     "24 rows: a list of copies. Change one and assign the list.");
}

void bind_pit(py::module_& module) {
  value_type<PitChannel>(module, "PitChannel", "One counter of an Intel 8254.")
      .def_readwrite("count", &PitChannel::count, "1 to 65536.")
      .def_readwrite("latched_count", &PitChannel::latched_count)
      .def_readwrite("count_latched", &PitChannel::count_latched)
      .def_readwrite("status_latched", &PitChannel::status_latched)
      .def_readwrite("status", &PitChannel::status)
      .def_readwrite("read_state", &PitChannel::read_state)
      .def_readwrite("write_state", &PitChannel::write_state)
      .def_readwrite("write_latch", &PitChannel::write_latch)
      .def_readwrite("rw_mode", &PitChannel::rw_mode)
      .def_readwrite("mode", &PitChannel::mode, "0 to 5.")
      .def_readwrite("bcd", &PitChannel::bcd)
      .def_readwrite("gate", &PitChannel::gate)
      .def_readwrite("loaded_ns", &PitChannel::loaded_ns, "When the count was loaded, on the hypervisor's clock.");
  value_type<PitState>(module, "PitState", "The PIT. A copy: assign it to ``pit``.")
      .def_readwrite("channels", &PitState::channels, "3 counters: a list of copies. Change one and assign the list.")
      .def_readwrite("hpet_legacy", &PitState::hpet_legacy, "An HPET has taken over its interrupt.")
      .def_readwrite("speaker_on", &PitState::speaker_on);
}

}  // namespace

void bind_x86_irqchip(py::module_& module) {
  bind_pic(module);
  bind_ioapic(module);
  bind_pit(module);
}
