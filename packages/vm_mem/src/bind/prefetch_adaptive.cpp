// vm_mem.prefetch.Adaptive and its decisions.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "prefetcher_type.hpp"
#include "vm/mem/prefetch/adaptive.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using namespace vm::mem::prefetch;

namespace {

using PyAdaptive = PyPrefetcherOf<Adaptive>;

std::optional<int> index_or_none(int member) {
  if (member == Decision::none) return std::nullopt;
  return member;
}

std::string index_text(int member) { return member == Decision::none ? "None" : std::to_string(member); }

std::string decision_repr(const Decision& decision) {
  return "<Decision after event " + std::to_string(decision.event) + ": from " + index_text(decision.from) + " to " +
         index_text(decision.to) + ">";
}

std::vector<std::unique_ptr<Prefetcher>> fresh_members(const py::object& members) {
  if (members.is_none()) return default_members();
  std::vector<std::unique_ptr<Prefetcher>> all;
  for (const py::handle member : members) all.push_back(member.cast<const PyPrefetcher&>().get().fresh());
  return all;
}

template <class Field>
void parameter(py::class_<PyAdaptive, PyPrefetcher>& type, const char* name, Field AdaptiveConfig::*field,
               const char* doc) {
  type.def_property_readonly(
      name, [field](const PyAdaptive& self) { return self.get().config().*field; }, doc);
}

template <class Each>
auto each_member(const PyAdaptive& self, Each each) {
  const auto lock = self.lock();
  std::vector<decltype(each(self.get(), 0))> all;
  for (std::size_t i = 0; i < self.get().size(); ++i) all.push_back(each(self.get(), i));
  return all;
}

void bind_decisions(py::module_& module) {
  py::class_<MemberScore>(module, "MemberScore", "How a member of Adaptive did lately.")
      .def_readonly("accuracy", &MemberScore::accuracy,
                    "Share of its proposals that events asked for, leaving out those known to be unmapped.")
      .def_readonly("coverage", &MemberScore::coverage, "Share of the avoidable events that it had proposed.")
      .def_readonly("score", &MemberScore::score,
                    "Misses avoided per event, less the prices of its walks and fills for nothing.")
      .def("__repr__", [](const MemberScore& self) {
        return "MemberScore(accuracy=" + py::repr(py::float_(self.accuracy)).cast<std::string>() +
               ", coverage=" + py::repr(py::float_(self.coverage)).cast<std::string>() +
               ", score=" + py::repr(py::float_(self.score)).cast<std::string>() + ")";
      });
  py::class_<Decision>(module, "Decision", "A change of the member that Adaptive follows, and why.")
      .def_readonly("event", &Decision::event, "Taken after so many events.")
      .def_property_readonly(
          "from_member", [](const Decision& self) { return index_or_none(self.from); },
          "Index of the member followed before, or None.")
      .def_property_readonly(
          "to_member", [](const Decision& self) { return index_or_none(self.to); },
          "Index of the member followed since, or None.")
      .def_readonly("scores", &Decision::scores, "MemberScore of each member at that moment.")
      .def("__repr__", &decision_repr);
}

}  // namespace

void bind_prefetch_adaptive(py::module_& module) {
  bind_decisions(module);
  const AdaptiveConfig defaults;
  py::class_<PyAdaptive, PyPrefetcher> type(
      module, "Adaptive",
      "Run prefetchers side by side and follow the best, or none.\n\n"
      "members: prefetchers, of which others that have learned nothing are used; by default sequential and strided "
      "(degree 4), distance, Markov and free neighbours. window: what was seen so many events ago counts a third in "
      "the scores. accuracy, coverage: least shares for being followed. hysteresis: how much better another must be. "
      "walk_price: what a walk for nothing costs, as a part of a miss. fill_price: what an entry filled for nothing "
      "costs where every page is asked for again; it counts less where pages are new. filter: proposals remembered of "
      "each member. resident: pages of the last events that are taken to be in the TLB. All members see all events and "
      "are judged by them; what they propose is handed out only while they are followed.");
  type.def(
      py::init([](const py::object& members, std::uint32_t window, double accuracy, double coverage, double hysteresis,
                  double walk_price, double fill_price, std::uint32_t filter, std::uint32_t resident) {
        return std::make_unique<PyAdaptive>(std::make_unique<Adaptive>(
            fresh_members(members),
            AdaptiveConfig{window, accuracy, coverage, hysteresis, walk_price, fill_price, filter, resident}));
      }),
      "members"_a = py::none(), py::kw_only(), "window"_a = defaults.window, "accuracy"_a = defaults.accuracy,
      "coverage"_a = defaults.coverage, "hysteresis"_a = defaults.hysteresis, "walk_price"_a = defaults.walk_price,
      "fill_price"_a = defaults.fill_price, "filter"_a = defaults.filter, "resident"_a = defaults.resident);
  parameter(type, "window", &AdaptiveConfig::window, "Events after which one counts a third in the scores.");
  parameter(type, "accuracy", &AdaptiveConfig::accuracy, "Least accuracy of a member that is followed.");
  parameter(type, "coverage", &AdaptiveConfig::coverage, "Least coverage of a member that is followed.");
  parameter(type, "hysteresis", &AdaptiveConfig::hysteresis, "How much better another must be.");
  parameter(type, "walk_price", &AdaptiveConfig::walk_price, "Price of a walk for nothing, as a part of a miss.");
  parameter(type, "fill_price", &AdaptiveConfig::fill_price,
            "Price of a fill for nothing among pages asked for again.");
  parameter(type, "filter", &AdaptiveConfig::filter, "Proposals remembered of each member.");
  parameter(type, "resident", &AdaptiveConfig::resident, "Pages taken to be in the TLB.");
  type.def_property_readonly(
          "members",
          [](const PyAdaptive& self) {
            return each_member(self, [](const Adaptive& all, std::size_t i) { return all.member(i).describe(); });
          },
          "The members as text, in the order of their indices.")
      .def_property_readonly(
          "member_stats",
          [](const PyAdaptive& self) {
            return each_member(self, [](const Adaptive& all, std::size_t i) { return Stats(all.member(i).stats()); });
          },
          "PrefetcherStats of each member; outcomes as its queue of proposals saw them.")
      .def_property_readonly(
          "scores",
          [](const PyAdaptive& self) {
            return each_member(self, [](const Adaptive& all, std::size_t i) { return all.score(i); });
          },
          "MemberScore of each member at this moment.")
      .def_property_readonly(
          "followed",
          [](const PyAdaptive& self) {
            const auto lock = self.lock();
            return index_or_none(self.get().followed());
          },
          "Index of the member that is followed, or None.")
      .def_property_readonly(
          "decisions",
          [](const PyAdaptive& self) {
            const auto lock = self.lock();
            return self.get().decisions();
          },
          "The last 256 decisions, oldest first.")
      .def_property_readonly(
          "decision_count",
          [](const PyAdaptive& self) {
            const auto lock = self.lock();
            return self.get().decision_count();
          },
          "Decisions taken, the forgotten ones included.");
}
