// State of all architectures, of VMs and of the hypervisor: MP state, registers by number, attributes, capabilities,
// clocks, and what guests can be given.

#include <pybind11/native_enum.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "text.hpp"
#include "vm/accel/hypervisor/capabilities.hpp"
#include "vm/accel/hypervisor/vcpu_state.hpp"
#include "vm/accel/hypervisor/x86_system.hpp"
#include "vm/accel/hypervisor/x86_vm_state.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;
using WithoutGil = py::call_guard<py::gil_scoped_release>;

namespace {

constexpr const char* enable_doc =
    "Switch on what is off by default: a name such as \"KVM_CAP_HALT_POLL\", up to four arguments, flags (Linux, "
    "Documentation/virt/kvm/api.rst §6 and §7).\n\n"
    "Raises InvalidConfig for an unknown name or too many arguments, PlatformError when the kernel refuses.";
constexpr const char* check_doc =
    "The kernel's answer about a capability: 0 is no, the meaning of more is its own. A name with or without "
    "``KVM_CAP_``, or a number. Raises InvalidConfig for an unknown name.";

std::vector<std::uint8_t> bytes_of(const py::bytes& value) {
  const std::string_view view = value;
  return {view.begin(), view.end()};
}

py::bytes to_bytes(const std::vector<std::uint8_t>& value) {
  return py::bytes(reinterpret_cast<const char*>(value.data()), value.size());
}

std::string capability_text(const py::object& name) {
  if (py::isinstance<py::str>(name)) return name.cast<std::string>();
  if (PyIndex_Check(name.ptr()) == 0)
    throw py::type_error("a capability is a name or a number, not " + py::repr(name).cast<std::string>());
  return std::to_string(name.cast<Unsigned>().value);
}

std::array<std::uint64_t, 4> arguments_of(const py::args& arguments) {
  std::array<std::uint64_t, 4> words{};
  if (arguments.size() > words.size())
    throw vm::InvalidConfig("a capability takes up to 4 arguments, got " + std::to_string(arguments.size()));
  for (std::size_t i = 0; i < arguments.size(); ++i) words[i] = arguments[i].cast<Unsigned>().value;
  return words;
}

template <class Self>
int check(Self& self, const py::object& name) {
  const std::string text = capability_text(name);
  const py::gil_scoped_release release;
  return self.capabilities()->check(text);
}

template <class Self>
void enable(Self& self, const py::object& name, const py::args& arguments, std::uint32_t flags) {
  const std::string text = capability_text(name);
  const std::array<std::uint64_t, 4> words = arguments_of(arguments);
  const py::gil_scoped_release release;
  self.capabilities()->enable(text, words, flags);
}

/// vcpu.registers
struct Registers {
  std::shared_ptr<Vcpu> vcpu;
};

/// vcpu.attributes
struct Attributes {
  std::shared_ptr<Vcpu> vcpu;
};

void bind_registers(py::module_& module) {
  py::class_<Registers>(module, "Registers",
                        "Registers by the kernel's 64-bit numbers, which say how long each is: the way to the state of "
                        "AArch64 and RISC-V. Values are bytes, little-endian. Raises NotSupported where "
                        "KVM_CAP_ONE_REG is missing.")
      .def_property_readonly(
          "ids",
          [](const Registers& self) {
            const py::gil_scoped_release release;
            return self.vcpu->state()->register_ids();
          },
          "The numbers of all.")
      .def(
          "__getitem__",
          [](const Registers& self, Unsigned id) {
            std::vector<std::uint8_t> value;
            {
              const py::gil_scoped_release release;
              value = self.vcpu->state()->register_value(id.value);
            }
            return to_bytes(value);
          },
          "id"_a)
      .def(
          "__setitem__",
          [](const Registers& self, Unsigned id, const py::bytes& value) {
            const std::vector<std::uint8_t> copy = bytes_of(value);
            const py::gil_scoped_release release;
            self.vcpu->state()->set_register_value(id.value, copy);
          },
          "id"_a, "value"_a)
      .def("__repr__",
           [](const Registers& self) { return "<Registers of vCPU " + std::to_string(self.vcpu->id()) + ">"; });
}

void bind_attributes(py::module_& module) {
  py::class_<Attributes>(module, "DeviceAttributes",
                         "Settings in the kernel that are known by a group and a number (Linux, "
                         "Documentation/virt/kvm/devices).")
      .def(
          "has",
          [](const Attributes& self, std::uint32_t group, Unsigned number) {
            return self.vcpu->state()->attributes().has(group, number.value);
          },
          "group"_a, "number"_a, WithoutGil(), "Whether there is such an attribute.")
      .def(
          "get",
          [](const Attributes& self, std::uint32_t group, Unsigned number, std::size_t size) {
            std::vector<std::uint8_t> value;
            {
              const py::gil_scoped_release release;
              value = self.vcpu->state()->attributes().get(group, number.value, size);
            }
            return to_bytes(value);
          },
          "group"_a, "number"_a, "size"_a = 8, "Its ``size`` bytes; its description says how many it has.")
      .def(
          "set",
          [](const Attributes& self, std::uint32_t group, Unsigned number, const py::bytes& value) {
            const std::vector<std::uint8_t> copy = bytes_of(value);
            const py::gil_scoped_release release;
            self.vcpu->state()->attributes().set(group, number.value, copy);
          },
          "group"_a, "number"_a, "value"_a, "Write its bytes. Raises PlatformError when the kernel refuses.")
      .def("__repr__",
           [](const Attributes& self) { return "<DeviceAttributes of vCPU " + std::to_string(self.vcpu->id()) + ">"; });
}

void bind_clock(py::module_& module) {
  py::class_<VmClock>(module, "VmClock", "The clock that paravirtual guests read. A copy: assign it to ``vm.clock``.")
      .def(py::init([](Unsigned ns, const std::optional<Unsigned>& realtime_ns) {
             VmClock clock;
             clock.ns = ns.value;
             if (realtime_ns) clock.realtime_ns = realtime_ns->value;
             return clock;
           }),
           "ns"_a = 0, "realtime_ns"_a = py::none())
      .def_readwrite("ns", &VmClock::ns, "Nanoseconds since the VM began.")
      .def_readwrite("realtime_ns", &VmClock::realtime_ns,
                     "The host's CLOCK_REALTIME at that moment, or None where the kernel cannot tell. Written, the "
                     "clock also gets what has passed on the host since then.")
      .def_readonly("tsc_stable", &VmClock::tsc_stable, "The clock is the same on all vCPUs.")
      .def_readonly("host_tsc", &VmClock::host_tsc, "The host's time stamp counter at that moment, or None.")
      .def("__repr__", [](const VmClock& self) {
        return "<VmClock ns=" + std::to_string(self.ns) +
               (self.realtime_ns ? " realtime_ns=" + std::to_string(*self.realtime_ns) : "") +
               flag_field("tsc_stable", self.tsc_stable) + ">";
      });
}

py::dict feature_msrs(const Hypervisor& self) {
  std::vector<X86Msr> msrs;
  {
    const py::gil_scoped_release release;
    msrs = self.x86()->feature_msrs();
  }
  py::dict result;
  for (const X86Msr& msr : msrs) result[py::int_(msr.index)] = msr.value;
  return result;
}

py::dict capabilities_of(const Hypervisor& self) {
  std::vector<CapabilityAnswer> answers;
  {
    const py::gil_scoped_release release;
    answers = self.capabilities()->all();
  }
  py::dict result;
  for (const CapabilityAnswer& answer : answers) result[answer.name.c_str()] = answer.value;
  return result;
}

}  // namespace

void bind_state(py::module_& module) {
  py::native_enum<MpState> states(module, "MpState", "enum.IntEnum", "What a vCPU does when it runs.");
  for (int number = 0; number <= static_cast<int>(MpState::suspended); ++number)
    states.value(mp_state_name(static_cast<MpState>(number)), static_cast<MpState>(number));
  states.finalize();
  bind_registers(module);
  bind_attributes(module);
  bind_clock(module);
}

void add_state(VcpuType& type) {
  type.def_property(
          "mp_state", py::cpp_function([](Vcpu& self) { return self.state()->mp_state(); }, WithoutGil()),
          py::cpp_function([](Vcpu& self, MpState state) { self.state()->set_mp_state(state); }, WithoutGil()),
          "What it does when it runs (MpState). Raises PlatformError for a state that it cannot be in.")
      .def_property_readonly(
          "registers", [](std::shared_ptr<Vcpu> self) { return Registers{std::move(self)}; },
          "Registers by the kernel's numbers (Registers).")
      .def_property_readonly(
          "attributes", [](std::shared_ptr<Vcpu> self) { return Attributes{std::move(self)}; },
          "Settings by group and number (DeviceAttributes).")
      .def(
          "enable_capability",
          [](Vcpu& self, const py::object& name, const py::args& arguments, std::uint32_t flags) {
            enable(self, name, arguments, flags);
          },
          "name"_a, py::kw_only(), "flags"_a = 0, enable_doc);
}

void add_vm_state(VmType& type) {
  type.def_property(
          "clock", py::cpp_function([](const Vm& self) { return self.x86()->clock(); }, WithoutGil()),
          py::cpp_function([](Vm& self, const VmClock& clock) { self.x86()->set_clock(clock); }, WithoutGil()),
          "The clock that paravirtual guests read (VmClock): reading gives a copy, assigning sets it.")
      .def_property("tsc_khz", py::cpp_function([](const Vm& self) { return self.x86()->tsc_khz(); }, WithoutGil()),
                    py::cpp_function([](Vm& self, std::uint32_t khz) { self.x86()->set_tsc_khz(khz); }, WithoutGil()),
                    "Frequency in kHz with which time stamp counters of new vCPUs begin. Raises NotSupported where "
                    "KVM_CAP_VM_TSC_CONTROL is missing.")
      .def(
          "set_pmu_event_filter",
          [](Vm& self, const std::vector<std::uint64_t>& events, bool allow, std::uint32_t fixed_counters) {
            const py::gil_scoped_release release;
            self.x86()->set_pmu_event_filter({allow, events, fixed_counters});
          },
          "events"_a, py::kw_only(), "allow"_a = true, "fixed_counters"_a = 0,
          "Let the guest count only these performance events, or with ``allow=False`` all but these.\n\n"
          "An event is its select in bits 0..7 and 32..35, its unit mask in bits 8..15; ``fixed_counters`` has a bit "
          "for each fixed counter. Raises InvalidConfig for more than 300 events.")
      .def("check_extension", &check<const Vm>, "name"_a, check_doc)
      .def(
          "enable_capability",
          [](Vm& self, const py::object& name, const py::args& arguments, std::uint32_t flags) {
            enable(self, name, arguments, flags);
          },
          "name"_a, py::kw_only(), "flags"_a = 0, enable_doc);
}

void add_hypervisor_state(HypervisorType& type) {
  type.def_property_readonly("capabilities", &capabilities_of,
                             "The kernel's answers to all capabilities known by name: {name: value}, 0 is no.")
      .def("check_extension", &check<const Hypervisor>, "name"_a, check_doc)
      .def_property_readonly(
          "supported_cpuid",
          py::cpp_function(
              [](const Hypervisor& self) { return std::make_shared<CpuidTable>(self.x86()->supported_cpuid()); },
              WithoutGil()),
          "All that guests can be told by CPUID (CpuidTable): the host's processor as far as it can be passed on.")
      .def_property_readonly(
          "emulated_cpuid",
          py::cpp_function(
              [](const Hypervisor& self) { return std::make_shared<CpuidTable>(self.x86()->emulated_cpuid()); },
              WithoutGil()),
          "Features that the hypervisor makes up slowly (CpuidTable).")
      .def_property_readonly(
          "msr_indices",
          py::cpp_function([](const Hypervisor& self) { return self.x86()->msr_indices(); }, WithoutGil()),
          "Numbers of the model-specific registers that save and restore a vCPU.")
      .def_property_readonly("feature_msrs", &feature_msrs,
                             "Registers that describe what the hypervisor can do: {number: value}.");
}
