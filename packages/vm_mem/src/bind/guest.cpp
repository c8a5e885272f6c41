// GuestMemory, Region and CpuState for Python.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "guest_docs.hpp"
#include "huge_pages.hpp"
#include "touch.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using vm::mem::CpuState;
using vm::mem::GuestMemory;
using vm::mem::HostMapping;
using vm::mem::HugePages;
using vm::mem::Region;
using Path = std::filesystem::path;
using WithoutGil = py::call_guard<py::gil_scoped_release>;

namespace {

/// A copy of at most this many bytes is done before another thread could take the GIL.
constexpr std::uint64_t quick_copy = 4096;
/// Bytes between two looks for signals.
constexpr std::uint64_t signal_step = std::uint64_t{1} << 26;

void raise_pending_signal() {
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

py::bytes read(const GuestMemory& memory, Unsigned paddr, Unsigned size) {
  memory.table()->require(paddr.value, size.value, "read");  // before memory for a result is asked for
  auto result =
      py::reinterpret_steal<py::bytes>(PyBytes_FromStringAndSize(nullptr, static_cast<py::ssize_t>(size.value)));
  if (!result) throw py::error_already_set();
  char* to = PyBytes_AS_STRING(result.ptr());
  if (size.value <= quick_copy && !memory.lazy()) {
    memory.read(paddr.value, to, size.value);
    return result;
  }
  for (std::uint64_t done = 0; done < size.value; done += signal_step) {
    {
      const py::gil_scoped_release release;
      memory.read(paddr.value + done, to + done, std::min(signal_step, size.value - done));
    }
    raise_pending_signal();
  }
  return result;
}

/// The bytes of an object with the buffer protocol, kept from changing their size.
class ContiguousBuffer {
 public:
  explicit ContiguousBuffer(const py::object& source) {
    if (PyObject_GetBuffer(source.ptr(), &buffer_, PyBUF_SIMPLE) == 0) return;
    const py::error_already_set error;
    if (error.matches(PyExc_TypeError))
      throw py::type_error(std::string("write needs bytes or a buffer: ") + error.what());
    throw vm::InvalidConfig("write needs one contiguous run of bytes; numpy.ascontiguousarray makes one (" +
                            std::string(error.what()) + ")");
  }
  ContiguousBuffer(const ContiguousBuffer&) = delete;
  ContiguousBuffer& operator=(const ContiguousBuffer&) = delete;
  ~ContiguousBuffer() { PyBuffer_Release(&buffer_); }

  const void* data() const { return buffer_.buf; }
  std::uint64_t size() const { return static_cast<std::uint64_t>(buffer_.len); }

 private:
  Py_buffer buffer_{};
};

void write(GuestMemory& memory, Unsigned paddr, const py::object& source) {
  const ContiguousBuffer buffer(source);
  if (buffer.size() <= quick_copy && !memory.lazy()) return memory.write(paddr.value, buffer.data(), buffer.size());
  const py::gil_scoped_release release;
  memory.write(paddr.value, buffer.data(), buffer.size());
}

/// Something for an array to hold on to that keeps `mapping` mapped.
py::capsule keeper_of(std::shared_ptr<HostMapping> mapping) {
  auto owner = std::make_unique<std::shared_ptr<HostMapping>>(std::move(mapping));
  py::capsule capsule(owner.get(), [](void* pointer) {
    const std::unique_ptr<std::shared_ptr<HostMapping>> last(static_cast<std::shared_ptr<HostMapping>*>(pointer));
    const py::gil_scoped_release release;  // unmapping many pages takes time
    last->reset();
  });
  owner.release();  // the capsule's now
  return capsule;
}

/// Lazy memory with a Python source is filled first, which may wait for a thread that needs the GIL.
vm::mem::HostView host_view(const GuestMemory& memory, std::uint64_t paddr, std::uint64_t size) {
  if (!memory.lazy()) return memory.view(paddr, size);
  const py::gil_scoped_release release;
  return memory.view(paddr, size);
}

py::object view(const GuestMemory& memory, Unsigned paddr, Unsigned size, const py::object& dtype) {
  const py::dtype type = py::dtype::from_args(dtype);
  const auto item = static_cast<std::uint64_t>(type.itemsize());
  if (type.attr("hasobject").cast<bool>()) {
    throw vm::InvalidConfig("guest memory holds no Python objects; choose another dtype than " +
                            py::repr(type).cast<std::string>());
  }
  if (item == 0 || size.value % item != 0) {
    throw vm::InvalidConfig("a view of " + std::to_string(size.value) + " bytes is no whole number of items of " +
                            std::to_string(item) + " bytes (" + py::repr(type).cast<std::string>() + ")");
  }
  const vm::mem::HostView host = host_view(memory, paddr.value, size.value);
  if (size.value == 0) return py::array(type, std::vector<py::ssize_t>{0});
  const py::array bytes(py::dtype::of<std::uint8_t>(), {static_cast<py::ssize_t>(size.value)}, {py::ssize_t{1}},
                        host.host, keeper_of(host.mapping));
  // NumPy lets nobody set the flag again, because a capsule offers no writable buffer.
  if (!host.writable) bytes.attr("flags").attr("writeable") = false;
  return bytes.attr("view")(type);
}

/// Without the host memory: a list of regions must not keep pages mapped after close().
std::vector<Region> regions(const GuestMemory& memory) {
  std::vector<Region> list = memory.table()->regions();
  for (Region& region : list) {
    region.host = nullptr;
    region.mapping.reset();
  }
  return list;
}

bool contains(const GuestMemory& memory, const py::int_& paddr) {
  const auto table = memory.table();
  const unsigned long long address = PyLong_AsUnsignedLongLong(paddr.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();  // negative or above 64 bits: no memory there
    return false;
  }
  return table->find(address) != nullptr;
}

void discard(GuestMemory& memory, Unsigned paddr, Unsigned size) {
  const py::gil_scoped_release release;
  memory.discard(paddr.value, size.value);
}

void populate(GuestMemory& memory, Unsigned paddr, Unsigned size) {
  const py::gil_scoped_release release;
  const TouchGuard touching(memory);
  memory.populate(paddr.value, size.value);
}

std::uint64_t resident(const GuestMemory& memory, const std::optional<Unsigned>& paddr,
                       const std::optional<Unsigned>& size) {
  if (paddr.has_value() != size.has_value())
    throw vm::InvalidConfig("resident takes paddr and size together, or neither for all of the memory");
  const py::gil_scoped_release release;
  if (paddr) return memory.resident(paddr->value, size->value);
  std::uint64_t bytes = 0;
  const auto table = memory.table();
  for (const Region& region : table->regions()) bytes += memory.resident(region.base, region.size);
  return bytes;
}

void save(const GuestMemory& memory, const Path& path, const std::string& format, const py::object& progress) {
  const vm::mem::ImageFormat wanted = vm::mem::parse_image_format(format);
  const auto report = [&progress](std::uint64_t done, std::uint64_t total) {
    const py::gil_scoped_acquire acquire;
    raise_pending_signal();
    if (!progress.is_none()) progress(done, total);
  };
  const py::gil_scoped_release release;
  const TouchGuard touching(memory);
  memory.save(path.string(), wanted, report);
}

std::string size_text(std::uint64_t size) {
  const char* const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  std::size_t unit = 0;
  auto number = static_cast<double>(size);
  for (; number >= 1024 && unit + 1 < std::size(units); ++unit) number /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.4g %s", number, units[unit]);
  return text;
}

std::string repr(const GuestMemory& memory) {
  try {
    const auto table = memory.table();
    const std::vector<Region>& all = table->regions();
    std::string text = "<GuestMemory " + memory.format() + ": " + size_text(memory.size()) + " in " +
                       std::to_string(all.size()) + (all.size() == 1 ? " region" : " regions");
    if (!all.empty()) text += ", " + vm::hex(all.front().base) + "-" + vm::hex(all.back().last());
    return text + ">";
  } catch (const vm::ClosedError&) {
    return "<GuestMemory " + memory.format() + ": closed>";
  }
}

std::string region_repr(const Region& region) {
  return "Region(base=" + vm::hex(region.base) + ", size=" + vm::hex(region.size) +
         ", writable=" + (region.writable ? "True" : "False") +
         ", name=" + py::repr(py::str(region.name)).cast<std::string>() + ")";
}

bool same_region(const Region& one, const Region& other) {
  return one.base == other.base && one.size == other.size && one.writable == other.writable && one.name == other.name;
}

std::string cpu_state_repr(const CpuState& state) {
  std::string text = "<CpuState " + state.architecture;
  for (const char* name : {"rip", "eip", "pc", "cr3", "satp"}) {
    if (const auto value = state.get(name)) text += std::string(" ") + name + "=" + vm::hex(*value);
  }
  return text + ">";
}

py::dict registers(const CpuState& state) {
  py::dict all;
  for (const vm::mem::Register& reg : state.registers) all[py::str(reg.name)] = reg.value;
  return all;
}

void bind_region(py::module_& module) {
  py::class_<Region>(module, "Region", docs::region)
      .def_readonly("base", &Region::base, "First guest-physical address.")
      .def_readonly("size", &Region::size, "Bytes; never 0.")
      .def_property_readonly("last", &Region::last, "Last guest-physical address.")
      .def_readonly("writable", &Region::writable, "Whether writes are allowed.")
      .def_readonly("name", &Region::name, "What backs it: \"anonymous\", \"memfd:NAME\" or a file's path.")
      .def("__eq__", &same_region, "other"_a, py::is_operator())
      .def("__hash__",
           [](const Region& region) { return py::hash(py::make_tuple(region.base, region.size, region.name)); })
      .def("__repr__", &region_repr);
}

void bind_cpu_state(py::module_& module) {
  py::class_<CpuState> type(module, "CpuState", docs::cpu_state);
  type.def_readonly("architecture", &CpuState::architecture,
                    "\"x86_64\", \"i386\", \"aarch64\", \"arm\", \"riscv64\" or \"riscv32\".")
      .def_property_readonly("registers", &registers, docs::registers)
      .def_property_readonly("pc", &CpuState::program_counter, "Program counter: rip, eip or pc.")
      .def_property_readonly("sp", &CpuState::stack_pointer, "Stack pointer: rsp, esp or sp.")
      .def("__repr__", &cpu_state_repr);
  const std::pair<const char*, const char*> named[] = {
      {"rip", "x86-64 instruction pointer, or None."},
      {"rsp", "x86-64 stack pointer, or None."},
      {"cr0", "x86 control register 0, or None."},
      {"cr2", "x86 page-fault address, or None."},
      {"cr3", "x86 page-table root with its flags, or None."},
      {"cr4", "x86 control register 4, or None."},
      {"efer", "x86 EFER, or None; QEMU's notes do not carry it, so it is None for every dump of QEMU."},
  };
  for (const auto& entry : named) {
    const char* name = entry.first;
    type.def_property_readonly(
        name, [name](const CpuState& state) { return state.get(name); }, entry.second);
  }
}

void bind_factories(py::class_<GuestMemory, py::smart_holder>& type) {
  type.def_static(
          "open",
          [](const Path& path, const std::optional<std::string>& format, bool writable) {
            const auto wanted = format ? vm::mem::parse_image_format(*format) : vm::mem::ImageFormat::automatic;
            return GuestMemory::open(path.string(), wanted, writable);
          },
          "path"_a, "format"_a = py::none(), "writable"_a = false, WithoutGil(), docs::open)
      .def_static(
          "anonymous",
          [](Unsigned size, Unsigned base, const std::optional<std::string>& huge_pages) {
            return GuestMemory::anonymous(size.value, base.value, parse_huge_pages(huge_pages));
          },
          "size"_a, py::kw_only(), "base"_a = Unsigned{0}, "huge_pages"_a = "auto", WithoutGil(), docs::anonymous)
      .def_static(
          "memfd",
          [](Unsigned size, Unsigned base, const std::string& name, const std::optional<std::string>& huge_pages,
             bool sealed) {
            return GuestMemory::memfd(size.value, base.value, name, parse_huge_pages(huge_pages), sealed);
          },
          "size"_a, py::kw_only(), "base"_a = Unsigned{0}, "name"_a = "guest", "huge_pages"_a = "auto",
          "sealed"_a = true, WithoutGil(), docs::memfd)
      .def_static(
          "file",
          [](const Path& path, Unsigned base, Unsigned offset, std::optional<Unsigned> size, bool writable) {
            vm::mem::FileOptions options;
            options.base = base.value;
            options.offset = offset.value;
            if (size) options.size = size->value;
            options.writable = writable;
            return GuestMemory::file(path.string(), options);
          },
          "path"_a, py::kw_only(), "base"_a = Unsigned{0}, "offset"_a = Unsigned{0}, "size"_a = py::none(),
          "writable"_a = false, WithoutGil(), docs::file);
}

void bind_memory(py::module_& module) {
  // Its destructor may unmap many pages.
  py::class_<GuestMemory, py::smart_holder> type(module, "GuestMemory", docs::memory,
                                                 py::release_gil_before_calling_cpp_dtor());
  bind_factories(type);
  type.def("read", &read, "paddr"_a, "size"_a, docs::read)
      .def("write", &write, "paddr"_a, "buffer"_a, docs::write)
      .def("view", &view, "paddr"_a, "size"_a, "dtype"_a = "u1", docs::view)
      .def("discard", &discard, "paddr"_a, "size"_a, docs::discard)
      .def("populate", &populate, "paddr"_a, "size"_a, docs::populate)
      .def("resident", &resident, "paddr"_a = py::none(), "size"_a = py::none(), docs::resident)
      .def("add", &GuestMemory::add, "other"_a, docs::add)
      .def("save", &save, "path"_a, "format"_a = "raw", py::kw_only(), "progress"_a = py::none(), docs::save)
      .def("fileno", &GuestMemory::fd, docs::fileno)
      .def("close", &GuestMemory::close, WithoutGil(), docs::close)
      .def_property_readonly("closed", &GuestMemory::closed, "Whether close() was called.")
      .def_property_readonly("regions", &regions, docs::regions)
      .def_property_readonly("size", &GuestMemory::size, "Bytes in all regions together.")
      .def_property_readonly("base", &GuestMemory::base, "The lowest guest-physical address.")
      .def_property_readonly("format", &GuestMemory::format, docs::format)
      .def_property_readonly(
          "cpu_states", [](const GuestMemory& memory) { return memory.facts().cpu_states; }, docs::cpu_states)
      .def("__contains__", &contains, "paddr"_a, "Whether a guest-physical address lies in a region.")
      .def("__enter__", [](const py::object& self) { return self; })
      .def("__exit__",
           [](GuestMemory& memory, const py::args&) {
             const py::gil_scoped_release release;
             memory.close();
           })
      .def("__repr__", &repr);
}

}  // namespace

HugePages parse_huge_pages(const std::optional<std::string>& name) {
  if (!name) return HugePages::none;
  if (*name == "auto") return HugePages::automatic;
  if (*name == "transparent") return HugePages::transparent;
  if (*name == "2M") return HugePages::size_2m;
  if (*name == "1G") return HugePages::size_1g;
  throw vm::InvalidConfig("unknown huge_pages \"" + *name + "\"; choose \"auto\", None, \"transparent\", \"2M\" or " +
                          "\"1G\"");
}

void bind_guest(py::module_& module) {
  bind_region(module);
  bind_cpu_state(module);
  bind_memory(module);
}
