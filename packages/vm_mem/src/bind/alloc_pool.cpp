// vm_mem.alloc: PoolAllocator and ObjectPool.

#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "alloc_block.hpp"
#include "bind.hpp"
#include "huge_pages.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/alloc/pool_allocator.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using vm::mem::alloc::ObjectPool;
using vm::mem::alloc::PoolAllocator;
using vm::mem::alloc::PoolConfig;
using vm::mem::alloc::PoolHooks;
using vm::mem::alloc::PoolLimits;
using vm::mem::alloc::PoolStats;

namespace {

PoolLimits limits_from(Unsigned min, const std::optional<Unsigned>& max, const std::optional<Unsigned>& max_idle,
                       const std::optional<Unsigned>& max_idle_ns) {
  PoolLimits limits;
  limits.min = min.value;
  if (max) limits.max = max->value;
  if (max_idle) limits.max_idle = max_idle->value;
  if (max_idle_ns) limits.max_idle_ns = max_idle_ns->value;
  return limits;
}

/// Python objects on loan, by what Python calls their identity. Hooks run with the GIL; the pool's own lock is only
/// ever held for moments in which nobody waits for the GIL.
class PyPool {
 public:
  struct Hooks {
    py::object create;
    py::object reset;
    py::object validate;
    py::object now_ns;
  };

  PyPool(Hooks hooks, const PoolLimits& limits) : hooks_(std::move(hooks)), pool_(hooks_of(hooks_), limits) {}

  PyPool(const PyPool&) = delete;
  PyPool& operator=(const PyPool&) = delete;
  ~PyPool() { forget_hooks(); }  // what is on loan still belongs to its borrower: no `reset`

  py::object acquire(std::uint64_t timeout_ns) {
    if (timeout_ns == 0) return keep(pool_.acquire());
    const auto end = std::chrono::steady_clock::now() + std::chrono::nanoseconds(std::min(timeout_ns, longest_wait));
    while (true) {
      if (Pool::Lease lease = pool_.try_acquire()) return keep(std::move(lease));
      const auto left = end - std::chrono::steady_clock::now();
      if (left.count() <= 0) return keep(pool_.acquire());  // the last try, which says why not
      {
        const py::gil_scoped_release release;
        pool_.wait_for(std::min(static_cast<std::uint64_t>(left.count()), signal_step));
      }
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    }
  }
  void release(const py::object& object) {
    Pool::Lease lease;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto found = leases_.find(object.ptr());
      if (found != leases_.end()) {
        lease = std::move(found->second);
        leases_.erase(found);
      }
    }
    if (!lease) {
      throw vm::DoubleFree(py::repr(object).cast<std::string>() +
                           " is not on loan from this pool: released before, or never acquired here");
    }
    lease.release();
  }
  ObjectPool<py::object>& pool() { return pool_; }
  const Hooks& hooks() const { return hooks_; }
  void forget_hooks() { hooks_ = {}; }

 private:
  using Pool = ObjectPool<py::object>;
  static constexpr std::uint64_t longest_wait = std::uint64_t{1} << 60;
  /// Between two looks for Ctrl-C.
  static constexpr std::uint64_t signal_step = 50'000'000;

  /// They refer to `mine`, so that the garbage collector finds each function once.
  static PoolHooks<py::object> hooks_of(const Hooks& mine) {
    PoolHooks<py::object> hooks;
    hooks.create = [&mine] {
      if (!mine.create) throw vm::ClosedError("this pool is being taken apart by the garbage collector");
      return std::make_unique<py::object>(mine.create());
    };
    if (!mine.reset.is_none()) {
      hooks.reset = [&mine](py::object& object) {
        if (mine.reset) mine.reset(object);
      };
    }
    if (!mine.validate.is_none()) {
      hooks.validate = [&mine](py::object& object) {
        if (!mine.validate) return true;
        const int yes = PyObject_IsTrue(py::object(mine.validate(object)).ptr());
        if (yes < 0) throw py::error_already_set();
        return yes != 0;
      };
    }
    if (!mine.now_ns.is_none()) {
      hooks.now_ns = [&mine] { return mine.now_ns ? mine.now_ns().cast<std::uint64_t>() : 0; };
    }
    return hooks;
  }
  py::object keep(Pool::Lease lease) {
    py::object object = *lease;
    bool fresh = false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (leases_.count(object.ptr()) == 0) fresh = leases_.emplace(object.ptr(), std::move(lease)).second;
    }
    if (!fresh) {
      throw vm::InvalidConfig("`create` returned " + py::repr(object).cast<std::string>() +
                              ", which is on loan already; each call has to make another object");
    }
    return object;
  }

  Hooks hooks_;
  Pool pool_;
  std::mutex mutex_;
  std::unordered_map<PyObject*, Pool::Lease> leases_;
};

/// `with pool.lease() as object:`
struct PyLease {
  std::shared_ptr<PyPool> pool;
  std::uint64_t timeout_ns;
  py::object object;
};

int traverse_pool(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  if (!py::detail::is_holder_constructed(self)) return 0;
  const PyPool::Hooks& hooks = py::cast<PyPool&>(py::handle(self)).hooks();
  for (const py::object* each : {&hooks.create, &hooks.reset, &hooks.validate, &hooks.now_ns}) Py_VISIT(each->ptr());
  return 0;
}

int clear_pool(PyObject* self) {
  if (py::detail::is_holder_constructed(self)) py::cast<PyPool&>(py::handle(self)).forget_hooks();
  return 0;
}

void collect_cycles(PyHeapTypeObject* heap_type) {
  PyTypeObject& type = heap_type->ht_type;
  type.tp_flags |= Py_TPFLAGS_HAVE_GC;
  type.tp_traverse = traverse_pool;
  type.tp_clear = clear_pool;
}

void bind_stats(py::module_& module) {
  py::class_<PoolStats>(module, "PoolStats", "What became of the objects of a pool: a snapshot.")
      .def_readonly("created", &PoolStats::created, "Objects made.")
      .def_readonly("acquired", &PoolStats::acquired, "Loans.")
      .def_readonly("reused", &PoolStats::reused, "Loans of an object that existed before.")
      .def_readonly("refused", &PoolStats::refused,
                    "Attempts that found max objects on loan; who waits may make several.")
      .def_readonly("evicted_lru", &PoolStats::evicted_lru, "Destroyed because more than max_idle were idle.")
      .def_readonly("evicted_age", &PoolStats::evicted_age, "Destroyed because they were idle for too long.")
      .def_readonly("invalid", &PoolStats::invalid, "Destroyed because `validate` said no, or raised.")
      .def_readonly("failed_resets", &PoolStats::failed_resets,
                    "Destroyed because `reset` raised, or the clock after it.")
      .def_readonly("idle", &PoolStats::idle, "Idle now.")
      .def_readonly("in_use", &PoolStats::in_use, "On loan now.")
      .def_readonly("peak_in_use", &PoolStats::peak_in_use, "The most that were on loan at once.")
      .def("__repr__", [](const PoolStats& self) {
        return "PoolStats(created=" + std::to_string(self.created) + ", acquired=" + std::to_string(self.acquired) +
               ", reused=" + std::to_string(self.reused) + ", idle=" + std::to_string(self.idle) +
               ", in_use=" + std::to_string(self.in_use) + ")";
      });
}

void bind_object_pool(py::module_& module) {
  py::class_<PyLease>(module, "PoolLease", "An object of a pool for the length of a `with`.")
      .def("__enter__",
           [](PyLease& self) {
             if (self.object) {
               throw vm::InvalidConfig("this lease is in use already; ask the pool for another one");
             }
             self.object = self.pool->acquire(self.timeout_ns);
             return self.object;
           })
      .def("__exit__", [](PyLease& self, const py::args&) {
        // Nothing where it was never entered.
        if (const py::object object = std::exchange(self.object, {})) self.pool->release(object);
      });
  py::class_<PyPool, std::shared_ptr<PyPool>>(
      module, "ObjectPool",
      "Objects that are dear to make, lent and taken back; the one used last is lent first.\n\n"
      "create: makes one. min: made at the start; eviction leaves so many. max: in existence at once. max_idle: of "
      "more, "
      "those used least recently are dropped. max_idle_ns: what was idle for longer is dropped by the next call. "
      "reset: "
      "called with an object that comes back; when it raises, the object is dropped. validate: called with an idle "
      "object before it is lent; when it does not return True, the object is dropped. now_ns: the clock. Thread-safe; "
      "functions are called by the thread that acquires or releases. Raises InvalidConfig, and what functions raise.",
      py::custom_type_setup(collect_cycles))
      .def(py::init([](const py::function& create, Unsigned min, const std::optional<Unsigned>& max,
                       const std::optional<Unsigned>& max_idle, const std::optional<Unsigned>& max_idle_ns,
                       const py::object& reset, const py::object& validate, const py::object& now_ns) {
             return std::make_shared<PyPool>(PyPool::Hooks{create, reset, validate, now_ns},
                                             limits_from(min, max, max_idle, max_idle_ns));
           }),
           "create"_a, py::kw_only(), "min"_a = Unsigned{0}, "max"_a = py::none(), "max_idle"_a = py::none(),
           "max_idle_ns"_a = py::none(), "reset"_a = py::none(), "validate"_a = py::none(), "now_ns"_a = py::none())
      .def(
          "acquire", [](PyPool& self, Unsigned timeout_ns) { return self.acquire(timeout_ns.value); }, py::kw_only(),
          "timeout_ns"_a = Unsigned{0},
          "Borrow an object; release() gives it back.\n\ntimeout_ns: how long to wait for one when all are on loan; "
          "releases the GIL meanwhile. Raises ResourceExhausted when there was none.")
      .def("release", &PyPool::release, "object"_a,
           "Give an object back.\n\nRaises DoubleFree when it is not on loan from here, and what `reset` raises.")
      .def(
          "lease",
          [](const std::shared_ptr<PyPool>& self, Unsigned timeout_ns) {
            return PyLease{self, timeout_ns.value, py::object()};
          },
          py::kw_only(), "timeout_ns"_a = Unsigned{0}, "For `with`: acquire() and release().")
      .def(
          "evict", [](PyPool& self) { return self.pool().evict(); },
          "Drop what was idle for too long; return how many.")
      .def(
          "clear", [](PyPool& self) { return self.pool().clear(); },
          "Drop all that is idle, also below min; return how many.")
      .def_property_readonly(
          "stats", [](PyPool& self) { return self.pool().stats(); }, "PoolStats: a snapshot.")
      .def("__repr__", [](PyPool& self) {
        const PoolStats stats = self.pool().stats();
        return "<ObjectPool: " + std::to_string(stats.in_use) + " on loan, " + std::to_string(stats.idle) + " idle>";
      });
}

using Blocks = std::shared_ptr<PoolAllocator>;

std::unique_ptr<Block> allocate(const Blocks& pool) {
  void* const data = pool->allocate();
  try {
    return std::make_unique<Block>(data, pool->block_size(), [pool, data] { pool->deallocate(data); });
  } catch (...) {
    pool->deallocate(data);
    throw;
  }
}

py::object empty(const Blocks& pool, const py::object& shape, const py::object& dtype) {
  const ArrayRequest request(shape, dtype);
  if (request.bytes > pool->block_size()) {
    throw vm::InvalidConfig("an array of " + std::to_string(request.bytes) + " bytes does not fit a block of " +
                            std::to_string(pool->block_size()));
  }
  return array_over(allocate(pool), request);
}

void bind_pool_allocator(py::module_& module) {
  const PoolConfig defaults;
  py::class_<PoolAllocator, Blocks>(
      module, "PoolAllocator",
      "Blocks of memory of one size, kept for reuse.\n\n"
      "block_size: bytes. min, max, max_idle, max_idle_ns: as for ObjectPool; the address space of `max` blocks is "
      "taken at once, the memory of `min`. A block that is dropped gives its pages back when it has a page or more. "
      "alignment: a power of two up to the page size. huge_pages: None, \"auto\", \"transparent\", \"2M\" or \"1G\". "
      "Thread-safe. Raises InvalidConfig, ResourceExhausted.")
      .def(py::init([](Unsigned block_size, Unsigned min, Unsigned max, const std::optional<Unsigned>& max_idle,
                       const std::optional<Unsigned>& max_idle_ns, Unsigned alignment,
                       const std::optional<std::string>& huge_pages) {
             PoolConfig config;
             config.limits = limits_from(min, max, max_idle, max_idle_ns);
             config.alignment = alignment.value;
             config.huge_pages = parse_huge_pages(huge_pages);
             const py::gil_scoped_release release;
             return std::make_shared<PoolAllocator>(block_size.value, config);
           }),
           "block_size"_a, py::kw_only(), "min"_a = Unsigned{0}, "max"_a = Unsigned{defaults.limits.max},
           "max_idle"_a = py::none(), "max_idle_ns"_a = py::none(), "alignment"_a = Unsigned{defaults.alignment},
           "huge_pages"_a = py::none())
      .def("allocate", &allocate,
           "A Block, the one freed last if there is one, with the bytes it had.\n\nRaises ResourceExhausted when max "
           "are "
           "in use.")
      .def(
          "empty", &empty, "shape"_a, "dtype"_a = "float64",
          "An array, not initialized, in a block that goes back with the last view of it.\n\nRaises InvalidConfig when "
          "it does not fit a block, ResourceExhausted.")
      .def("evict", &PoolAllocator::evict, py::call_guard<py::gil_scoped_release>(),
           "Drop what was idle for too long; return how many.")
      .def("clear", &PoolAllocator::clear, py::call_guard<py::gil_scoped_release>(),
           "Drop all that is idle, also below min; return how many.")
      .def_property_readonly("stats", &PoolAllocator::stats, "PoolStats: a snapshot.")
      .def_property_readonly("block_size", &PoolAllocator::block_size, "Bytes of a block.")
      .def_property_readonly("stride", &PoolAllocator::stride, "Bytes from one block to the next.")
      .def("__repr__", [](const PoolAllocator& self) {
        const PoolStats stats = self.stats();
        return "<PoolAllocator: " + std::to_string(stats.in_use) + " blocks of " + std::to_string(self.block_size()) +
               " bytes in use, " + std::to_string(stats.idle) + " idle>";
      });
}

}  // namespace

void bind_alloc_pool(py::module_& module) {
  bind_stats(module);
  bind_object_pool(module);
  bind_pool_allocator(module);
}
