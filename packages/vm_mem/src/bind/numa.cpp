// Policies, and what the kernel says about nodes and pages, for Python.
#include "numa.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "bind.hpp"
#include "numa_docs.hpp"
#include "vm/core/error.hpp"
#include "vm/core/topology.hpp"
#include "vm/mem/numa/allocator.hpp"
#include "vm/mem/numa/migration.hpp"
#include "vm/mem/numa/node_memory.hpp"
#include "vm/mem/numa/placement.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::mem::numa;
using vm::mem::GuestMemory;
using WithoutGil = py::call_guard<py::gil_scoped_release>;

namespace {

const char* kind_name(const NumaPolicy& policy) {
  switch (policy.kind()) {
    case NumaPolicy::Kind::local: return "local";
    case NumaPolicy::Kind::bind: return "bind";
    case NumaPolicy::Kind::interleave: return "interleave";
    case NumaPolicy::Kind::preferred_many: break;
  }
  return "preferred-many";
}

template <class T>
py::object or_none(const std::optional<T>& value) {
  return value ? py::cast(*value) : py::none();
}

py::object text_or_none(const std::string& text) { return text.empty() ? py::none() : py::object(py::str(text)); }

std::vector<int> ids(const py::args& nodes) {
  std::vector<int> result;
  for (const py::handle node : nodes) {
    py::detail::make_caster<int> id;
    if (!id.load(node, true)) {
      throw py::type_error("nodes are given as whole numbers, got " + py::repr(node).cast<std::string>());
    }
    result.push_back(py::detail::cast_op<int>(id));
  }
  return result;
}

void bind_policy(py::module_& module) {
  py::class_<NumaPolicy>(module, "NumaPolicy", docs::numa_policy)
      .def_static("local", &NumaPolicy::local, "preferred_node"_a = py::none(), "fallback"_a = true,
                  docs::numa_policy_local)
      .def_static(
          "bind", [](const py::args& nodes, std::optional<int> home) { return NumaPolicy::bind(ids(nodes), home); },
          py::kw_only(), "home_node"_a = py::none(), docs::numa_policy_bind)
      .def_static(
          "interleave", [](const py::args& nodes) { return NumaPolicy::interleave(ids(nodes)); },
          docs::numa_policy_interleave)
      .def_static(
          "preferred_many",
          [](const py::args& nodes, std::optional<int> home) { return NumaPolicy::preferred_many(ids(nodes), home); },
          py::kw_only(), "home_node"_a = py::none(), docs::numa_policy_preferred_many)
      .def_property_readonly("kind", &kind_name, "\"local\", \"bind\", \"interleave\" or \"preferred-many\".")
      .def_property_readonly(
          "nodes", [](const NumaPolicy& policy) { return py::tuple(py::cast(policy.nodes())); },
          "Ascending; empty where the policy names none.")
      .def_property_readonly(
          "home_node", [](const NumaPolicy& policy) { return or_none(policy.home_node()); },
          "The node whose neighbours come first, or None.")
      .def_property_readonly("fallback", &NumaPolicy::fallback, "Whether pages elsewhere are better than none.")
      .def(
          "decide",
          [](const NumaPolicy& policy, const vm::Topology& topology, int cpu,
             const std::optional<std::vector<int>>& allowed) {
            Caller caller{cpu, allowed.value_or(std::vector<int>{})};
            std::sort(caller.allowed_nodes.begin(), caller.allowed_nodes.end());
            return decide(policy, topology, caller);
          },
          "topology"_a, py::kw_only(), "cpu"_a = 0, "allowed_nodes"_a = py::none(), docs::numa_policy_decide)
      .def(
          "__eq__", [](const NumaPolicy& a, const NumaPolicy& b) { return a == b; }, "other"_a, py::is_operator())
      .def("__hash__", [](const NumaPolicy& policy) { return py::hash(py::str(policy_repr(policy))); })
      .def("__repr__", &policy_repr);
}

void bind_answers(py::module_& module) {
  py::class_<Decision>(module, "NumaDecision", docs::numa_decision)
      .def_property_readonly(
          "mode", [](const Decision& self) { return to_string(self.mode); },
          "\"preferred\", \"bind\", \"interleave\" or \"preferred-many\": set_mempolicy(2)'s.")
      .def_property_readonly(
          "nodes", [](const Decision& self) { return py::tuple(py::cast(self.nodes)); }, "Ascending, never empty.")
      .def_property_readonly(
          "home_node", [](const Decision& self) { return or_none(self.home_node); }, "Or None.")
      .def_readonly("strict", &Decision::strict, "Whether a page elsewhere is an error.")
      .def_readonly("everywhere", &Decision::everywhere, "Whether there is no usable memory on other nodes.")
      .def_property_readonly(
          "reason", [](const Decision& self) { return text_or_none(self.reason); },
          "Why it is not what the policy names first; None when it is.")
      .def("__repr__", [](const Decision& self) { return "<NumaDecision: " + self.text() + ">"; });

  py::class_<Placement>(module, "Placement", docs::numa_placement)
      .def_readonly("page_size", &Placement::page_size, "Bytes of a page in ``nodes``, the system's smallest.")
      .def_property_readonly(
          "nodes",
          [](const Placement& self) {
            return py::array_t<int>(static_cast<py::ssize_t>(self.pages.size()), self.pages.data());
          },
          "1-D int32 array: the node of each page, -1 where there is none yet.")
      .def_property_readonly("bytes", &Placement::bytes, "Bytes by node, of the pages that are there.")
      .def_property_readonly("absent_bytes", &Placement::absent_bytes, "Bytes of the pages that are not.")
      .def("__repr__", [](const Placement& self) {
        return "<Placement bytes=" + py::repr(py::cast(self.bytes())).cast<std::string>() +
               " absent_bytes=" + std::to_string(self.absent_bytes()) + ">";
      });

  py::class_<Verification>(module, "Verification", docs::numa_verification)
      .def_property_readonly(
          "verdict", [](const Verification& self) { return to_string(self.verdict); },
          "\"verified\", \"elsewhere\" or \"unverified\".")
      .def_readonly("placement", &Verification::placement, "Where the pages were found.")
      .def_property_readonly(
          "reason", [](const Verification& self) { return text_or_none(self.reason); },
          "Why it is not verified; None when it is.")
      .def("__bool__", [](const Verification& self) { return self.verdict == Verdict::verified; })
      .def("__repr__", [](const Verification& self) {
        return std::string("<Verification: ") + to_string(self.verdict) +
               (self.reason.empty() ? "" : "; " + self.reason) + ">";
      });

  py::class_<Migration>(module, "Migration", docs::numa_migration)
      .def_readonly("decision", &Migration::decision, "What holds for the range from now on.")
      .def_property_readonly(
          "through", [](const Migration& self) { return text_or_none(self.binding.through); },
          "Who told the kernel, for pages touched later; None when it does not hold the policy.")
      .def_property_readonly(
          "refusal", [](const Migration& self) { return text_or_none(self.binding.refusal); }, "Why not, or None.")
      .def_readonly("moved_bytes", &Migration::moved_bytes, "Were elsewhere, and are where they were sent.")
      .def_readonly("moved_to", &Migration::moved_to, "The same by node.")
      .def_readonly("already_bytes", &Migration::already_bytes, "Were there before.")
      .def_readonly("failed_bytes", &Migration::failed_bytes, "Are still elsewhere.")
      .def_readonly("absent_bytes", &Migration::absent_bytes, "Have no page yet.")
      .def_property_readonly(
          "reason", [](const Migration& self) { return text_or_none(self.reason); },
          "Why the first page that failed did; None when none failed.")
      .def_readonly("verification", &Migration::verification, "After it.")
      .def("__repr__", [](const Migration& self) {
        return "<Migration to " + self.decision.text() + ": moved_bytes=" + std::to_string(self.moved_bytes) +
               " already_bytes=" + std::to_string(self.already_bytes) +
               " failed_bytes=" + std::to_string(self.failed_bytes) + ">";
      });
}

void bind_nodes(py::module_& module) {
  py::class_<NodeStatistics>(module, "NodeStatistics", docs::numa_node_statistics)
      .def_readonly("node", &NodeStatistics::node, "Its id.")
      .def_readonly("allocations", &NodeStatistics::allocations, "Blocks ever made whose decision named it.")
      .def_readonly("blocks", &NodeStatistics::blocks, "Of the live ones, those whose decision names it now.")
      .def_property_readonly(
          "resident_bytes", [](const NodeStatistics& self) { return or_none(self.resident_bytes); },
          "Of live blocks, on it now; None where the kernel does not tell.")
      .def_property_readonly(
          "stray_bytes", [](const NodeStatistics& self) { return or_none(self.stray_bytes); },
          "Of them those of blocks whose decision does not name it; or None.")
      .def_readonly("migrated_bytes", &NodeStatistics::migrated_bytes, "Brought here by migrate() and place().")
      .def("__repr__", [](const NodeStatistics& self) {
        return "<NodeStatistics node=" + std::to_string(self.node) + " blocks=" + std::to_string(self.blocks) +
               " resident_bytes=" + py::repr(or_none(self.resident_bytes)).cast<std::string>() + ">";
      });

  py::class_<NodeMemory>(module, "NodeMemory", docs::numa_node_memory)
      .def_readonly("node", &NodeMemory::node, "Its id.")
      .def_readonly("total", &NodeMemory::total, "Bytes.")
      .def_readonly("free", &NodeMemory::free, "Bytes.")
      .def_readonly("available", &NodeMemory::available, "Bytes: ``free``, the cache of files, reclaimable slabs.")
      .def_readonly("numa_hits", &NodeMemory::numa_hits, "Pages wanted on this node and got.")
      .def_readonly("numa_misses", &NodeMemory::numa_misses, "Pages given though another node was wanted.")
      .def_readonly("numa_foreign", &NodeMemory::numa_foreign, "Pages wanted on this node and got from another.")
      .def_readonly("interleave_hits", &NodeMemory::interleave_hits, "Pages that an interleaving wanted here and got.")
      .def_readonly("local_pages", &NodeMemory::local_pages, "Pages given to threads that ran on this node.")
      .def_readonly("other_pages", &NodeMemory::other_pages, "Pages given to threads that ran elsewhere.")
      .def("__repr__", [](const NodeMemory& self) {
        return "<NodeMemory node=" + std::to_string(self.node) + " total=" + std::to_string(self.total) +
               " free=" + std::to_string(self.free) + ">";
      });
}

Placement placement(const py::object& target, const py::object& paddr, const py::object& size) {
  if (py::isinstance<GuestMemory>(target)) {
    const auto memory = target.cast<std::shared_ptr<GuestMemory>>();
    const GuestRange range(*memory, paddr, size);
    const py::gil_scoped_release release;
    return placement_of(*memory, range.paddr, range.size);
  }
  if (!paddr.is_none() || !size.is_none()) {
    throw vm::InvalidConfig("paddr and size go with GuestMemory; slice an array or a buffer instead");
  }
  const NumaBuffer buffer(target, "placement");
  const py::gil_scoped_release release;
  return placement_of(buffer.data(), buffer.size());
}

}  // namespace

NumaBuffer::NumaBuffer(const py::object& source, const std::string& what) {
  if (PyObject_GetBuffer(source.ptr(), &buffer_, PyBUF_SIMPLE) == 0) return;
  const py::error_already_set error;
  if (error.matches(PyExc_TypeError)) throw py::type_error(what + " needs a buffer: " + error.what());
  throw vm::InvalidConfig(what + " needs one contiguous run of bytes (" + error.what() + ")");
}

GuestRange::GuestRange(const GuestMemory& memory, const py::object& paddr_or_none, const py::object& size_or_none) {
  if (paddr_or_none.is_none() != size_or_none.is_none()) {
    throw vm::InvalidConfig("paddr and size go together; without both it is all of the memory");
  }
  paddr = paddr_or_none.is_none() ? memory.base() : paddr_or_none.cast<Unsigned>().value;
  size = size_or_none.is_none() ? memory.size() : size_or_none.cast<Unsigned>().value;
}

std::string nodes_repr(const std::vector<int>& nodes) {
  return py::repr(py::tuple(py::cast(nodes))).cast<std::string>();
}

std::string policy_repr(const NumaPolicy& policy) {
  std::string arguments;
  const auto add = [&arguments](const std::string& text) { arguments += (arguments.empty() ? "" : ", ") + text; };
  for (const int node : policy.nodes()) add(std::to_string(node));
  if (policy.home_node()) add("home_node=" + std::to_string(*policy.home_node()));
  if (policy.kind() == NumaPolicy::Kind::local && !policy.fallback()) add("fallback=False");
  const bool many = policy.kind() == NumaPolicy::Kind::preferred_many;
  return "NumaPolicy." + std::string(many ? "preferred_many" : kind_name(policy)) + "(" + arguments + ")";
}

void bind_numa(py::module_& module) {
  bind_policy(module);
  bind_answers(module);
  bind_nodes(module);
  bind_numa_allocator(module);
  module.def(
      "node_memory", [](int node) { return node_memory(node); }, "node"_a, WithoutGil(), docs::numa_node_memory_of);
  module.def("placement", &placement, "target"_a, py::kw_only(), "paddr"_a = py::none(), "size"_a = py::none(),
             docs::numa_placement_of);
  module.def("placement_unavailable", &placement_unavailable, docs::numa_placement_unavailable);
  module.def("migrate_process", &migrate_process, "source"_a, "target"_a, WithoutGil(), docs::numa_migrate_process);
}
