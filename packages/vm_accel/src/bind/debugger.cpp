// Debugger: breakpoints, watchpoints and steps over the vCPUs of a VM.

#include "vm/accel/debug/debugger.hpp"

#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>

#include "bind.hpp"
#include "debug_objects.hpp"
#include "gil.hpp"
#include "run_time.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;

namespace {

BreakpointKind breakpoint_kind(const std::string& name) {
  if (name == "auto") return BreakpointKind::automatic;
  if (name == "software") return BreakpointKind::software;
  if (name == "hardware") return BreakpointKind::hardware;
  throw vm::InvalidConfig("a breakpoint is of kind 'auto', 'software' or 'hardware', not '" + name + "'");
}

WatchpointKind watchpoint_kind(const std::string& name) {
  if (name == "auto") return WatchpointKind::automatic;
  if (name == "hardware") return WatchpointKind::hardware;
  if (name == "stepping") return WatchpointKind::stepping;
  throw vm::InvalidConfig("a watchpoint is of kind 'auto', 'hardware' or 'stepping', not '" + name + "'");
}

std::optional<unsigned> id_from(const py::object& vcpu) {
  if (vcpu.is_none()) return {};
  if (py::isinstance<Vcpu>(vcpu)) return vcpu.cast<const Vcpu&>().id();
  return vcpu.cast<unsigned>();
}

std::shared_ptr<Vcpu> vcpu_of(const Debugger& debugger, unsigned id) {
  for (const auto& vcpu : debugger.vm()->vcpus()) {
    if (vcpu->id() == id) return vcpu;
  }
  return nullptr;
}

py::object stop_object(const Debugger& debugger, const Stop& stop) {
  py::object exit = py::none();
  if (stop.reason == StopReason::exit) {
    if (const std::shared_ptr<Vcpu> vcpu = vcpu_of(debugger, stop.vcpu)) {
      const Vcpu::Use held(*vcpu);  // another thread may close it
      exit = last_exit_object(vcpu);
    }
  }
  return py::cast(StopObject{stop, exit});
}

/// Calls `work` with run options and without the GIL; its Stop for Python.
template <class Work>
py::object stopped(Debugger& self, const py::object& timeout, Work work) {
  PythonSignals signals;
  const RunOptions options{timeout_from(timeout), &signals};
  Stop stop;
  {
    const GilReleased release;
    stop = work(options);
  }
  return stop_object(self, stop);
}

py::object run(Debugger& self, const py::object& timeout, const py::object& vcpu) {
  const auto id = id_from(vcpu);
  return stopped(self, timeout, [&](const RunOptions& options) { return self.run(options, id); });
}

py::object step(Debugger& self, const py::object& vcpu, const py::object& timeout) {
  const auto id = id_from(vcpu);
  return stopped(self, timeout, [&](const RunOptions& options) { return self.step(id, options); });
}

py::object run_to(Debugger& self, Unsigned vaddr, const py::object& timeout, const py::object& vcpu) {
  const auto id = id_from(vcpu);
  return stopped(self, timeout, [&](const RunOptions& options) { return self.run_to(vaddr.value, options, id); });
}

py::object run_until(Debugger& self, const py::function& condition, std::uint64_t limit, const py::object& vcpu,
                     const py::object& timeout) {
  const auto id = id_from(vcpu);
  const auto reached = [&](Vcpu& at) {
    const GilHeld gil;
    return py::bool_(condition(vcpu_of(self, at.id()))).cast<bool>();
  };
  return stopped(self, timeout, [&](const RunOptions& options) { return self.run_until(reached, limit, id, options); });
}

py::bytes read(Debugger& self, Unsigned vaddr, std::size_t size, const py::object& vcpu) {
  const auto id = id_from(vcpu);
  if (size > PY_SSIZE_T_MAX) throw vm::OutOfRange("no guest has " + std::to_string(size) + " bytes", vaddr.value, size);
  const auto result =
      py::reinterpret_steal<py::bytes>(PyBytes_FromStringAndSize(nullptr, static_cast<py::ssize_t>(size)));
  if (!result) throw py::error_already_set();
  char* to = PyBytes_AS_STRING(result.ptr());
  {
    const py::gil_scoped_release release;
    self.read(vaddr.value, to, size, id);
  }
  return result;
}

void write(Debugger& self, Unsigned vaddr, const py::object& source, const py::object& vcpu) {
  const auto id = id_from(vcpu);
  const py::bytes data(source);
  const char* from = PyBytes_AS_STRING(data.ptr());
  const auto size = static_cast<std::size_t>(PyBytes_GET_SIZE(data.ptr()));
  const py::gil_scoped_release release;
  self.write(vaddr.value, from, size, id);
}

py::object selected_space(const Vm& self, Vcpu& vcpu) {
  std::optional<X86SpecialRegs> sregs;
  std::uint64_t rflags = 0;
  {
    const py::gil_scoped_release release;
    auto x86 = vcpu.x86();
    sregs = x86->sregs();
    rflags = x86->regs().rflags;
  }
  const py::module_ paging = py::module_::import("vm_mem.paging");
  const py::object config =
      paging.attr("X86").attr("from_registers")("cr0"_a = sregs->cr0, "cr3"_a = sregs->cr3, "cr4"_a = sregs->cr4,
                                                "efer"_a = sregs->efer, "ac"_a = (rflags >> 18 & 1) != 0);
  return paging.attr("AddressSpace")(self.memory(), config);
}

void bind_points(py::class_<Debugger, py::smart_holder>& type) {
  type.def(
          "break_at",
          [](Debugger& self, Unsigned vaddr, const std::string& kind, const py::object& vcpu) {
            const BreakpointKind wanted = breakpoint_kind(kind);
            const auto id = id_from(vcpu);
            const py::gil_scoped_release release;
            return self.break_at(vaddr.value, wanted, id);
          },
          "vaddr"_a, py::kw_only(), "kind"_a = "auto", "vcpu"_a = py::none(),
          "Stop before the instruction at the linear address ``vaddr``, as ``vcpu`` sees memory; returns a "
          "Breakpoint.\n\n"
          "``kind``: 'software' writes a trap instruction into guest memory, 'hardware' takes a debug register, 'auto' "
          "picks software where memory can be written and it works here. Raises PageFault, OutOfRange, "
          "AccessViolation (read-only memory), ResourceExhausted (debug registers), NotSupported.")
      .def(
          "watch",
          [](Debugger& self, Unsigned vaddr, std::uint8_t size, bool read, bool write, const std::string& kind,
             const py::object& vcpu) {
            const WatchpointKind wanted = watchpoint_kind(kind);
            const auto id = id_from(vcpu);
            const py::gil_scoped_release release;
            return self.watch(vaddr.value, size, read, write, wanted, id);
          },
          "vaddr"_a, "size"_a, "read"_a = false, "write"_a = true, py::kw_only(), "kind"_a = "auto",
          "vcpu"_a = py::none(),
          "Stop after an access to ``size`` bytes (1, 2, 4, 8) at ``vaddr``, a multiple of size; returns a "
          "Watchpoint.\n\n"
          "x86 cannot watch reads alone: ``read`` includes writes. ``kind``: 'hardware' takes a debug register, "
          "'stepping' makes every instruction a step and sees bytes change, which is slow; 'auto' picks hardware where "
          "it works here. Raises InvalidConfig, and as break_at.")
      .def(
          "remove",
          [](Debugger& self, const py::object& point) {
            const unsigned id = (py::hasattr(point, "id") ? point.attr("id") : point).cast<unsigned>();
            const py::gil_scoped_release release;
            self.remove(id);
          },
          "point"_a, "Take away a Breakpoint or Watchpoint, given itself or by its id. Raises OutOfRange.")
      .def("clear", &Debugger::clear, py::call_guard<py::gil_scoped_release>(), "Take away all of them.")
      .def_property_readonly("breakpoints", &Debugger::breakpoints, "Those that are set, with their hits so far.")
      .def_property_readonly("watchpoints", &Debugger::watchpoints, "Those that are set, with their hits so far.");
}

void bind_running(py::class_<Debugger, py::smart_holder>& type) {
  type.def("run", &run, "timeout"_a = py::none(), py::kw_only(), "vcpu"_a = py::none(),
           "Run all vCPUs in turn, or only one, until one stops; returns a Stop.\n\n"
           "``timeout`` is in seconds. An exit that asks a question is answered through ``stop.exit`` before the next "
           "run. Releases the GIL; Ctrl-C raises KeyboardInterrupt. Raises what Vcpu.run raises.")
      .def("step", &step, "vcpu"_a = py::none(), py::kw_only(), "timeout"_a = py::none(),
           "Execute one instruction of a vCPU while the others stand still; returns a Stop.\n\n"
           "Arriving at a breakpoint is 'breakpoint', not 'step'. Raises NotSupported where code does not stop after "
           "one instruction.")
      .def("run_to", &run_to, "vaddr"_a, py::kw_only(), "timeout"_a = py::none(), "vcpu"_a = py::none(),
           "Run until ``vaddr`` with a breakpoint of its own, or until anything else stops the guest first.")
      .def("run_until", &run_until, "condition"_a, py::kw_only(), "limit"_a = 1'000'000, "vcpu"_a = py::none(),
           "timeout"_a = py::none(),
           "Step a vCPU until ``condition(vcpu)`` is true after an instruction; returns a Stop.\n\n"
           "After ``limit`` instructions the stop is 'timeout', which is also what ``timeout`` seconds for a single "
           "one give.")
      .def("interrupt", &Debugger::interrupt, py::call_guard<py::gil_scoped_release>(),
           "Make the run in progress, or the next one, stop as 'interrupted'. Any thread.")
      .def("forget_interrupt", &Debugger::forget_interrupt,
           "Forget an interrupt that came after the run it was meant for.");
}

void bind_memory(py::class_<Debugger, py::smart_holder>& type) {
  type.def("read", &read, "vaddr"_a, "size"_a, py::kw_only(), "vcpu"_a = py::none(),
           "Bytes at a linear address as a vCPU's page tables show them, breakpoints hidden.\n\n"
           "Raises PageFault, OutOfRange.")
      .def("write", &write, "vaddr"_a, "data"_a, py::kw_only(), "vcpu"_a = py::none(),
           "Write at a linear address; breakpoints stay where they are. Raises PageFault, OutOfRange, "
           "AccessViolation.")
      .def(
          "pc",
          [](Debugger& self, const py::object& vcpu) {
            const auto id = id_from(vcpu);
            const py::gil_scoped_release release;
            return self.pc(id);
          },
          "vcpu"_a = py::none(), "The linear address of a vCPU's next instruction.");
}

}  // namespace

void bind_debugger(py::module_& module) {
  bind_debug_objects(module);
  py::class_<Debugger, py::smart_holder> type(
      module, "Debugger",
      "Breakpoints, watchpoints and steps over the vCPUs of a VM.\n\n"
      "All vCPUs stand still while one is looked at, and they take turns on the calling thread, which owns them "
      "(``vcpu.attach``). Addresses are linear. A software breakpoint is put where its address translates to when it "
      "is set; ``read`` and ``write`` do not show it, other ways to the memory do, so ``clear`` before a snapshot. "
      "Debug exceptions that are the guest's own are given to it and are no stops. The end of a ``with`` block "
      "restores everything.\n\n"
      "One thread, but for ``interrupt``. Raises NotSupported for guests that are not x86.");
  type.def(py::init<std::shared_ptr<Vm>>(), "vm"_a)
      .def_property_readonly("vm", &Debugger::vm, "The VM.")
      .def_property_readonly(
          "support",
          [](Debugger& self) {
            const py::gil_scoped_release release;
            return self.support();
          },
          "What works on this machine (DebugSupport), found out by trying.")
      .def("detach", &Debugger::detach, py::call_guard<py::gil_scoped_release>(),
           "Take everything away and stop debugging the vCPUs. Twice is fine.")
      .def("__enter__", [](const py::object& self) { return self; })
      .def("__exit__",
           [](Debugger& self, const py::args&) {
             const py::gil_scoped_release release;
             self.detach();
           })
      .def("__repr__", [](const Debugger& self) {
        return "<Debugger: " + std::to_string(self.breakpoints().size()) + " breakpoints, " +
               std::to_string(self.watchpoints().size()) + " watchpoints>";
      });
  bind_points(type);
  bind_running(type);
  bind_memory(type);
}

void add_address_space(VmType& type) {
  type.def("address_space", &selected_space, "vcpu"_a,
           "The vm_mem.paging.AddressSpace that a vCPU's registers select now, over the memory of the VM.\n\n"
           "Raises InvalidConfig while its paging is off: then linear addresses are physical addresses.");
}
