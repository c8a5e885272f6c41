#include "mmio.hpp"

#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vm/core/error.hpp"
#include "vm/mem/guest/mmio.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using vm::mem::MmioHandler;
using vm::mem::MmioManager;
using vm::mem::MmioRange;

namespace {

/// Calls Python functions. They may be dropped by a thread that has no GIL.
class PythonHandler final : public MmioHandler {
 public:
  PythonHandler(py::object read, py::object write) : read_(std::move(read)), write_(std::move(write)) {}
  PythonHandler(const PythonHandler&) = delete;
  PythonHandler& operator=(const PythonHandler&) = delete;
  ~PythonHandler() override {
    const py::gil_scoped_acquire acquire;
    read_ = py::object();
    write_ = py::object();
  }

  std::uint64_t read(std::uint64_t offset, unsigned width) override {
    const py::gil_scoped_acquire acquire;
    if (read_.is_none()) throw vm::AccessViolation("this device cannot be read: it was added without read=");
    const py::object value = read_(offset, width);
    if (PyIndex_Check(value.ptr()) == 0)
      throw py::type_error(std::string("read() of a device must return an int, got ") + Py_TYPE(value.ptr())->tp_name);
    return value.cast<Unsigned>().value;
  }
  void write(std::uint64_t offset, unsigned width, std::uint64_t value) override {
    const py::gil_scoped_acquire acquire;
    if (write_.is_none()) throw vm::AccessViolation("this device cannot be written: it was added without write=");
    write_(offset, width, value);
  }

  const py::object& reader() const { return read_; }
  const py::object& writer() const { return write_; }

 private:
  py::object read_, write_;
};

unsigned widths_from(const std::vector<unsigned>& widths) {
  unsigned set = 0;
  for (const unsigned width : widths) {
    if (width != 1 && width != 2 && width != 4 && width != 8)
      throw vm::InvalidConfig("widths holds " + std::to_string(width) + "; devices answer 1, 2, 4 and 8 bytes");
    set |= width;
  }
  return set;
}

py::tuple widths_of(const MmioRange& range) {
  py::list widths;
  for (unsigned width = 1; width <= 8; width *= 2)
    if ((range.widths & width) != 0) widths.append(width);
  return py::tuple(widths);
}

void add(MmioManager& self, Unsigned base, Unsigned size, py::object read, py::object write,
         const std::vector<unsigned>& widths, const std::string& name) {
  for (const py::object& function : {read, write})
    if (!function.is_none() && PyCallable_Check(function.ptr()) == 0)
      throw py::type_error("read and write must be functions or None");
  if (read.is_none() && write.is_none())
    throw vm::InvalidConfig("an MMIO range needs read=, write= or both; else nothing answers");
  self.add({base.value, size.value, widths_from(widths), name,
            std::make_shared<PythonHandler>(std::move(read), std::move(write))});
}

std::string repr(const MmioRange& range) {
  return "MmioRange(" + vm::hex(range.base) + "-" + vm::hex(range.last()) +
         (range.name.empty() ? "" : ", '" + range.name + "'") + ")";
}

}  // namespace

int visit_device_functions(const MmioManager& devices, visitproc visit, void* arg) {
  // Nothing that this copy shares can end with it: whoever removes a device has the GIL.
  std::vector<MmioRange> ranges = devices.ranges();
  for (MmioRange& range : ranges) {
    constexpr long here_and_there = 2;
    if (range.handler.use_count() > here_and_there) continue;  // an access under way, or a range that Python has
    const auto* handler = dynamic_cast<const PythonHandler*>(range.handler.get());
    if (handler == nullptr) continue;
    Py_VISIT(handler->reader().ptr());
    Py_VISIT(handler->writer().ptr());
  }
  return 0;
}

void bind_mmio(py::module_& module) {
  py::class_<MmioRange>(module, "MmioRange", "One device's guest-physical addresses; see MmioManager.ranges.")
      .def_readonly("base", &MmioRange::base, "First physical address.")
      .def_readonly("size", &MmioRange::size, "Bytes.")
      .def_readonly("name", &MmioRange::name, "As given to add().")
      .def_property_readonly("widths", &widths_of, "Access widths that the device answers, in bytes.")
      .def("__repr__", &repr);

  py::class_<MmioManager>(
      module, "MmioManager",
      "The devices of one guest: ranges of physical addresses that functions answer instead of memory.\n\n"
      "Any number of threads may call anything at once. A function is called on the thread that makes the access, with "
      "the GIL; what it raises reaches the one who made the access.")
      .def("add", &add, "base"_a, "size"_a, py::kw_only(), "read"_a = py::none(), "write"_a = py::none(),
           "widths"_a = std::vector<unsigned>{1, 2, 4, 8}, "name"_a = "",
           "Let read(offset, width) -> int and write(offset, width, value) answer size bytes from base on.\n\n"
           "offset counts from base; width is 1, 2, 4 or 8 bytes, and only those in widths, aligned, reach the device: "
           "others raise AccessViolation. Raises InvalidConfig for an empty range, or one that overlaps guest memory "
           "or another device.")
      .def("remove", &MmioManager::remove, "base"_a,
           "Remove the range that begins at base; False when there is none. Accesses under way end as they began.")
      .def_property_readonly("ranges", &MmioManager::ranges, "The ranges in ascending order, as MmioRange.")
      .def("__len__", [](const MmioManager& self) { return self.ranges().size(); })
      .def("__repr__",
           [](const MmioManager& self) { return "MmioManager(" + std::to_string(self.ranges().size()) + " devices)"; });
}
