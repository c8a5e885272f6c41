// The scripted hypervisor. Steps come as vm_accel.testing prepares them: an exit, a callable, None (block) or an errno.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "exit_object.hpp"
#include "gil.hpp"
#include "vm/accel/scripted/hypervisor.hpp"
#include "vm/core/error.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;
using namespace vm::accel::scripted;
using WithoutGil = py::call_guard<py::gil_scoped_release>;

namespace {

/// What a Python `Do` sees. Copies: the object may outlive the step.
struct GuestObject {
  unsigned vm, vcpu;
  X86Regs regs;
  X86SpecialRegs sregs;
  std::vector<std::byte> reply;
  bool refused;
  std::shared_ptr<vm::mem::GuestMemory> memory;
};

py::bytes bytes_of(const std::vector<std::byte>& data) {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

/// The last owner may be a thread without the GIL.
std::shared_ptr<py::object> shared_object(py::object object) {
  return {new py::object(std::move(object)), [](py::object* kept) {
            const GilHeld gil;
            delete kept;
          }};
}

Do action_step(const py::handle& callable) {
  auto action = shared_object(py::reinterpret_borrow<py::object>(callable));
  return {[action](Guest& guest) {
    const GilHeld gil;
    auto seen = std::make_shared<GuestObject>(
        GuestObject{guest.vm, guest.vcpu, guest.regs, guest.sregs, guest.reply, guest.refused, guest.memory});
    (*action)(seen);
    guest.regs = seen->regs;
    guest.sregs = seen->sregs;
  }};
}

template <class T>
bool take_exit(const py::handle& step, Play& play) {
  if (!py::isinstance<ExitObject<T>>(step)) return false;
  const auto& exit = step.cast<const ExitObject<T>&>();
  play.exit = exit.value;
  if (exit.data) {
    const auto data = exit.data.template cast<std::string>();
    const auto* first = reinterpret_cast<const std::byte*>(data.data());
    play.data.assign(first, first + data.size());
  }
  return true;
}

template <class... T>
bool take_any_exit(const py::handle& step, Play& play, const std::variant<T...>* /*names the types*/) {
  return (take_exit<T>(step, play) || ...);
}

Step step_from(const py::handle& step) {
  if (step.is_none()) return Block{};
  if (PyLong_Check(step.ptr()) != 0) return Fail{step.cast<int>()};
  if (PyCallable_Check(step.ptr()) != 0) return action_step(step);
  Play play;
  if (take_any_exit(step, play, static_cast<const Exit*>(nullptr))) return play;
  throw vm::InvalidConfig("a script is made of exits, Do, Block, Fail and Loop; got " +
                          py::repr(step).cast<std::string>());
}

using PythonScript = std::pair<py::list, std::optional<std::size_t>>;

Plan plan_from(const std::map<unsigned, PythonScript>& scripts, bool record, std::size_t max_slots,
               unsigned max_vcpus) {
  Plan plan;
  for (const auto& [vcpu, source] : scripts) {
    Script script;
    for (const py::handle step : source.first) script.steps.push_back(step_from(step));
    script.repeat_from = source.second;
    plan.scripts.emplace(vcpu, std::move(script));
  }
  plan.record = record;
  plan.max_slots = max_slots;
  plan.max_vcpus = max_vcpus;
  return plan;
}

struct ValueObject {
  py::object operator()(std::monostate) const { return py::none(); }
  py::object operator()(const MemorySlot& slot) const { return py::cast(slot); }
  py::object operator()(const SlotChange& change) const { return py::make_tuple(change.before, change.after); }
  py::object operator()(const Exit& exit) const { return exit_object(exit); }
  py::object operator()(const std::vector<std::byte>& data) const { return bytes_of(data); }
  py::object operator()(const X86Regs& regs) const { return py::cast(regs); }
  py::object operator()(const X86SpecialRegs& sregs) const { return py::cast(sregs); }
  py::object operator()(const std::string& name) const { return py::str(name); }
};

py::list calls(const ScriptedHypervisor& self) {
  py::list result;
  for (const Call& call : self.calls()) {
    result.append(
        py::make_tuple(call_name(call.kind), call.vm, call.vcpu, call.error, std::visit(ValueObject(), call.value)));
  }
  return result;
}

void bind_guest(py::module_& module) {
  py::class_<GuestObject, std::shared_ptr<GuestObject>>(
      module, "ScriptedGuest", "What a ``Do`` step may touch: the side of the guest, while its vCPU runs.")
      .def_readonly("vm", &GuestObject::vm, "Which VM of the hypervisor, from 0.")
      .def_readonly("vcpu", &GuestObject::vcpu, "Number of the vCPU.")
      .def_readwrite("regs", &GuestObject::regs, "General registers; what the step leaves here is kept.")
      .def_readwrite("sregs", &GuestObject::sregs, "Segment, table and control registers, likewise.")
      .def_property_readonly(
          "reply", [](const GuestObject& self) { return bytes_of(self.reply); },
          "The answer to the exit before, as bytes; empty when it asked for none.")
      .def_readonly("refused", &GuestObject::refused, "Whether the exit before, an MSR's, was refused.")
      .def_readonly("memory", &GuestObject::memory,
                    "A vm_mem.GuestMemory over the slots; writing to a read-only slot raises AccessViolation.");
}

}  // namespace

void bind_scripted(py::module_& module) {
  bind_guest(module);
  py::class_<ScriptedHypervisor, Hypervisor, py::smart_holder>(
      module, "ScriptedHypervisor", "The compiled part of vm_accel.testing.ScriptedHypervisor.")
      .def(py::init([](const std::map<unsigned, PythonScript>& scripts, bool record, std::size_t max_slots,
                       unsigned max_vcpus) {
             return std::make_unique<ScriptedHypervisor>(plan_from(scripts, record, max_slots, max_vcpus));
           }),
           "scripts"_a, "record"_a, "max_slots"_a, "max_vcpus"_a)
      .def("recorded_calls", &calls, "The calls as tuples: name, vm, vcpu, error, value.")
      .def("forget_calls", &ScriptedHypervisor::forget_calls, "Begin a new record.")
      .def(
          "fail",
          [](ScriptedHypervisor& self, const std::string& call, int error, Unsigned nth) {
            self.fail(parse_call(call), error, nth.value);
          },
          "call"_a, "error"_a, "nth"_a = Unsigned{1},
          "The ``nth`` call of this name from now on fails as if the operating system had refused with this errno.\n\n"
          "Counted over all VMs and vCPUs. ENOMEM, EMFILE and ENFILE are ResourceExhausted, ENOTTY and EOPNOTSUPP "
          "NotSupported, all others PlatformError. Raises InvalidConfig for a name that no call has, and for 0.")
      .def("nudges", &ScriptedHypervisor::nudges, "vcpu"_a = 0, "vm"_a = 0,
           "How often a vCPU was asked to come back: kicks, timeouts and looks for signals, and its end while it ran.");
}
