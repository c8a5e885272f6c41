#include "tlb_stats.hpp"

#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "vm/mem/tlb/stats.hpp"

namespace py = pybind11;
using vm::mem::tlb::LevelStats;
using vm::mem::tlb::PrefetchStats;
using vm::mem::tlb::TlbStats;

namespace {

std::string repr(const LevelStats& s) {
  return "LevelStats(hits=" + std::to_string(s.hits) + ", misses=" + std::to_string(s.misses) +
         ", fills=" + std::to_string(s.fills) + ", evictions=" + std::to_string(s.evictions) +
         ", flushed=" + std::to_string(s.flushed) + ", promoted=" + std::to_string(s.promoted) + ")";
}
std::string repr(const PrefetchStats& s) {
  return "PrefetchStats(fills=" + std::to_string(s.fills) + ", useful=" + std::to_string(s.useful) +
         ", useless=" + std::to_string(s.useless) + ")";
}
std::string repr(const TlbStats& s) {
  std::string text = "TlbStats(";
  for (std::size_t l = 0; l < s.levels.size(); ++l)
    text += "l" + std::to_string(l + 1) + "=" + repr(s.levels[l]) + ", ";
  return text + "prefetch=" + repr(s.prefetch) + ", flushes=" + std::to_string(s.flushes) +
         ", rejected_fills=" + std::to_string(s.rejected_fills) + ")";
}

template <std::size_t level>
std::optional<LevelStats> level_of(const TlbStats& s) {
  return level < s.levels.size() ? std::optional<LevelStats>(s.levels[level]) : std::nullopt;
}

}  // namespace

void bind_tlb_stats(py::module_& module) {
  py::class_<LevelStats>(module, "LevelStats",
                         "Events of one level; a look-up that a level misses is one of the next level. Immutable.\n\n"
                         "fills == evictions + flushed + promoted + the entries that are in it.")
      .def_readonly("hits", &LevelStats::hits)
      .def_readonly("misses", &LevelStats::misses)
      .def_readonly("fills", &LevelStats::fills, "Entries written, for whatever reason.")
      .def_readonly("evictions", &LevelStats::evictions, "Live entries that had to make room for others.")
      .def_readonly("flushed", &LevelStats::flushed, "Entries that a flush removed.")
      .def_readonly("promoted", &LevelStats::promoted, "Entries that a hit moved to an earlier level.")
      .def_property_readonly("lookups", &LevelStats::lookups, "hits + misses.")
      .def_property_readonly("hit_rate", &LevelStats::hit_rate, "0.0 before the first look-up.")
      .def("__repr__", [](const LevelStats& self) { return repr(self); });
  py::class_<PrefetchStats>(module, "PrefetchStats",
                            "A prefetched entry is useful when it is hit before it goes, useless when it goes without. "
                            "Immutable.")
      .def_readonly("fills", &PrefetchStats::fills)
      .def_readonly("useful", &PrefetchStats::useful)
      .def_readonly("useless", &PrefetchStats::useless)
      .def("__repr__", [](const PrefetchStats& self) { return repr(self); });
  py::class_<TlbStats>(module, "TlbStats", "What happened in a TLB so far. A copy: it does not change. Immutable.")
      .def_property_readonly(
          "l1", [](const TlbStats& self) { return self.levels.at(0); }, "LevelStats of level 0.")
      .def_property_readonly("l2", &level_of<1>, "LevelStats, or None when there is no such level.")
      .def_property_readonly("l3", &level_of<2>, "LevelStats, or None when there is no such level.")
      .def_property_readonly(
          "levels", [](const TlbStats& self) { return py::tuple(py::cast(self.levels)); }, "LevelStats of every level.")
      .def_readonly("prefetch", &TlbStats::prefetch)
      .def_readonly("flushes", &TlbStats::flushes, "Flush requests carried out.")
      .def_readonly("rejected_fills", &TlbStats::rejected_fills, "Fills that a flush overtook.")
      .def("__repr__", [](const TlbStats& self) { return repr(self); });
}
