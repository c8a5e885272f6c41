// CpuidTable, and entries that stand for a place in one.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "text.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/accel/hypervisor/x86_system.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;

namespace {

using Table = std::shared_ptr<CpuidTable>;

/// The entry that answers a question of a table, looked up each time: it may be replaced or gone by then.
struct EntryView {
  Table table;
  std::uint32_t function;
  std::uint32_t index;

  CpuidEntry& get() const {
    if (CpuidEntry* entry = table->find(function, index)) return *entry;
    throw py::key_error("CPUID " + vm::hex(function) + "." + std::to_string(index) + " is not in the table any more");
  }
};

EntryView view_of(const Table& table, const CpuidEntry& entry) { return {table, entry.function, entry.index}; }

EntryView new_entry(std::uint32_t function, std::optional<std::uint32_t> index, std::uint32_t eax, std::uint32_t ebx,
                    std::uint32_t ecx, std::uint32_t edx) {
  const CpuidEntry entry{function, index.value_or(0), index.has_value(), eax, ebx, ecx, edx};
  return view_of(std::make_shared<CpuidTable>(std::vector<CpuidEntry>{entry}), entry);
}

std::string repr_entry(const EntryView& self) {
  const CpuidEntry& entry = self.get();
  return "<CpuidEntry " + vm::hex(entry.function) + (entry.indexed ? "." + std::to_string(entry.index) : "") +
         hex_field("eax", entry.eax) + hex_field("ebx", entry.ebx) + hex_field("ecx", entry.ecx) +
         hex_field("edx", entry.edx) + ">";
}

/// 7, or (7, 1).
std::pair<std::uint32_t, std::uint32_t> key_of(const py::object& key) {
  if (py::isinstance<py::tuple>(key)) return key.cast<std::pair<std::uint32_t, std::uint32_t>>();
  return {key.cast<std::uint32_t>(), 0};
}

EntryView lookup(const Table& self, const py::object& key) {
  const auto [function, index] = key_of(key);
  if (const CpuidEntry* entry = self->find(function, index)) return view_of(self, *entry);
  throw py::key_error("CPUID " + vm::hex(function) + "." + std::to_string(index) + " is not in the table");
}

Table table_from(const std::vector<EntryView>& entries) {
  std::vector<CpuidEntry> copies;
  for (const EntryView& entry : entries) copies.push_back(entry.get());
  return std::make_shared<CpuidTable>(std::move(copies));
}

std::vector<EntryView> entries_of(const Table& self) {
  std::vector<EntryView> views;
  for (const CpuidEntry& entry : self->entries()) views.push_back(view_of(self, entry));
  return views;
}

/// The entries for which `keep`, given a detached copy of each, says yes; Python code may do anything meanwhile.
Table filtered(const Table& self, const py::function& keep) {
  std::vector<CpuidEntry> kept;
  const std::vector<CpuidEntry> entries = self->entries();
  for (const CpuidEntry& entry : entries) {
    const EntryView copy = view_of(std::make_shared<CpuidTable>(std::vector<CpuidEntry>{entry}), entry);
    if (keep(copy).cast<bool>()) kept.push_back(entry);
  }
  return std::make_shared<CpuidTable>(std::move(kept));
}

std::vector<std::string> features_of(const CpuidTable& self) {
  std::vector<std::string> names;
  for (const CpuidFeature& feature : cpuid_features()) {
    if (self.has(feature.name)) names.emplace_back(feature.name);
  }
  return names;
}

void bind_entry(py::module_& module) {
  const auto word = [](std::uint32_t CpuidEntry::*member) {
    return std::make_pair([member](const EntryView& self) { return self.get().*member; },
                          [member](const EntryView& self, std::uint32_t value) { self.get().*member = value; });
  };
  py::class_<EntryView> type(module, "CpuidEntry",
                             "What CPUID answers for one function and index. One taken from a table changes the table "
                             "when its registers are assigned.");
  type.def(py::init(&new_entry), "function"_a, "index"_a = py::none(), py::kw_only(), "eax"_a = 0, "ebx"_a = 0,
           "ecx"_a = 0, "edx"_a = 0, "``index`` is None where the answer does not depend on ECX.")
      .def_property_readonly(
          "function", [](const EntryView& self) { return self.function; }, "EAX of the question.")
      .def_property_readonly(
          "index",
          [](const EntryView& self) {
            const CpuidEntry& entry = self.get();
            return entry.indexed ? std::optional<std::uint32_t>(entry.index) : std::nullopt;
          },
          "ECX of the question, or None where the answer does not depend on it.")
      .def("__eq__", [](const EntryView& self, const EntryView& other) { return self.get() == other.get(); })
      .def("__repr__", &repr_entry);
  type.attr("__hash__") = py::none();
  for (const auto& [name, member] :
       {std::make_pair("eax", &CpuidEntry::eax), std::make_pair("ebx", &CpuidEntry::ebx),
        std::make_pair("ecx", &CpuidEntry::ecx), std::make_pair("edx", &CpuidEntry::edx)}) {
    const auto [get, set] = word(member);
    type.def_property(name, get, set);
  }
}

}  // namespace

void bind_x86_cpuid(py::module_& module) {
  bind_entry(module);
  py::class_<CpuidTable, Table> type(module, "CpuidTable",
                                     "What CPUID answers in a guest. ``table[7, 0]`` is an entry to read and change, "
                                     "``table[1]`` one that does not depend on ECX. A copy: assign it to "
                                     "``vcpu.cpuid``.");
  type.def(py::init(&table_from), "entries"_a = std::vector<EntryView>(),
           "Raises InvalidConfig when two entries answer the same question.")
      .def("__getitem__", &lookup, "key"_a)
      .def(
          "__contains__",
          [](const Table& self, const py::object& key) {
            const auto [function, index] = key_of(key);
            return self->find(function, index) != nullptr;
          },
          "key"_a)
      .def(
          "__delitem__",
          [](const Table& self, const py::object& key) {
            const CpuidEntry entry = lookup(self, key).get();
            self->erase(entry.function, entry.index);
          },
          "key"_a)
      .def("__len__", [](const Table& self) { return self->entries().size(); })
      .def("__iter__", [](const Table& self) { return py::iter(py::cast(entries_of(self))); })
      .def("__eq__", [](const Table& self, const Table& other) { return self->entries() == other->entries(); })
      .def(
          "set", [](const Table& self, const EntryView& entry) { self->set(entry.get()); }, "entry"_a,
          "Add a copy of ``entry``, or replace the one for its function and index.\n\nRaises InvalidConfig when the "
          "function depends on ECX in the table and not in the entry, or the other way round.")
      .def(
          "copy", [](const Table& self) { return std::make_shared<CpuidTable>(*self); }, "A table of its own.")
      .def("filter", &filtered, "keep"_a, "A table of the entries for which ``keep(entry)`` is true.")
      .def(
          "mask",
          [](const Table& self, std::uint32_t function, std::uint32_t index, std::uint32_t eax, std::uint32_t ebx,
             std::uint32_t ecx, std::uint32_t edx) {
            self->mask(function, index, {function, index, true, eax, ebx, ecx, edx});
          },
          "function"_a, "index"_a = 0, py::kw_only(), "eax"_a = ~0U, "ebx"_a = ~0U, "ecx"_a = ~0U, "edx"_a = ~0U,
          "Keep only these bits of an entry. Raises OutOfRange when it is not there.")
      .def(
          "has", [](const Table& self, const std::string& feature) { return self->has(feature); }, "feature"_a,
          "Whether the guest sees a feature: \"avx2\", \"lm\". Raises InvalidConfig for an unknown name.")
      .def(
          "enable", [](const Table& self, const std::string& feature) { self->set_feature(feature, true); },
          "feature"_a, "Set the bit of a feature. Raises InvalidConfig, OutOfRange when its entry is not there.")
      .def(
          "disable", [](const Table& self, const std::string& feature) { self->set_feature(feature, false); },
          "feature"_a, "Clear the bit of a feature. Raises InvalidConfig for an unknown name.")
      .def_property_readonly(
          "features", [](const Table& self) { return features_of(*self); }, "The names of all features set.")
      .def(
          "intersect", [](const Table& self, const CpuidTable& other) { self->intersect(other); }, "other"_a,
          "Leave only features that ``other`` has too, so that a guest can move between two machines.")
      .def(
          "place",
          [](const Table& self, std::uint32_t apic_id, std::uint32_t threads_per_core, std::uint32_t cores) {
            self->place({apic_id, threads_per_core, cores});
          },
          "apic_id"_a, py::kw_only(), "threads_per_core"_a = 1, "cores_per_package"_a = 1,
          "Make the answers about topology say where this vCPU is. Raises InvalidConfig.")
      .def(
          "minimal", [](const Table& self) { return std::make_shared<CpuidTable>(CpuidTable::minimal(*self)); },
          "The table of a plain 64-bit processor (x86-64-v1, an APIC, no XSAVE), as far as this one supports it.")
      .def_property_readonly(
          "physical_bits", [](const Table& self) { return self->physical_bits(); }, "Bits of a physical address.")
      .def("__repr__", [](const Table& self) {
        return "<CpuidTable of " + std::to_string(self->entries().size()) + " entries, " +
               std::to_string(features_of(*self).size()) + " features>";
      });
  type.attr("__hash__") = py::none();
  module.def(
      "cpuid_features",
      [] {
        std::vector<std::string> names;
        for (const CpuidFeature& feature : cpuid_features()) names.emplace_back(feature.name);
        return names;
      },
      "The features that CpuidTable knows by name.");
}
