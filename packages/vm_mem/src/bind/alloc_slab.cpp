// vm_mem.alloc: SlabAllocator, Hardening and the statistics.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "alloc_block.hpp"
#include "bind.hpp"
#include "huge_pages.hpp"
#include "keyword_config.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/alloc/slab_allocator.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using vm::mem::alloc::Hardening;
using vm::mem::alloc::SlabAllocator;
using vm::mem::alloc::SlabClassStats;
using vm::mem::alloc::SlabConfig;
using vm::mem::alloc::SlabStats;

namespace {

using Slabs = std::shared_ptr<SlabAllocator>;

py::dict hardening_arguments(const Hardening& self) {
  return py::dict("checks"_a = self.checks, "canaries"_a = self.canaries, "quarantine"_a = self.quarantine,
                  "guard_pages"_a = self.guard_pages);
}

Slabs make(Unsigned capacity, Unsigned cached_bytes, Unsigned spare_slabs, const std::optional<std::string>& huge_pages,
           const std::optional<Hardening>& hardening) {
  SlabConfig config;
  config.capacity = capacity.value;
  config.cached_bytes = cached_bytes.value;
  config.spare_slabs = narrow<std::uint32_t>(spare_slabs, "spare_slabs");
  config.huge_pages = parse_huge_pages(huge_pages);
  if (hardening) config.hardening = *hardening;
  const py::gil_scoped_release release;
  return std::make_shared<SlabAllocator>(config);
}

std::unique_ptr<Block> allocate(const Slabs& slabs, std::size_t size, std::size_t alignment) {
  void* const data = slabs->allocate(size, alignment);
  try {
    return std::make_unique<Block>(data, size,
                                   [slabs, data, size, alignment] { slabs->deallocate(data, size, alignment); });
  } catch (...) {
    slabs->deallocate(data, size, alignment);
    throw;
  }
}

py::object empty(const Slabs& slabs, const py::object& shape, const py::object& dtype, Unsigned alignment) {
  const ArrayRequest request(shape, dtype);
  return array_over(allocate(slabs, request.bytes, alignment.value), request);
}

/// The sizes that are in use; 32 rows of mostly zeros tell nobody anything.
std::vector<SlabClassStats> used_classes(const SlabStats& stats) {
  std::vector<SlabClassStats> used;
  const auto in_use = [](const SlabClassStats& each) { return each.slabs != 0 || each.returned != 0; };
  std::copy_if(stats.classes.begin(), stats.classes.end(), std::back_inserter(used), in_use);
  return used;
}

void bind_stats(py::module_& module) {
  py::class_<SlabClassStats>(module, "SlabClassStats", "One size of block of a SlabAllocator at one moment.")
      .def_readonly("block_size", &SlabClassStats::block_size, "Bytes.")
      .def_readonly("slabs", &SlabClassStats::slabs, "Slabs cut into blocks of this size.")
      .def_readonly("live", &SlabClassStats::live, "Blocks in use (and in quarantine, or damaged).")
      .def_readonly("cached", &SlabClassStats::cached, "Free blocks in magazines.")
      .def_readonly("refills", &SlabClassStats::refills,
                    "Times that a magazine was filled from slabs; never with Hardening's checks.")
      .def_readonly("returned", &SlabClassStats::returned, "Blocks that went back to their slabs.")
      .def("__repr__", [](const SlabClassStats& self) {
        return "SlabClassStats(block_size=" + std::to_string(self.block_size) +
               ", slabs=" + std::to_string(self.slabs) + ", live=" + std::to_string(self.live) +
               ", cached=" + std::to_string(self.cached) + ", refills=" + std::to_string(self.refills) +
               ", returned=" + std::to_string(self.returned) + ")";
      });
  py::class_<SlabStats>(
      module, "SlabStats",
      "An account of a SlabAllocator.\n\nExact while no other thread allocates or frees. Calls are not "
      "counted: that would cost more than they do.")
      .def_property_readonly("classes", &used_classes, "SlabClassStats of each size that was ever used.")
      .def_readonly("live_blocks", &SlabStats::live_blocks, "Blocks in use (and in quarantine, or damaged).")
      .def_readonly("live_bytes", &SlabStats::live_bytes, "The same in bytes of their blocks.")
      .def_readonly("cached_bytes", &SlabStats::cached_bytes, "Free blocks in magazines, in bytes.")
      .def_readonly("slab_bytes", &SlabStats::slab_bytes, "Slabs in use, in bytes.")
      .def_readonly("spare_slabs", &SlabStats::spare_slabs, "Empty slabs that still have their pages.")
      .def_readonly("exchanges", &SlabStats::exchanges, "Magazines handed over between threads and the depot.")
      .def_readonly("threads", &SlabStats::threads, "Threads that have magazines.")
      .def_readonly("quarantined", &SlabStats::quarantined, "Freed blocks in quarantine.")
      .def_readonly("repeated_frees", &SlabStats::repeated_frees,
                    "Blocks that came back to their slab although they were free: a bug of the caller.")
      .def("__repr__", [](const SlabStats& self) {
        return "SlabStats(live_blocks=" + std::to_string(self.live_blocks) +
               ", live_bytes=" + std::to_string(self.live_bytes) +
               ", cached_bytes=" + std::to_string(self.cached_bytes) +
               ", slab_bytes=" + std::to_string(self.slab_bytes) + ")";
      });
}

void bind_hardening(py::module_& module) {
  py::class_<Hardening> type(
      module, "Hardening",
      "What a SlabAllocator looks for in its callers; what it finds is an exception that names the block.\n\n"
      "checks: double frees (DoubleFree), foreign and inner pointers (AccessViolation). canaries: writes beyond the "
      "end of a block, found when it is freed. quarantine: freed blocks that wait, filled with a pattern; writes to "
      "them are found when they leave, and so is an overwritten entry of their encoded list. guard_pages: the last "
      "page "
      "of each slab is inaccessible. Canaries and quarantine need checks, which make a call cost 100 to 300 ns.");
  type.def(py::init([](bool checks, bool canaries, std::size_t quarantine, bool guard_pages) {
             return Hardening{checks, canaries, quarantine, guard_pages};
           }),
           py::kw_only(), "checks"_a = false, "canaries"_a = false, "quarantine"_a = 0, "guard_pages"_a = false)
      .def_static("all", &Hardening::all, "Everything, with a quarantine of 1024 blocks.")
      .def_readonly("checks", &Hardening::checks, "Look for double frees and wrong pointers.")
      .def_readonly("canaries", &Hardening::canaries, "Look for writes beyond the end.")
      .def_readonly("quarantine", &Hardening::quarantine, "Freed blocks that wait.")
      .def_readonly("guard_pages", &Hardening::guard_pages, "End slabs with an inaccessible page.");
  add_keyword_config<Hardening>(type, "Hardening", &hardening_arguments);
}

std::string repr(const SlabAllocator& self) {
  const SlabStats stats = self.stats();
  return "<SlabAllocator: " + std::to_string(stats.live_blocks) + " blocks in " + std::to_string(stats.slab_bytes) +
         " bytes of slabs>";
}

}  // namespace

void bind_alloc_slab(py::module_& module) {
  bind_stats(module);
  bind_hardening(module);
  const SlabConfig defaults;
  py::class_<SlabAllocator, Slabs>(
      module, "SlabAllocator",
      "Blocks of up to 8 KiB for many threads, each of which has a stock of its own.\n\n"
      "capacity: bytes of address space; memory is used as blocks are. cached_bytes: of each size, free blocks that "
      "wait in full magazines for any thread. spare_slabs: empty slabs (64 KiB) that keep their pages. huge_pages: "
      "None, \"auto\", \"transparent\", \"2M\" or \"1G\". Thread-safe. Blocks and arrays keep the memory when the "
      "allocator is forgotten. Raises InvalidConfig, ResourceExhausted. Sources: Bonwick, USENIX Summer 1994; Bonwick "
      "& "
      "Adams, USENIX 2001.")
      .def(py::init(&make), "capacity"_a = Unsigned{defaults.capacity}, py::kw_only(),
           "cached_bytes"_a = Unsigned{defaults.cached_bytes}, "spare_slabs"_a = Unsigned{defaults.spare_slabs},
           "huge_pages"_a = py::none(), "hardening"_a = py::none())
      .def(
          "allocate",
          [](const Slabs& self, Unsigned size, Unsigned alignment) {
            return allocate(self, size.value, alignment.value);
          },
          "size"_a, "alignment"_a = Unsigned{vm::mem::alloc::least_alignment},
          "A Block of `size` bytes, aligned to a power of two up to 4096.\n\nRaises InvalidConfig for more than "
          "largest_size bytes, ResourceExhausted when the capacity is used up.")
      .def(
          "empty", &empty, "shape"_a, "dtype"_a = "float64", py::kw_only(),
          "alignment"_a = Unsigned{vm::mem::alloc::least_alignment},
          "An array, not initialized, in a block that goes back with the last view of it.\n\nRaises as allocate(), and "
          "InvalidConfig for a dtype that holds Python objects.")
      .def(
          "reserve", [](SlabAllocator& self, Unsigned size, Unsigned count) { self.reserve(size.value, count.value); },
          "size"_a, "count"_a, py::call_guard<py::gil_scoped_release>(),
          "Have `count` free blocks of `size` bytes before anybody asks.\n\nRaises as allocate(); then it has taken "
          "nothing.")
      .def("trim", &SlabAllocator::trim, py::call_guard<py::gil_scoped_release>(),
           "Give back what nobody uses; return the bytes of the slabs whose pages went to the kernel, touched or "
           "not.\n\nWhat other threads hold in magazines stays with them.")
      .def("verify", &SlabAllocator::verify, py::call_guard<py::gil_scoped_release>(),
           "Look at all canaries and at the quarantine now.\n\nRaises AccessViolation for the first damage found.")
      .def_property_readonly("stats", &SlabAllocator::stats, "SlabStats: a snapshot.")
      .def_property_readonly("largest_size", &SlabAllocator::largest_size, "Bytes that allocate() gives at most.")
      .def_property_readonly(
          "capacity", [](const SlabAllocator& self) { return self.config().capacity; }, "Bytes asked for.")
      .def_property_readonly(
          "hardening", [](const SlabAllocator& self) { return self.config().hardening; }, "What it looks for.")
      .def("__repr__", &repr);
}
