// vm_mem.prefetch: the prefetchers and their interface.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "page_array.hpp"
#include "prefetcher_type.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/prefetch/distance.hpp"
#include "vm/mem/prefetch/free_neighbours.hpp"
#include "vm/mem/prefetch/markov.hpp"
#include "vm/mem/prefetch/perceptron.hpp"
#include "vm/mem/prefetch/sequential.hpp"
#include "vm/mem/prefetch/strided.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using namespace vm::mem::prefetch;

namespace {

constexpr const char* observe_doc =
    "Tell it of a look-up that missed the TLB, or was the first to hit a prefetched entry; returns the pages to "
    "fetch.\n\n"
    "page: vaddr >> page_shift, at most 2**52 - 1. pc: address of the instruction, 0 when not known. The result has at "
    "most 16 pages, none of them twice and none of them `page`. Thread-safe. Raises InvalidConfig.";
constexpr const char* observe_many_doc =
    "observe() for each of `pages`, in order.\n\n"
    "pages, pcs: one-dimensional arrays of integers; prefetch_hits: of bool; equally long. Returns (offsets, "
    "candidates): int64 of shape (n + 1,) and uint64; what was proposed after event i is "
    "candidates[offsets[i]:offsets[i + 1]]. Thread-safe; releases the GIL. Raises InvalidConfig.";
constexpr const char* outcome_doc =
    "Tell it what became of a page that it had proposed.\n\n"
    "outcome: \"useful\" (filled, then hit), \"useless\" (filled, then evicted or flushed before a hit), \"late\" "
    "(asked "
    "for during the walk) or \"refused\" (the page tables do not map it). Thread-safe. Raises InvalidConfig.";

Outcome parse_outcome(const std::string& name) {
  for (const Outcome outcome : {Outcome::useful, Outcome::useless, Outcome::late, Outcome::refused})
    if (name == to_string(outcome)) return outcome;
  throw vm::InvalidConfig("unknown outcome \"" + name + R"("; choose "useful", "useless", "late" or "refused")");
}

std::vector<std::uint64_t> observe(const PyPrefetcher& self, Unsigned page, Unsigned pc, bool prefetch_hit) {
  require_page(page.value);
  Candidates out;
  const auto lock = self.lock();
  self.get().observe({page.value, pc.value, prefetch_hit}, out);
  return {out.begin(), out.end()};
}

py::tuple observe_many(const PyPrefetcher& self, const py::object& pages, const py::object& pcs,
                       const std::optional<py::array_t<bool>>& prefetch_hits) {
  const PageArray page(pages, "pages");
  const PageArray pc = pcs.is_none() ? PageArray() : PageArray(pcs, "pcs");
  const auto count = static_cast<std::size_t>(page.size());
  if ((!pcs.is_none() && pc.size() != page.size()) ||
      (prefetch_hits && (prefetch_hits->ndim() != 1 || prefetch_hits->size() != page.size()))) {
    throw vm::InvalidConfig("pcs and prefetch_hits must be as long as pages, " + std::to_string(count));
  }
  for (std::size_t i = 0; i < count; ++i) require_page(page[i]);
  std::vector<bool> hits(count);
  for (std::size_t i = 0; prefetch_hits && i < count; ++i) hits[i] = prefetch_hits->at(static_cast<py::ssize_t>(i));

  py::array_t<std::int64_t> offsets(static_cast<py::ssize_t>(count + 1));
  std::int64_t* offset = offsets.mutable_data();
  std::vector<std::uint64_t> candidates;
  {
    const auto lock = self.lock();
    const py::gil_scoped_release release;
    Candidates out;
    offset[0] = 0;
    for (std::size_t i = 0; i < count; ++i) {
      self.get().observe({page[i], pcs.is_none() ? 0 : pc[i], hits[i]}, out);
      candidates.insert(candidates.end(), out.begin(), out.end());
      offset[i + 1] = static_cast<std::int64_t>(candidates.size());
    }
  }
  return py::make_tuple(offsets,
                        py::array_t<std::uint64_t>(static_cast<py::ssize_t>(candidates.size()), candidates.data()));
}

void outcome(const PyPrefetcher& self, Unsigned page, const std::string& name) {
  require_page(page.value);
  const Outcome what = parse_outcome(name);
  const auto lock = self.lock();
  self.get().outcome(page.value, what);
}

void faulted(const PyPrefetcher& self, Unsigned page) {
  require_page(page.value);
  const auto lock = self.lock();
  self.get().faulted(page.value);
}

std::string stats_repr(const Stats& stats) {
  return "PrefetcherStats(events=" + std::to_string(stats.events) + ", proposed=" + std::to_string(stats.proposed) +
         ", filtered=" + std::to_string(stats.filtered) + ", useful=" + std::to_string(stats.useful) +
         ", useless=" + std::to_string(stats.useless) + ", late=" + std::to_string(stats.late) +
         ", refused=" + std::to_string(stats.refused) + ")";
}

void bind_stats(py::module_& module) {
  py::class_<Stats>(module, "PrefetcherStats", "What a prefetcher was told and what it proposed: a snapshot.")
      .def_readonly("events", &Stats::events, "Calls of observe().")
      .def_readonly("proposed", &Stats::proposed, "Candidates handed out.")
      .def_readonly("filtered", &Stats::filtered, "Candidates of inner prefetchers that were held back.")
      .def_readonly("useful", &Stats::useful, "Outcomes told by outcome().")
      .def_readonly("useless", &Stats::useless, "Outcomes told by outcome().")
      .def_readonly("late", &Stats::late, "Outcomes told by outcome().")
      .def_readonly("refused", &Stats::refused, "Outcomes told by outcome().")
      .def_property_readonly("accuracy", &Stats::accuracy,
                             "Useful and late ones among all told outcomes; 0.0 before the first.")
      .def("__repr__", &stats_repr);
}

void bind_base(py::module_& module) {
  py::class_<PyPrefetcher>(module, "Prefetcher",
                           "What every prefetcher does. It proposes page numbers and fetches nothing.")
      .def("observe", &observe, "page"_a, "pc"_a = Unsigned{0}, py::kw_only(), "prefetch_hit"_a = false, observe_doc)
      .def("observe_many", &observe_many, "pages"_a, "pcs"_a = py::none(), py::kw_only(),
           "prefetch_hits"_a = py::none(), observe_many_doc)
      .def("outcome", &outcome, "page"_a, "outcome"_a, outcome_doc)
      .def("faulted", &faulted, "page"_a,
           "Say that a demand look-up ended in a page fault, because the tables did not map the page until now.\n\n"
           "No walk for a prefetch would have found it either. The look-up that is made again is the one to observe().")
      .def(
          "reset",
          [](const PyPrefetcher& self) {
            const auto lock = self.lock();
            self.get().reset();
          },
          "Forget everything learned and counted.")
      .def_property_readonly(
          "stats",
          [](const PyPrefetcher& self) {
            const auto lock = self.lock();
            return Stats(self.get().stats());
          },
          "PrefetcherStats: a snapshot.")
      .def_property_readonly(
          "name", [](const PyPrefetcher& self) { return self.get().name(); }, "What kind it is.")
      .def("__repr__", [](const PyPrefetcher& self) { return self.get().describe(); });
}

/// `type.name` for a field of the configuration.
template <class P, class Type, class Config, class Field>
void parameter(Type& type, const char* name, Field Config::*field, const char* doc) {
  type.def_property_readonly(
      name, [field](const PyPrefetcherOf<P>& self) { return self.get().config().*field; }, doc);
}

template <class P, class Config>
std::unique_ptr<PyPrefetcherOf<P>> construct(const Config& config) {
  return std::make_unique<PyPrefetcherOf<P>>(std::make_unique<P>(config));
}

void bind_sequential(py::module_& module) {
  py::class_<PyPrefetcherOf<Sequential>, PyPrefetcher> type(
      module, "Sequential",
      "Propose the next `degree` pages (1 to 16) after every event. Source: A. J. Smith, Cache Memories, 1982.");
  type.def(py::init([](std::uint32_t degree) { return construct<Sequential>(SequentialConfig{degree}); }),
           py::kw_only(), "degree"_a = 1);
  parameter<Sequential>(type, "degree", &SequentialConfig::degree, "Pages after the demanded one.");
}

void bind_strided(py::module_& module) {
  py::class_<PyPrefetcherOf<Strided>, PyPrefetcher> type(
      module, "Strided",
      "Propose page + stride when an instruction's last two strides were equal (reference prediction table).\n\n"
      "rows, ways: instructions remembered, in sets of so many. degree: strides ahead, 1 to 16. Events without pc go "
      "to "
      "one of so many streams instead: the one that expects the page, else the nearest within `window` pages. Source: "
      "Chen & Baer 1995; Kandiraju & Sivasubramaniam, ISCA 2002, section 2.2.");
  type.def(py::init([](std::uint32_t rows, std::uint32_t ways, std::uint32_t streams, std::uint32_t window,
                       std::uint32_t degree) {
             return construct<Strided>(StridedConfig{rows, ways, streams, window, degree});
           }),
           py::kw_only(), "rows"_a = 256, "ways"_a = 4, "streams"_a = 16, "window"_a = 256, "degree"_a = 1);
  parameter<Strided>(type, "rows", &StridedConfig::rows, "Instructions remembered.");
  parameter<Strided>(type, "ways", &StridedConfig::ways, "Rows of a set.");
  parameter<Strided>(type, "streams", &StridedConfig::streams, "Streams followed when pc is not known.");
  parameter<Strided>(type, "window", &StridedConfig::window, "Pages from a stream's end that belong to it.");
  parameter<Strided>(type, "degree", &StridedConfig::degree, "Strides ahead.");
}

void bind_distance(py::module_& module) {
  py::class_<PyPrefetcherOf<Distance>, PyPrefetcher> type(
      module, "Distance",
      "Propose the distances that followed the last distance before.\n\n"
      "rows, ways: of the table, direct-mapped with ways=1 as in the paper. slots: distances remembered per row, 1 to "
      "8. "
      "Source: Kandiraju & Sivasubramaniam, Going the Distance for TLB Prefetching, ISCA 2002.");
  type.def(py::init([](std::uint32_t rows, std::uint32_t ways, std::uint32_t slots) {
             return construct<Distance>(DistanceConfig{rows, ways, slots});
           }),
           py::kw_only(), "rows"_a = 256, "ways"_a = 1, "slots"_a = 2);
  parameter<Distance>(type, "rows", &DistanceConfig::rows, "Distances that select a row.");
  parameter<Distance>(type, "ways", &DistanceConfig::ways, "Rows of a set.");
  parameter<Distance>(type, "slots", &DistanceConfig::slots, "Distances remembered per row.");
}

void bind_markov(py::module_& module) {
  py::class_<PyPrefetcherOf<Markov>, PyPrefetcher> type(module, "Markov",
                                                        "Propose the pages that followed this page before.\n\n"
                                                        "rows, ways: pages remembered, in sets of so many. slots: "
                                                        "successors remembered per page, 1 to 8. Source: Joseph & "
                                                        "Grunwald, Prefetching using Markov Predictors, ISCA 1997.");
  type.def(py::init([](std::uint32_t rows, std::uint32_t ways, std::uint32_t slots) {
             return construct<Markov>(MarkovConfig{rows, ways, slots});
           }),
           py::kw_only(), "rows"_a = 1024, "ways"_a = 4, "slots"_a = 2);
  parameter<Markov>(type, "rows", &MarkovConfig::rows, "Pages remembered.");
  parameter<Markov>(type, "ways", &MarkovConfig::ways, "Rows of a set.");
  parameter<Markov>(type, "slots", &MarkovConfig::slots, "Successors remembered per page.");
}

void bind_free_neighbours(py::module_& module) {
  py::class_<PyPrefetcherOf<FreeNeighbours>, PyPrefetcher> type(
      module, "FreeNeighbours",
      "Propose the pages whose entries share a cache line with the walked one, at distances that proved worth it.\n\n"
      "group: entries in a line, 8 or, of 4 bytes, 16. threshold: of a distance's counter of counter_bits bits. "
      "lines: "
      "cache lines remembered. Source: sampling-based free prefetching, Vavouliotis et al., ISCA 2021.");
  type.def(py::init([](std::uint32_t group, std::uint32_t threshold, std::uint32_t counter_bits, std::uint32_t lines) {
             return construct<FreeNeighbours>(FreeNeighboursConfig{group, threshold, counter_bits, lines});
           }),
           py::kw_only(), "group"_a = 8, "threshold"_a = 100, "counter_bits"_a = 10, "lines"_a = 9);
  parameter<FreeNeighbours>(type, "group", &FreeNeighboursConfig::group, "Leaf entries in a cache line.");
  parameter<FreeNeighbours>(type, "threshold", &FreeNeighboursConfig::threshold, "A counter above it is worth it.");
  parameter<FreeNeighbours>(type, "counter_bits", &FreeNeighboursConfig::counter_bits, "Width of the counters.");
  parameter<FreeNeighbours>(type, "lines", &FreeNeighboursConfig::lines, "Cache lines remembered.");
  type.def(
      "counter",
      [](const PyPrefetcherOf<FreeNeighbours>& self, std::int64_t distance) {
        const auto lock = self.lock();
        return self.get().counter(distance);
      },
      "distance"_a, "The counter of a distance from 1 - group to group - 1; 0 for any other.");
}

void bind_perceptron(py::module_& module) {
  py::class_<PyPrefetcherOf<Perceptron>, PyPrefetcher> type(
      module, "Perceptron",
      "Pass on those candidates of a prefetcher that are worth a walk, as learned from outcomes.\n\n"
      "inner: the prefetcher to judge; one of its kind that has learned nothing is used. rows: weights per feature. "
      "threshold: the sum that passes. margin: how far from it right answers are still reinforced. passed, refused: "
      "candidates remembered. Without outcome() it passes everything. Source: Bhatia et al., Perceptron-Based Prefetch "
      "Filtering, ISCA 2019.");
  type.def(py::init([](const PyPrefetcher& inner, std::uint32_t rows, std::uint32_t weight_bits, std::int32_t threshold,
                       std::uint32_t margin, std::uint32_t passed, std::uint32_t refused) {
             return std::make_unique<PyPrefetcherOf<Perceptron>>(std::make_unique<Perceptron>(
                 inner.get().fresh(), PerceptronConfig{rows, weight_bits, threshold, margin, passed, refused}));
           }),
           "inner"_a, py::kw_only(), "rows"_a = 1024, "weight_bits"_a = 6, "threshold"_a = PerceptronConfig{}.threshold,
           "margin"_a = PerceptronConfig{}.margin, "passed"_a = 1024, "refused"_a = 1024);
  parameter<Perceptron>(type, "rows", &PerceptronConfig::rows, "Weights per feature.");
  parameter<Perceptron>(type, "weight_bits", &PerceptronConfig::weight_bits, "Width of a weight.");
  parameter<Perceptron>(type, "threshold", &PerceptronConfig::threshold, "The sum that passes.");
  parameter<Perceptron>(type, "margin", &PerceptronConfig::margin, "Training goes on while a sum is within.");
  parameter<Perceptron>(type, "passed", &PerceptronConfig::passed, "Candidates remembered until their outcome.");
  parameter<Perceptron>(type, "refused", &PerceptronConfig::refused, "Refused candidates remembered.");
  type.def_property_readonly(
      "inner_stats",
      [](const PyPrefetcherOf<Perceptron>& self) {
        const auto lock = self.lock();
        return Stats(self.get().inner().stats());
      },
      "PrefetcherStats of the prefetcher that is judged.");
}

}  // namespace

void bind_prefetch(py::module_& module) {
  bind_stats(module);
  bind_base(module);
  bind_sequential(module);
  bind_strided(module);
  bind_distance(module);
  bind_markov(module);
  bind_free_neighbours(module);
  bind_perceptron(module);
  bind_prefetch_adaptive(module);
  bind_prefetch_profile(module);
}
