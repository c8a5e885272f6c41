// A model of a data TLB that a prefetcher fills, for bench/python/mem/prefetch.py: two levels of sets with exact
// least-recently-used replacement, pages of one size. A miss fills both levels; a prefetch fills the second level with
// an entry that is marked until its first use. Prefetches are there at once: nothing here is late.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

namespace py = pybind11;

namespace {

struct Way {
  std::uint64_t page = 0;
  std::uint64_t used = 0;  // 0: empty
  bool prefetched = false;
};

class Level {
 public:
  Level(std::size_t sets, std::size_t ways) : sets_(sets), ways_(ways), all_(sets * ways) {}

  Way* find(std::uint64_t page) {
    Way* first = &all_[page % sets_ * ways_];
    for (Way* way = first; way < first + ways_; ++way)
      if (way->used != 0 && way->page == page) return way;
    return nullptr;
  }
  // Returns what had to go; its `used` is 0 when nothing had.
  Way fill(std::uint64_t page, bool prefetched) {
    Way* first = &all_[page % sets_ * ways_];
    Way* oldest = first;
    for (Way* way = first; way < first + ways_; ++way)
      if (way->used < oldest->used) oldest = way;
    const Way gone = *oldest;
    *oldest = {page, ++clock_, prefetched};
    return gone;
  }
  void touch(Way* way) { way->used = ++clock_; }

 private:
  std::size_t sets_, ways_;
  std::vector<Way> all_;
  std::uint64_t clock_ = 0;
};

using Words = py::array_t<std::uint64_t, py::array::c_style | py::array::forcecast>;

class Model {
 public:
  // demand_paging: a page is mapped from its first reference on, instead of from the beginning.
  Model(Words pages, Words pcs, bool demand_paging, std::pair<std::size_t, std::size_t> l1,
        std::pair<std::size_t, std::size_t> l2)
      : pages_(std::move(pages)),
        pcs_(std::move(pcs)),
        demand_(demand_paging),
        l1_(l1.first, l1.second),
        l2_(l2.first, l2.second) {
    for (std::size_t i = 0; i < size(); ++i) first_use_.emplace(page(i), i);
  }

  // Runs to the next event for a prefetcher: (page, pc, hit on a prefetched entry, first touch of a page that was not
  // mapped before), or None at the end.
  py::object next() {
    for (; at_ < size(); ++at_) {
      const std::uint64_t wanted = page(at_);
      if (Way* way = l1_.find(wanted)) {
        l1_.touch(way);
        continue;
      }
      bool event = true, hit = false;
      if (Way* way = l2_.find(wanted)) {
        l2_.touch(way);
        event = hit = std::exchange(way->prefetched, false);
        if (hit) {
          ++useful;
          outcomes_.emplace_back(wanted, "useful");
        }
      } else {
        ++misses;
        fill_l2(wanted, false);
      }
      l1_.fill(wanted, false);
      if (!event) continue;
      const bool first = demand_ && first_use_.at(wanted) == at_;
      return py::make_tuple(wanted, pcs_.data()[at_++], hit, first);
    }
    return py::none();
  }

  // Walks the tables for pages that the TLB does not have.
  void prefetch(const std::vector<std::uint64_t>& candidates) {
    for (const std::uint64_t candidate : candidates) {
      if (l2_.find(candidate) != nullptr || l1_.find(candidate) != nullptr) continue;
      ++walks;
      const auto first_use = first_use_.find(candidate);
      if (first_use == first_use_.end() || (demand_ && first_use->second >= at_)) {
        ++refused;
        outcomes_.emplace_back(candidate, "refused");
      } else {
        ++fills;
        fill_l2(candidate, true);
      }
    }
  }

  // (page, outcome) of prefetches since the last call.
  std::vector<std::pair<std::uint64_t, const char*>> take_outcomes() { return std::exchange(outcomes_, {}); }

  std::uint64_t misses = 0, useful = 0, useless = 0, walks = 0, fills = 0, refused = 0;

 private:
  std::size_t size() const { return static_cast<std::size_t>(pages_.size()); }
  std::uint64_t page(std::size_t i) const { return pages_.data()[i]; }
  void fill_l2(std::uint64_t page, bool prefetched) {
    const Way gone = l2_.fill(page, prefetched);
    if (gone.used == 0 || !gone.prefetched) return;
    ++useless;
    outcomes_.emplace_back(gone.page, "useless");
  }

  Words pages_, pcs_;
  bool demand_;
  Level l1_, l2_;
  std::unordered_map<std::uint64_t, std::size_t> first_use_;
  std::size_t at_ = 0;
  std::vector<std::pair<std::uint64_t, const char*>> outcomes_;
};

}  // namespace

PYBIND11_MODULE(tlb_model, module) {
  py::class_<Model>(module, "Model")
      .def(py::init<Words, Words, bool, std::pair<std::size_t, std::size_t>, std::pair<std::size_t, std::size_t>>())
      .def("next", &Model::next)
      .def("prefetch", &Model::prefetch)
      .def("take_outcomes", &Model::take_outcomes)
      .def_readonly("misses", &Model::misses)
      .def_readonly("useful", &Model::useful)
      .def_readonly("useless", &Model::useless)
      .def_readonly("walks", &Model::walks)
      .def_readonly("fills", &Model::fills)
      .def_readonly("refused", &Model::refused);
}
