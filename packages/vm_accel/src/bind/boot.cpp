// Loaders, and the states in which a guest begins.

#include "boot.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "vm/accel/boot/memory_map.hpp"
#include "vm/accel/boot/x86_modes.hpp"
#include "vm/core/error.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;
using vm::mem::GuestMemory;

namespace {

boot::Image image_from(const py::handle& source) {
  if (PyBytes_Check(source.ptr()) != 0) {
    const auto* first = reinterpret_cast<const std::byte*>(PyBytes_AS_STRING(source.ptr()));
    return {"image", {first, first + PyBytes_GET_SIZE(source.ptr())}};
  }
  const auto path = source.cast<std::filesystem::path>();
  const py::gil_scoped_release release;
  return boot::Image::read(path.string());
}

std::string repr(const boot::LoadedImage& self) {
  return std::string("<LoadedImage ") + boot::image_kind_name(self.kind) + ", " + vm::hex(self.first) + "-" +
         vm::hex(self.last) + ", enters " + boot::entry_mode_name(self.mode) + " at " + vm::hex(self.regs.rip) + ">";
}

boot::LongModeOptions long_mode_from(unsigned privilege, Unsigned gdt, Unsigned tss, Unsigned tables,
                                     Unsigned tables_end, Unsigned mapped, Unsigned exception_stack) {
  boot::LongModeOptions options;
  options.privilege = privilege;
  options.gdt = gdt.value;
  options.tss = tss.value;
  options.tables = tables.value;
  options.tables_end = tables_end.value;
  options.mapped = mapped.value;
  options.exception_stack = exception_stack.value;
  return options;
}

py::list map_of(const GuestMemory& memory) {
  py::list result;
  for (const boot::MemoryRange& range : boot::memory_map(memory))
    result.append(py::make_tuple(range.base, range.size, static_cast<unsigned>(range.type)));
  return result;
}

void bind_modes(py::module_& module) {
  module.def("set_real_mode", &boot::set_real_mode, "sregs"_a, "16-bit real mode, all segments at 0.");
  module.def(
      "set_protected_mode", [](X86SpecialRegs& sregs, Unsigned gdt) { boot::set_protected_mode(sregs, gdt.value); },
      "sregs"_a, "gdt"_a = Unsigned{boot::place::gdt},
      "32-bit protected mode without paging, flat segments of the table that ``write_gdt`` made at ``gdt``.");
  module.def(
      "write_gdt",
      [](GuestMemory& memory, Unsigned gdt, Unsigned tss, Unsigned stack, bool ports) {
        boot::write_gdt(memory, gdt.value, tss.value, stack.value, ports);
      },
      "memory"_a, "gdt"_a = Unsigned{boot::place::gdt}, "tss"_a = Unsigned{boot::place::tss}, "stack"_a = Unsigned{},
      "ports"_a = false,
      "Write a segment table with flat segments (selectors 0x08 32-bit code, 0x10 64-bit code, 0x18 data, 0x23 and "
      "0x2b for the user, 0x30 task) and a task state whose stack for exceptions out of privilege 3 is ``stack``. With "
      "``ports`` it lets user code use all ports.");
  module.def(
      "write_gate",
      [](GuestMemory& memory, Unsigned idt, std::uint8_t vector, Unsigned handler, std::uint16_t selector,
         std::uint8_t stack, std::uint8_t privilege, bool trap) {
        boot::write_gate(memory, idt.value, vector, {handler.value, selector, stack, privilege, trap});
      },
      "memory"_a, "idt"_a, "vector"_a, "handler"_a, py::kw_only(), "selector"_a = boot::selector::code64, "stack"_a = 0,
      "privilege"_a = 0, "trap"_a = false,
      "Write one gate of a 64-bit interrupt table. ``stack``: 1 to 7, a stack of the task state; 0: the current one.");
  const boot::LongModeOptions defaults;
  module.def(
      "enter_long_mode",
      [](const std::shared_ptr<GuestMemory>& memory, Vcpu& vcpu, Unsigned rip, Unsigned rsp, unsigned privilege,
         Unsigned gdt, Unsigned tss, Unsigned tables, Unsigned tables_end, Unsigned mapped, Unsigned exception_stack) {
        const auto options = long_mode_from(privilege, gdt, tss, tables, tables_end, mapped, exception_stack);
        const py::gil_scoped_release release;
        boot::enter_long_mode(memory, vcpu, rip.value, rsp.value, options);
      },
      "memory"_a, "vcpu"_a, "rip"_a, "rsp"_a, py::kw_only(), "privilege"_a = 0, "gdt"_a = Unsigned{defaults.gdt},
      "tss"_a = Unsigned{defaults.tss}, "tables"_a = Unsigned{defaults.tables},
      "tables_end"_a = Unsigned{defaults.tables_end}, "mapped"_a = Unsigned{defaults.mapped},
      "exception_stack"_a = Unsigned{defaults.exception_stack},
      "Make the vCPU begin at ``rip`` in 64-bit mode, at privilege 0 or 3.\n\n"
      "Writes a segment table, a task state and page tables that map the first ``mapped`` bytes to themselves. User "
      "code may use ports. Raises InvalidConfig, ResourceExhausted when the page tables do not fit before "
      "``tables_end``, OutOfRange.");
}

}  // namespace

boot::LoadedImage load_with(
    const py::object& image, const std::string& kind, const std::string& command_line, const py::sequence& modules,
    Unsigned flat_address, const std::function<boot::LoadedImage(const boot::Image&, const boot::LoadOptions&)>& load) {
  boot::LoadOptions options;
  options.kind = boot::parse_image_kind(kind);
  options.command_line = command_line;
  options.flat_address = flat_address.value;
  for (const py::handle module : modules) options.modules.push_back(image_from(module));
  const boot::Image bytes = image_from(image);
  const py::gil_scoped_release release;
  return load(bytes, options);
}

void bind_boot(py::module_& module) {
  py::class_<boot::LoadedImage>(module, "LoadedImage", "What a loader put into guest memory, and how it begins.")
      .def_property_readonly(
          "kind", [](const boot::LoadedImage& self) { return boot::image_kind_name(self.kind); },
          "\"flat\", \"elf\", \"multiboot\", \"bzimage\" or \"pvh\".")
      .def_property_readonly(
          "mode", [](const boot::LoadedImage& self) { return boot::entry_mode_name(self.mode); },
          "\"real16\", \"protected32\" or \"long64\".")
      .def_readonly("regs", &boot::LoadedImage::regs, "Registers (X86Regs) with which it begins.")
      .def_readonly("first", &boot::LoadedImage::first, "The program's first guest-physical address.")
      .def_readonly("last", &boot::LoadedImage::last, "Its last one, memory that it wants cleared included.")
      .def("__repr__", [](const boot::LoadedImage& self) { return repr(self); });
  module.def(
      "load_image",
      [](const std::shared_ptr<GuestMemory>& memory, const py::object& image, const std::string& kind,
         const std::string& command_line, const py::sequence& modules, Unsigned flat_address) {
        return load_with(image, kind, command_line, modules, flat_address,
                         [&memory](const boot::Image& bytes, const boot::LoadOptions& options) {
                           return boot::load(memory, bytes, options);
                         });
      },
      "memory"_a, "image"_a, py::kw_only(), "kind"_a = "automatic", "command_line"_a = "", "modules"_a = py::tuple(),
      "flat_address"_a = Unsigned{0x7C00},
      "Put a program, a path or bytes, into guest memory as a boot loader does.\n\n"
      "kind: \"flat\", \"elf\", \"multiboot\", \"bzimage\", \"pvh\", or \"automatic\". modules: paths or bytes; an "
      "initrd "
      "for Linux. Raises InvalidConfig saying what is wrong with the image at which offset, or what does not fit; "
      "NotSupported; OSError. Nothing of a refused image is in memory.");
  module.def("enter_image", &boot::enter, "memory"_a, "vcpu"_a, "loaded"_a, py::call_guard<py::gil_scoped_release>(),
             "Make the vCPU begin where the loaded image does. On the vCPU's thread.");
  module.def(
      "pc_memory", [](Unsigned size) { return boot::pc_memory(size.value); }, "size"_a,
      "GuestMemory of ``size`` bytes as a PC has it: with a hole of 1 GiB below 4 GiB. Raises InvalidConfig.");
  module.def("memory_map", &map_of, "memory"_a,
             "What a guest is told: (base, size, type) by address, type 1 for usable and 2 for reserved memory.");
  bind_modes(module);
}
