// NumaAllocator and its blocks for Python.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "huge_pages.hpp"
#include "numa.hpp"
#include "numa_docs.hpp"
#include "touch.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/numa/allocator.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::mem::numa;
using vm::mem::GuestMemory;
using vm::mem::HostMapping;
using WithoutGil = py::call_guard<py::gil_scoped_release>;
using HugePagesName = std::optional<std::string>;
using Nodes = std::optional<std::vector<int>>;

namespace {

py::object text_or_none(const std::string& text) { return text.empty() ? py::none() : py::object(py::str(text)); }

BlockOptions options_from(const HugePagesName& huge_pages, bool populate) {
  return {parse_huge_pages(huge_pages), populate};
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

py::object array(const NumaBlock& block, const py::object& dtype) {
  const py::dtype type = py::dtype::from_args(dtype);
  const auto item = static_cast<std::uint64_t>(type.itemsize());
  if (type.attr("hasobject").cast<bool>()) {
    throw vm::InvalidConfig("a block holds no Python objects; choose another dtype than " +
                            py::repr(type).cast<std::string>());
  }
  if (item == 0 || block.size() % item != 0) {
    throw vm::InvalidConfig("a block of " + std::to_string(block.size()) + " bytes is no whole number of items of " +
                            std::to_string(item) + " bytes (" + py::repr(type).cast<std::string>() + ")");
  }
  auto mapping = block.mapping();
  std::byte* data = mapping->data();
  const py::array bytes(py::dtype::of<std::uint8_t>(), {static_cast<py::ssize_t>(block.size())}, {py::ssize_t{1}}, data,
                        keeper_of(std::move(mapping)));
  return bytes.attr("view")(type);
}

Migration migrate(NumaBlock& block, const std::variant<int, NumaPolicy>& target) {
  if (const int* node = std::get_if<int>(&target)) return block.migrate(NumaPolicy::bind({*node}));
  return block.migrate(std::get<NumaPolicy>(target));
}

std::string block_repr(const NumaBlock& block) {
  const std::string size = std::to_string(block.size()) + " bytes";
  try {
    const Binding binding = block.binding();
    return "<NumaBlock of " + size + ": " + block.decision().text() + ", " +
           (binding.bound() ? "through " + binding.through : "not bound") + ">";
  } catch (const vm::ClosedError&) {
    return "<NumaBlock of " + size + ": closed>";
  }
}

template <class Block>
void bind_closing(py::class_<Block, std::shared_ptr<Block>>& type) {
  type.def("close", &Block::close, WithoutGil(), "Give the memory up. Twice is fine; arrays keep theirs.")
      .def_property_readonly("closed", &Block::closed, "Whether close() was called.")
      .def("__enter__", [](const py::object& self) { return self; })
      .def("__exit__", [](Block& block, const py::args&) {
        const py::gil_scoped_release release;
        block.close();
      });
}

void bind_blocks(py::module_& module) {
  py::class_<NumaBlock, std::shared_ptr<NumaBlock>> block(module, "NumaBlock", docs::numa_block);
  bind_closing(block);
  block.def_property_readonly("size", &NumaBlock::size, "Bytes.")
      .def_property_readonly("decision", &NumaBlock::decision, "What the kernel was asked last.")
      .def_property_readonly(
          "through", [](const NumaBlock& self) { return text_or_none(self.binding().through); },
          "Who told the kernel: \"hwloc 2.9.0\", \"mbind\"; None when it does not hold the policy.")
      .def_property_readonly(
          "refusal", [](const NumaBlock& self) { return text_or_none(self.binding().refusal); },
          "Why the kernel does not hold all of the policy; None when it does.")
      .def("array", &array, "dtype"_a = "u1", docs::numa_block_array)
      .def("populate", &NumaBlock::populate, WithoutGil(),
           "Put pages under all bytes. Raises ResourceExhausted, PlatformError.")
      .def("placement", &NumaBlock::placement, WithoutGil(),
           "Where the pages are now. Raises NotSupported where the kernel does not tell.")
      .def("verify", &NumaBlock::verify, WithoutGil(), "Whether that is where they were wanted.")
      .def("migrate", &migrate, "policy"_a, WithoutGil(), docs::numa_block_migrate)
      .def("__len__", &NumaBlock::size)
      .def("__repr__", &block_repr);

  py::class_<ReplicatedBlock, std::shared_ptr<ReplicatedBlock>> replicated(module, "ReplicatedBlock",
                                                                           docs::numa_replicated);
  bind_closing(replicated);
  replicated
      .def_property_readonly(
          "nodes", [](const ReplicatedBlock& self) { return py::tuple(py::cast(self.nodes())); },
          "That have a copy, ascending.")
      .def_property_readonly("size", &ReplicatedBlock::size, "Bytes of each copy.")
      .def_property_readonly("local", &ReplicatedBlock::local, "The copy nearest to the calling thread's CPU.")
      .def("on", &ReplicatedBlock::on, "node"_a, "The copy on ``node``. Raises OutOfRange when there is none.")
      .def(
          "write",
          [](ReplicatedBlock& self, Unsigned offset, const py::object& source) {
            const NumaBuffer buffer(source, "write");
            const py::gil_scoped_release release;
            self.write(offset.value, buffer.data(), buffer.size());
          },
          "offset"_a, "buffer"_a, "Copy a contiguous buffer to ``offset`` of every copy. Raises OutOfRange.")
      .def("synchronize", &ReplicatedBlock::synchronize, "node"_a, WithoutGil(),
           "Make the others equal to the copy on ``node``. Raises OutOfRange when there is none.")
      .def("__len__", &ReplicatedBlock::size)
      .def("__repr__", [](const ReplicatedBlock& self) {
        return "<ReplicatedBlock of " + std::to_string(self.size()) + " bytes on nodes " + nodes_repr(self.nodes()) +
               ">";
      });
}

Through through_from(const std::optional<std::string>& name) {
  if (!name) return Through::automatic;
  if (*name == "hwloc") return Through::hwloc;
  if (*name == "mbind") return Through::system_calls;
  throw vm::InvalidConfig("unknown through \"" + *name + "\"; choose \"hwloc\", \"mbind\" or None");
}

std::unique_ptr<NumaAllocator> make(const std::optional<NumaPolicy>& policy,
                                    const std::optional<vm::Topology>& topology,
                                    const std::optional<std::string>& through) {
  const Through way = through_from(through);
  const NumaPolicy wanted = policy.value_or(NumaPolicy::local());
  const py::gil_scoped_release release;
  if (topology) return std::make_unique<NumaAllocator>(*topology, wanted, way);
  return std::make_unique<NumaAllocator>(wanted, way);
}

Migration place(NumaAllocator& self, GuestMemory& memory, const std::optional<NumaPolicy>& policy,
                const py::object& paddr, const py::object& size, bool populate) {
  const GuestRange range(memory, paddr, size);
  const py::gil_scoped_release release;
  const TouchGuard touching(memory);
  return self.place(memory, range.paddr, range.size, policy.value_or(self.policy()), PlaceOptions{populate});
}

using Allocator = py::class_<NumaAllocator>;

void bind_allocations(Allocator& type) {
  type.def(
          "allocate",
          [](NumaAllocator& self, Unsigned size, const std::optional<NumaPolicy>& policy,
             const HugePagesName& huge_pages, bool populate) {
            return self.allocate(size.value, policy.value_or(self.policy()), options_from(huge_pages, populate));
          },
          "size"_a, "policy"_a = py::none(), py::kw_only(), "huge_pages"_a = "auto", "populate"_a = false, WithoutGil(),
          docs::numa_allocate)
      .def(
          "allocate_local",
          [](NumaAllocator& self, Unsigned size, const HugePagesName& huge_pages, bool populate) {
            return self.allocate_local(size.value, options_from(huge_pages, populate));
          },
          "size"_a, py::kw_only(), "huge_pages"_a = "auto", "populate"_a = false, WithoutGil(),
          docs::numa_allocate_local)
      .def(
          "allocate_on_node",
          [](NumaAllocator& self, Unsigned size, int node, const HugePagesName& huge_pages) {
            return self.allocate_on_node(size.value, node, options_from(huge_pages, true));
          },
          "size"_a, "node"_a, py::kw_only(), "huge_pages"_a = "auto", WithoutGil(), docs::numa_allocate_on_node)
      .def(
          "allocate_interleaved",
          [](NumaAllocator& self, Unsigned size, const Nodes& nodes, const HugePagesName& huge_pages, bool populate) {
            return self.allocate_interleaved(size.value, nodes.value_or(std::vector<int>{}),
                                             options_from(huge_pages, populate));
          },
          "size"_a, "nodes"_a = py::none(), py::kw_only(), "huge_pages"_a = "auto", "populate"_a = false, WithoutGil(),
          docs::numa_allocate_interleaved)
      .def(
          "allocate_cpu_local",
          [](NumaAllocator& self, Unsigned size, int cpu, const HugePagesName& huge_pages) {
            return self.allocate_cpu_local(size.value, cpu, options_from(huge_pages, true));
          },
          "size"_a, "cpu"_a, py::kw_only(), "huge_pages"_a = "auto", WithoutGil(), docs::numa_allocate_cpu_local)
      .def(
          "allocate_replicated",
          [](NumaAllocator& self, Unsigned size, const Nodes& nodes, const HugePagesName& huge_pages) {
            return self.allocate_replicated(size.value, nodes.value_or(std::vector<int>{}),
                                            options_from(huge_pages, true));
          },
          "size"_a, "nodes"_a = py::none(), py::kw_only(), "huge_pages"_a = "auto", WithoutGil(),
          docs::numa_allocate_replicated);
}

}  // namespace

void bind_numa_allocator(py::module_& module) {
  bind_blocks(module);
  Allocator type(module, "NumaAllocator", docs::numa_allocator);
  bind_allocations(type);
  type.def(py::init(&make), "policy"_a = py::none(), py::kw_only(), "topology"_a = py::none(), "through"_a = py::none())
      .def_property_readonly("policy", &NumaAllocator::policy, "What ``allocate`` uses.")
      .def_property_readonly("topology", &NumaAllocator::topology, py::return_value_policy::copy,
                             "The machine that it allocates on.")
      .def_property_readonly("through", &NumaAllocator::through,
                             "\"hwloc 2.9.0\", or \"mbind\" with the reason why not hwloc.")
      .def(
          "decide",
          [](const NumaAllocator& self, const std::optional<NumaPolicy>& policy) {
            return self.decide(policy.value_or(self.policy()));
          },
          "policy"_a = py::none(), "What the kernel would be asked now, by the calling thread.")
      .def("place", &place, "memory"_a, "policy"_a = py::none(), py::kw_only(), "paddr"_a = py::none(),
           "size"_a = py::none(), "populate"_a = false, docs::numa_place)
      .def("statistics", &NumaAllocator::statistics, WithoutGil(), docs::numa_statistics)
      .def("__repr__", [](const NumaAllocator& self) {
        return "<NumaAllocator " + policy_repr(self.policy()) + " through " + self.through() + ">";
      });
}
