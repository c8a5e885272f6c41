// Topology and its parts.

#include "vm/core/topology.hpp"

#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "bind.hpp"
#include "cache.hpp"
#include "vm/core/error.hpp"

namespace py = pybind11;
using py::literals::operator""_a;
using vm::Topology;

namespace {

vm::TopologySource source_from(const std::optional<std::string>& name) {
  if (!name) return vm::TopologySource::automatic;
  if (*name == "hwloc") return vm::TopologySource::hwloc;
  if (*name == "sysfs") return vm::TopologySource::sysfs;
  throw vm::InvalidConfig("no topology source is called '" + *name + "'; there are 'hwloc' and 'sysfs'");
}

/// Text when it looks like XML, else a path: no path starts with '<' by accident.
Topology from_hwloc_xml(const std::string& text_or_path) {
  const std::size_t first = text_or_path.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && text_or_path[first] == '<') return Topology::from_hwloc_xml(text_or_path);
  return Topology::from_hwloc_xml_file(text_or_path);
}

template <class Items, class AsDict>
py::list dicts(const Items& items, AsDict as_dict) {
  py::list list;
  for (const auto& item : items) list.append(as_dict(item));
  return list;
}

py::dict node_as_dict(const vm::NumaNode& node) {
  return py::dict("id"_a = node.id, "cpus"_a = node.cpus, "memory_bytes"_a = node.memory_bytes);
}
py::dict package_as_dict(const vm::Package& package) { return py::dict("id"_a = package.id, "cpus"_a = package.cpus); }
py::dict core_as_dict(const vm::Core& core) {
  return py::dict("id"_a = core.id, "package"_a = core.package, "cpus"_a = core.cpus);
}

py::dict as_dict(const Topology& self) {
  return py::dict("source"_a = self.source, "is_this_system"_a = self.is_this_system, "cpus"_a = self.cpus,
                  "allowed_cpus"_a = self.allowed_cpus, "nodes"_a = dicts(self.nodes, node_as_dict),
                  "distances"_a = self.distances, "packages"_a = dicts(self.packages, package_as_dict),
                  "cores"_a = dicts(self.cores, core_as_dict), "caches"_a = dicts(self.caches, cache_as_dict));
}

std::string text(const Topology& self) {
  return "<Topology by " + self.source + (self.is_this_system ? " of this machine" : " of a description") +
         ": nodes=" + std::to_string(self.nodes.size()) + " packages=" + std::to_string(self.packages.size()) +
         " cores=" + std::to_string(self.cores.size()) + " cpus=" + std::to_string(self.cpus.size()) + ">";
}

void bind_parts(py::module_& module) {
  py::class_<vm::NumaNode>(module, "NumaNode", "Memory and the CPUs that are nearest to it.")
      .def_readonly("id", &vm::NumaNode::id, "The system's number.")
      .def_readonly("cpus", &vm::NumaNode::cpus, "Ascending; empty for a node of memory only.")
      .def_readonly("memory_bytes", &vm::NumaNode::memory_bytes, "All of it, free or not; 0 when not known.")
      .def("as_dict", &node_as_dict, "The fields as a dict.")
      .def("__repr__", [](const vm::NumaNode& self) {
        return "<NumaNode " + std::to_string(self.id) + ", " + std::to_string(self.memory_bytes) + " bytes, CPUs " +
               vm::cpu_list(self.cpus) + ">";
      });
  py::class_<vm::Package>(module, "Package", "One processor package (socket).")
      .def_readonly("id", &vm::Package::id, "The system's number.")
      .def_readonly("cpus", &vm::Package::cpus, "Ascending.")
      .def("as_dict", &package_as_dict, "The fields as a dict.")
      .def("__repr__", [](const vm::Package& self) {
        return "<Package " + std::to_string(self.id) + ", CPUs " + vm::cpu_list(self.cpus) + ">";
      });
  py::class_<vm::Core>(module, "Core", "One physical core; its CPUs are its hardware threads.")
      .def_readonly("id", &vm::Core::id, "The system's number: unique in a package, not in the machine.")
      .def_readonly("package", &vm::Core::package, "The package's id; -1 when not known.")
      .def_readonly("cpus", &vm::Core::cpus, "Ascending.")
      .def("as_dict", &core_as_dict, "The fields as a dict.")
      .def("__repr__", [](const vm::Core& self) {
        return "<Core " + std::to_string(self.id) + " of package " + std::to_string(self.package) + ", CPUs " +
               vm::cpu_list(self.cpus) + ">";
      });
}

using TopologyClass = py::class_<Topology>;

void bind_makers(TopologyClass& type) {
  type.def_static(
          "detect",
          [](const std::optional<std::string>& source) {
            const vm::TopologySource chosen = source_from(source);
            const py::gil_scoped_release release;
            return Topology::detect(chosen);
          },
          py::arg("source") = py::none(),
          "Ask this machine, through hwloc where the package was built with it, else through sysfs.\n\n"
          "``source`` asks for 'hwloc' or 'sysfs'; NotSupported where it is not there. hwloc's environment variables "
          "(HWLOC_SYNTHETIC, HWLOC_XMLFILE) apply. Takes some ten milliseconds and releases the GIL; keep the answer.")
      .def_static(
          "from_sysfs", [](const std::filesystem::path& root) { return Topology::from_sysfs(root.string()); },
          py::arg("root"), py::call_guard<py::gil_scoped_release>(),
          "Read Linux's sysfs and procfs below another root, for instance a copy of another machine's.\n\n"
          "InvalidConfig when there is no machine, or a file holds what the kernel would not write.")
      .def_static("from_hwloc_xml", &from_hwloc_xml, py::arg("text_or_path"), py::call_guard<py::gil_scoped_release>(),
                  "Read hwloc's XML of format 2, as ``lstopo --of xml`` writes it.\n\n"
                  "A string that starts with '<' is the XML itself, any other one the path of a file. InvalidConfig "
                  "says what is wrong in the XML; PlatformError that the file cannot be read.")
      .def_static(
          "from_hwloc_xml",
          [](const std::filesystem::path& path) { return Topology::from_hwloc_xml_file(path.string()); },
          py::arg("text_or_path"), py::call_guard<py::gil_scoped_release>())
      .def_static(
          "from_synthetic", &Topology::from_synthetic, py::arg("description"), py::call_guard<py::gil_scoped_release>(),
          "Make a machine up from hwloc's synthetic description: ``'pack:2 [numa(memory=4GB)] l3:1 core:4 pu:2'``.\n\n"
          "Attributes are memory, size, and indexes as a list of numbers. InvalidConfig for another description "
          "and for more than 65536 CPUs; NotSupported in a build without hwloc.");
}

void bind_fields(TopologyClass& type) {
  type.def_readonly("source", &Topology::source, "Who told: 'hwloc 2.9.0', 'sysfs', 'hwloc XML'.")
      .def_readonly("is_this_system", &Topology::is_this_system,
                    "False for a description: its CPUs and nodes cannot be bound to.")
      .def_readonly("cpus", &Topology::cpus, "Online CPUs, ascending.")
      .def_readonly("allowed_cpus", &Topology::allowed_cpus,
                    "The CPUs that the thread that asked may run on, after affinity and cgroup.")
      .def_readonly("nodes", &Topology::nodes, "NUMA nodes by id; a machine without NUMA is one node.")
      .def_readonly("packages", &Topology::packages, "By first CPU; empty when not known.")
      .def_readonly("cores", &Topology::cores, "By first CPU; empty when not known.")
      .def_readonly("caches", &Topology::caches, "By level, type and first CPU; empty when not known.")
      .def_readonly("distances", &Topology::distances,
                    "Relative access cost, ``distances[i][j]`` from ``nodes[i]`` to ``nodes[j]``; 10 is local by the "
                    "firmware's convention. Empty when not known.")
      .def("node_of", &Topology::node_of, py::arg("cpu"), py::return_value_policy::copy,
           "The node that ``cpu`` belongs to; OutOfRange when no node has it.")
      .def("as_dict", &as_dict, "Everything as a dict that ``json`` accepts.")
      .def("__repr__", &text);
}

}  // namespace

void bind_topology(py::module_& module) {
  bind_parts(module);
  TopologyClass type(module, "Topology",
                     "Where this machine's CPUs, caches and memory are. What the source does not tell stays empty.\n\n"
                     ">>> topology = Topology.detect()\n"
                     ">>> set(topology.allowed_cpus) <= set(topology.cpus)\n"
                     "True");
  bind_makers(type);
  bind_fields(type);
  module.def("cpu_list", &vm::cpu_list, py::arg("cpus"), py::pos_only(),
             "CPUs, ascending, as the kernel writes them.\n\n"
             ">>> cpu_list([0, 1, 2, 5])\n"
             "'0-2,5'");
}
