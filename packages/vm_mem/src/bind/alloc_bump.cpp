// vm_mem.alloc: BumpAllocator.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "alloc_block.hpp"
#include "bind.hpp"
#include "huge_pages.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/alloc/bump_allocator.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using vm::mem::alloc::BumpAllocator;
using vm::mem::alloc::BumpMarker;

namespace {

/// An arena that knows which of its blocks Python still has: what is taken back must not be in use.
class PyArena {
 public:
  PyArena(std::uint64_t capacity, vm::mem::HugePages huge_pages) : arena_(capacity, huge_pages) {}

  /// Every look at the arena is under its lock.
  template <class Job>
  auto locked(const Job& job) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return job(arena_);
  }
  static std::unique_ptr<Block> allocate(const std::shared_ptr<PyArena>& self, std::size_t size,
                                         std::size_t alignment) {
    const std::lock_guard<std::mutex> lock(self->mutex_);
    const BumpMarker before = self->arena_.mark();
    // Empty ones too have a place of their own, so that markers tell what was there before.
    const std::size_t bytes = std::max<std::size_t>(size, 1);
    void* const data = self->arena_.allocate(bytes, alignment);
    const std::uint64_t begin = self->arena_.offset(data);
    try {
      self->live_.emplace(begin, begin + bytes);
      return std::make_unique<Block>(data, size, [self, begin] {
        const std::lock_guard<std::mutex> inside(self->mutex_);
        self->live_.erase(begin);
      });
    } catch (...) {
      self->live_.erase(begin);
      self->arena_.rewind(before);
      throw;
    }
  }
  void reset(const std::optional<BumpMarker>& marker) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::uint64_t from = marker ? marker->used() : 0;
    auto first = live_.lower_bound(from);
    // A marker from before an earlier reset may lie in the middle of what was allocated since.
    if (first != live_.begin() && std::prev(first)->second > from) --first;
    const auto in_the_way = std::distance(first, live_.end());
    if (in_the_way != 0) {
      throw vm::AccessViolation(std::to_string(in_the_way) +
                                " blocks or arrays of the arena that are still in use would be overwritten; free or "
                                "delete them before reset()");
    }
    if (marker) return arena_.reset(*marker);
    arena_.reset();
  }
  std::size_t live() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return live_.size();
  }

 private:
  std::mutex mutex_;
  BumpAllocator arena_;
  std::map<std::uint64_t, std::uint64_t> live_;  // where each begins and ends
};

using Arena = std::shared_ptr<PyArena>;

/// `with arena.scope():`
struct Scope {
  Arena arena;
  std::optional<BumpMarker> begin;
};

template <class Result>
auto property(Result (BumpAllocator::*get)() const noexcept) {
  return [get](PyArena& self) { return self.locked([get](const BumpAllocator& arena) { return (arena.*get)(); }); };
}

std::string repr(PyArena& self) {
  return self.locked([](const BumpAllocator& arena) {
    return "<BumpAllocator: " + std::to_string(arena.used()) + " of " + std::to_string(arena.capacity()) +
           " bytes used>";
  });
}

}  // namespace

void bind_alloc_bump(py::module_& module) {
  py::class_<BumpMarker>(module, "BumpMarker", "A place in a BumpAllocator to go back to.")
      .def_property_readonly("used", &BumpMarker::used, "Bytes in use below it.")
      .def("__repr__", [](const BumpMarker& self) { return "<BumpMarker at " + std::to_string(self.used()) + ">"; });
  py::class_<PyArena, Arena> arena(
      module, "BumpAllocator",
      "An arena: memory handed out by moving a pointer, and taken back all at once.\n\n"
      "capacity: bytes of address space, rounded up to whole pages; memory is used as it is reached. huge_pages: None, "
      "\"auto\", \"transparent\", \"2M\" or \"1G\". Thread-safe (in C++ it is not). What Python still has is never "
      "overwritten: reset() refuses. Raises InvalidConfig, ResourceExhausted.");
  py::class_<Scope>(module, "BumpScope", "Takes back at the end of a `with` what was allocated inside.")
      .def("__enter__",
           [](Scope& self) {
             if (self.begin) throw vm::InvalidConfig("this scope is in use already; ask the arena for another one");
             self.begin = self.arena->locked([](const BumpAllocator& a) { return a.mark(); });
             return self.arena;
           })
      .def("__exit__", [](Scope& self, const py::args&) {
        // Nothing where it was never entered.
        if (const auto begin = std::exchange(self.begin, std::nullopt)) self.arena->reset(begin);
      });
  arena
      .def(py::init([](Unsigned capacity, const std::optional<std::string>& huge_pages) {
             return std::make_shared<PyArena>(capacity.value, parse_huge_pages(huge_pages));
           }),
           "capacity"_a = Unsigned{std::uint64_t{1} << 30}, py::kw_only(), "huge_pages"_a = "auto")
      .def(
          "allocate",
          [](const Arena& self, Unsigned size, Unsigned alignment) {
            return PyArena::allocate(self, size.value, alignment.value);
          },
          "size"_a, "alignment"_a = Unsigned{vm::mem::alloc::least_alignment},
          "A Block of `size` bytes, aligned to a power of two, at least to 16; not initialized.\n\nFreeing it lets "
          "reset() pass, but gives no memory back. Raises ResourceExhausted when it does not fit, InvalidConfig.")
      .def(
          "empty",
          [](const Arena& self, const py::object& shape, const py::object& dtype, Unsigned alignment) {
            const ArrayRequest request(shape, dtype);
            return array_over(PyArena::allocate(self, request.bytes, alignment.value), request);
          },
          "shape"_a, "dtype"_a = "float64", py::kw_only(), "alignment"_a = Unsigned{64},
          "An array, not initialized. Raises as allocate(), and InvalidConfig for a dtype that holds Python objects.")
      .def(
          "mark", [](PyArena& self) { return self.locked([](const BumpAllocator& a) { return a.mark(); }); },
          "A BumpMarker to reset to.")
      .def("reset", &PyArena::reset, "marker"_a = py::none(),
           "Take back everything, or what was allocated since `marker`.\n\nRaises AccessViolation while blocks or "
           "arrays of that are in use; InvalidConfig when an earlier reset left less in use than the marker says.")
      .def(
          "scope",
          [](const Arena& self) {
            return Scope{self, std::nullopt};
          },
          "For `with`: resets at its end to what was in use at its beginning. Raises as reset().")
      .def(
          "trim", [](PyArena& self) { return self.locked([](BumpAllocator& a) { return a.trim(); }); },
          py::call_guard<py::gil_scoped_release>(),
          "Give the pages behind what is in use back to the kernel; return the bytes of address space concerned.")
      .def_property_readonly("used", property(&BumpAllocator::used), "Bytes in use.")
      .def_property_readonly("capacity", property(&BumpAllocator::capacity), "Bytes that fit.")
      .def_property_readonly("peak", property(&BumpAllocator::peak), "The most bytes that were in use at once.")
      .def_property_readonly("resets", property(&BumpAllocator::resets), "Times that something was taken back.")
      .def_property_readonly("live", &PyArena::live, "Blocks and arrays that Python still has.")
      .def("__repr__", &repr);
}
