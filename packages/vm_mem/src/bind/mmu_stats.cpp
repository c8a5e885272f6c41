#include "mmu_stats.hpp"

#include <pybind11/stl.h>

#include <string>

#include "vm/mem/mmu/mmu.hpp"

namespace py = pybind11;
using vm::mem::MmuStats;
using vm::mem::tlb::WalkCacheStats;

namespace {

py::object level(const MmuStats& self, std::size_t n) {
  return n < self.tlb.levels.size() ? py::cast(self.tlb.levels[n]) : py::none();
}

std::string repr(const MmuStats& self) {
  std::string text = "MmuStats(";
  for (std::size_t n = 0; n < self.tlb.levels.size(); ++n)
    text += "l" + std::to_string(n + 1) + ".hit_rate=" +
            py::str(py::float_(self.tlb.levels[n].hit_rate()).attr("__format__")(".3f")).cast<std::string>() + ", ";
  return text + "walks=" + std::to_string(self.walks) + ", faults=" + std::to_string(self.faults) + ")";
}

}  // namespace

void bind_mmu_stats(py::module_& module) {
  py::class_<WalkCacheStats::Level>(module, "WalkCacheLevelStats", "One level of a page-walk cache.")
      .def_readonly("hits", &WalkCacheStats::Level::hits, "Walks that began at a table of this level.")
      .def_readonly("fills", &WalkCacheStats::Level::fills, "Tables remembered.")
      .def_readonly("evictions", &WalkCacheStats::Level::evictions, "Tables that had to make room.");
  py::class_<WalkCacheStats>(module, "WalkCacheStats",
                             "What a page-walk cache saved. levels[0] are the last-level tables (x86: PDE cache).")
      .def_property_readonly(
          "levels",
          [](const WalkCacheStats& self) {
            return std::vector<WalkCacheStats::Level>(self.levels.begin(), self.levels.end());
          },
          "WalkCacheLevelStats by the level of the table.")
      .def_readonly("misses", &WalkCacheStats::misses, "Walks that began at the root.");

  py::class_<MmuStats>(module, "MmuStats", "What an Mmu did so far, counted where it happened; a snapshot.")
      .def_property_readonly(
          "l1", [](const MmuStats& self) { return level(self, 0); }, "LevelStats of the first TLB level.")
      .def_property_readonly(
          "l2", [](const MmuStats& self) { return level(self, 1); }, "LevelStats of the second TLB level, or None.")
      .def_property_readonly(
          "l3", [](const MmuStats& self) { return level(self, 2); }, "LevelStats of the third TLB level, or None.")
      .def_readonly("tlb", &MmuStats::tlb, "TlbStats: all levels, prefetched entries, flushes.")
      .def_readonly("walk_cache", &MmuStats::walk_cache, "WalkCacheStats.")
      .def_property_readonly(
          "prefetch", [](const MmuStats& self) { return self.prefetch.advice; },
          "PrefetcherStats: events, proposed, useful, useless, late and refused candidates.")
      .def_readonly("walks", &MmuStats::walks, "Page-table walks for demanded addresses.")
      .def_readonly("faults", &MmuStats::faults, "Translations that ended in a fault; of arrays only few are counted.")
      .def_readonly("prefetch_walks", &MmuStats::prefetch_walks, "Page-table walks for candidates of the prefetcher.")
      .def_readonly("arrays", &MmuStats::arrays,
                    "LevelStats of the TLB that large arrays have; what misses there is walked.")
      .def_readonly("bypassed", &MmuStats::bypassed, "Elements of arrays that were walked without asking a TLB.")
      .def_readonly("mmio_reads", &MmuStats::mmio_reads, "Reads that reached a device; a block counts once.")
      .def_readonly("mmio_writes", &MmuStats::mmio_writes, "Writes that reached a device; a block counts once.")
      .def("__repr__", &repr);
}
