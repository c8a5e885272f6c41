// What becomes an exit, and devices that the hypervisor plays.

#include "vm/accel/hypervisor/exit_policy.hpp"

#include <pybind11/native_enum.h>
#include <pybind11/stl.h>

#include <cstring>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "vm/accel/hypervisor/kernel_device.hpp"
#include "vm/core/error.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;
using WithoutGil = py::call_guard<py::gil_scoped_release>;

namespace {

std::uint32_t index_of(Unsigned number) {
  if (number.value > UINT32_MAX) throw vm::InvalidConfig("registers have 32 bits, got " + vm::hex(number.value));
  return static_cast<std::uint32_t>(number.value);
}

std::string repr(const MsrRange& self) {
  std::size_t allowed = 0;
  for (const bool one : self.allowed) allowed += one ? 1 : 0;
  return "<MsrRange " + vm::hex(self.base) + ", " + std::to_string(allowed) + " of " +
         std::to_string(self.allowed.size()) + " allowed" + (self.reads ? ", reads" : "") +
         (self.writes ? ", writes" : "") + ">";
}

void bind_ranges(py::module_& module) {
  py::class_<MsrRange>(module, "MsrRange", "What a filter says about model-specific registers from ``base`` on.")
      .def(py::init([](Unsigned base, std::vector<bool> allowed, bool reads, bool writes) {
             return MsrRange{index_of(base), std::move(allowed), reads, writes};
           }),
           "base"_a, "allowed"_a, py::kw_only(), "reads"_a = true, "writes"_a = true,
           "``allowed``: a truth value per register; ``reads``, ``writes``: the accesses that it speaks about.")
      .def_readonly("base", &MsrRange::base, "The first register.")
      .def_readonly("allowed", &MsrRange::allowed, "One per register.")
      .def_readonly("reads", &MsrRange::reads)
      .def_readonly("writes", &MsrRange::writes)
      .def("__repr__", &repr);
}

void bind_devices(py::module_& module) {
  py::native_enum<KernelDeviceKind>(module, "KernelDeviceKind", "enum.IntEnum", "KVM's own numbers.")
      .value("VFIO", KernelDeviceKind::vfio)
      .value("ARM_VGIC_V2", KernelDeviceKind::arm_vgic_v2)
      .value("ARM_VGIC_V3", KernelDeviceKind::arm_vgic_v3)
      .value("ARM_VGIC_ITS", KernelDeviceKind::arm_vgic_its)
      .value("RISCV_AIA", KernelDeviceKind::riscv_aia)
      .finalize();
  py::class_<KernelDevice, py::smart_holder>(
      module, "KernelDevice", "A device that the hypervisor plays, configured by attributes. Any thread.")
      .def("fileno", &KernelDevice::descriptor, "The descriptor that other interfaces of the kernel want.")
      .def(
          "has",
          [](const KernelDevice& self, std::uint32_t group, Unsigned attribute) {
            return self.has(group, attribute.value);
          },
          WithoutGil(), "group"_a, "attribute"_a, "Whether it has this attribute.")
      .def(
          "get",
          [](const KernelDevice& self, std::uint32_t group, Unsigned attribute, Unsigned size) {
            std::vector<std::byte> value;
            {
              const py::gil_scoped_release release;
              value = self.get(group, attribute.value, size.value);
            }
            return py::bytes(reinterpret_cast<const char*>(value.data()), value.size());
          },
          "group"_a, "attribute"_a, "size"_a, "The first ``size`` bytes of its value, at most 4096.")
      .def(
          "set",
          [](KernelDevice& self, std::uint32_t group, Unsigned attribute, const py::bytes& value) {
            std::vector<std::byte> copy(static_cast<std::size_t>(PyBytes_GET_SIZE(value.ptr())));
            if (!copy.empty()) std::memcpy(copy.data(), PyBytes_AS_STRING(value.ptr()), copy.size());
            const py::gil_scoped_release release;
            self.set(group, attribute.value, copy);
          },
          "group"_a, "attribute"_a, "value"_a = py::bytes(), "Write it; commands take no bytes.");
}

}  // namespace

void bind_exit_policy(py::module_& module) {
  bind_ranges(module);
  bind_devices(module);
}

void add_exit_policy(VmType& type) {
  type.def(
          "set_msr_exits",
          [](const Vm& self, bool invalid, bool unknown, bool filtered) {
            self.exit_policy()->set_msr_exits({invalid, unknown, filtered});
          },
          WithoutGil(), py::kw_only(), "invalid"_a = false, "unknown"_a = false, "filtered"_a = false,
          "Which accesses to model-specific registers become RdMsr and WrMsr instead of a fault in the guest.\n\n"
          "``invalid``: they make no sense; ``unknown``: the hypervisor does not know the register; ``filtered``: the "
          "filter denies them.")
      .def(
          "set_msr_filter",
          [](const Vm& self, std::vector<MsrRange> ranges, bool deny_others) {
            self.exit_policy()->set_msr_filter({deny_others, std::move(ranges)});
          },
          WithoutGil(), "ranges"_a, py::kw_only(), "deny_others"_a = false,
          "Replace the filter of model-specific registers; without ranges everything passes.\n\n"
          "The first MsrRange that has the register and speaks about the kind of access decides; ``deny_others`` "
          "denies what none speaks about. Raises InvalidConfig for what KVM would refuse or could not keep.")
      .def(
          "set_hypercall_exits",
          [](const Vm& self, const std::set<unsigned>& numbers) { self.exit_policy()->set_hypercall_exits(numbers); },
          WithoutGil(), "numbers"_a,
          "The hypercalls, a set of numbers, that become Hypercall exits. Raises NotSupported for one that cannot.")
      .def_property_readonly(
          "possible_hypercall_exits", [](const Vm& self) { return self.exit_policy()->possible_hypercall_exits(); },
          "The hypercalls that can become exits.")
      .def(
          "disable_exits",
          [](const Vm& self, bool mwait, bool hlt, bool pause, bool cstate) {
            self.exit_policy()->disable_exits({mwait, hlt, pause, cstate});
          },
          WithoutGil(), py::kw_only(), "mwait"_a = false, "hlt"_a = false, "pause"_a = false, "cstate"_a = false,
          "Let the guest do these without an exit, for good; before the first vCPU.\n\n"
          "Raises NotSupported for what this machine cannot give, InvalidConfig when there is a vCPU.")
      .def(
          "create_device", [](const Vm& self, KernelDeviceKind kind) { return self.create_device(kind); }, WithoutGil(),
          "kind"_a, "Let the hypervisor play a device; returns a KernelDevice. Raises NotSupported where it has none.");
}
