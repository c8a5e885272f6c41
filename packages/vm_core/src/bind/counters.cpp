// Counters as a Python object, and their snapshots as read-only mappings.

#include "vm/core/counters.hpp"

#include <pybind11/operators.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "vm/core/error.hpp"

namespace py = pybind11;
using vm::CounterSet;
using vm::CounterSnapshot;

namespace {

bool contains(const CounterSnapshot& snapshot, std::string_view name) {
  return std::find(snapshot.names().begin(), snapshot.names().end(), name) != snapshot.names().end();
}

// Mapping's contract is KeyError where C++ has InvalidConfig.
std::uint64_t item(const CounterSnapshot& snapshot, std::string_view name) {
  if (!contains(snapshot, name)) throw py::key_error(std::string(name));
  return snapshot.value(name);
}

py::dict as_dict(const CounterSnapshot& snapshot) {
  py::dict dict;
  for (std::size_t i = 0; i < snapshot.names().size(); ++i) {
    dict[py::str(snapshot.names()[i])] = snapshot.values()[i];
  }
  return dict;
}

std::string name_from(py::handle name) {
  if (!py::isinstance<py::str>(name)) {
    throw py::type_error("a counter's name is a str, not " + py::repr(name).cast<std::string>());
  }
  return name.cast<std::string>();
}

CounterSet from_names(const py::args& names) {
  std::vector<std::string> texts;
  for (const py::handle name : names) texts.push_back(name_from(name));
  return CounterSet(std::move(texts));
}

CounterSnapshot from_mapping(const py::object& counts) {
  std::vector<std::string> names;
  std::vector<std::uint64_t> values;
  for (const auto& pair : py::dict(counts)) {
    names.push_back(name_from(pair.first));
    const std::uint64_t value = PyLong_AsUnsignedLongLong(pair.second.ptr());
    if (PyErr_Occurred() != nullptr) throw py::error_already_set();
    values.push_back(value);
  }
  return {std::move(names), std::move(values)};
}

py::object same_or_sum(const CounterSnapshot& snapshot, std::int64_t start) {
  if (start != 0) return py::reinterpret_borrow<py::object>(Py_NotImplemented);
  return py::cast(snapshot);
}

std::string text(const char* type, const CounterSnapshot& snapshot) {
  std::string fields;
  for (std::size_t i = 0; i < snapshot.names().size(); ++i) {
    fields += (i == 0 ? "" : ", ") + snapshot.names()[i] + "=" + std::to_string(snapshot.values()[i]);
  }
  return std::string(type) + "(" + fields + ")";
}

void bind_snapshot(py::module_& module) {
  py::class_<CounterSnapshot> type(module, "CounterSnapshot",
                                   "The values of Counters at one moment, a read-only mapping from name to count.\n\n"
                                   "Snapshots of counters with the same names add up, also with ``sum``; ``later - "
                                   "earlier`` is what happened in between. Other names, or an earlier one that is not "
                                   "earlier, are InvalidConfig.\n\n"
                                   ">>> counters = Counters('hits', 'misses')\n"
                                   ">>> before = counters.snapshot()\n"
                                   ">>> counters.add('hits', 3)\n"
                                   ">>> counters.snapshot() - before\n"
                                   "CounterSnapshot(hits=3, misses=0)\n"
                                   ">>> dict(sum([before, counters.snapshot()]))\n"
                                   "{'hits': 3, 'misses': 0}");
  type.def(py::init(&from_mapping), py::arg("counts"))
      .def("__getitem__", &item, py::arg("name"))
      .def("__contains__", &contains, py::arg("name"))
      .def(
          "__contains__", [](const CounterSnapshot&, const py::object&) { return false; }, py::arg("name"))
      .def("__len__", [](const CounterSnapshot& self) { return self.names().size(); })
      .def("__iter__", [](const CounterSnapshot& self) { return py::iter(py::cast(self.names())); })
      .def(
          "keys", [](const CounterSnapshot& self) { return as_dict(self).attr("keys")(); }, "The names, in order.")
      .def(
          "values", [](const CounterSnapshot& self) { return as_dict(self).attr("values")(); }, "The counts, in order.")
      .def(
          "items", [](const CounterSnapshot& self) { return as_dict(self).attr("items")(); },
          "Pairs of name and count, in order.")
      .def(
          "get",
          [](const CounterSnapshot& self, const py::object& name, const py::object& fallback) {
            return as_dict(self).attr("get")(name, fallback);
          },
          py::arg("name"), py::arg("default") = py::none(), py::pos_only(),
          "The count called ``name``, or ``default`` when there is none.")
      .def("__repr__", [](const CounterSnapshot& self) { return text("CounterSnapshot", self); })
      .def(py::self + py::self)
      .def(py::self - py::self)
      .def("__radd__", &same_or_sum, py::arg("start"))
      .def(py::self == py::self)
      .def(py::self != py::self)
      .def("__reduce__", [](const CounterSnapshot& self) {
        return py::make_tuple(py::type::of(py::cast(self)), py::make_tuple(as_dict(self)));
      });
}

}  // namespace

void bind_counters(py::module_& module) {
  bind_snapshot(module);
  py::class_<CounterSet>(module, "Counters",
                         "Named event counters that many threads raise at the same time without slowing each other.\n\n"
                         "All methods may be called from any thread; no increment is lost, also when its thread ends.\n"
                         "No name, an empty name or the same name twice is InvalidConfig.\n\n"
                         ">>> counters = Counters('hits', 'misses')\n"
                         ">>> counters.add('hits')\n"
                         ">>> counters.snapshot()['hits']\n"
                         "1")
      .def(py::init(&from_names))
      .def_property_readonly("names", &CounterSet::names, "The names, in the order of the constructor.")
      .def("__len__", &CounterSet::size)
      .def(
          "add", [](const CounterSet& self, std::string_view name, std::uint64_t n) { self.add(self.index(name), n); },
          py::arg("name"), py::arg("n") = 1,
          "Raise one counter by ``n``, not negative; InvalidConfig for a name that is not there.")
      .def("snapshot", &CounterSet::snapshot,
           "Read all counters: every increment made before the call is in it, one made meanwhile may be.")
      .def("__repr__", [](const CounterSet& self) { return text("Counters", self.snapshot()); });
}
