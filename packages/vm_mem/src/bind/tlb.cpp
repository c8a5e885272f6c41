// vm_mem.tlb: the parts, and MultiLevelTlb behind a lock.

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "keyword_config.hpp"
#include "tlb_config.hpp"
#include "tlb_hit.hpp"
#include "tlb_stats.hpp"
#include "translate_arguments.hpp"
#include "unsigned.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/tlb/multi_level_tlb.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using namespace vm::mem::tlb;
using vm::Access;

namespace {

// Elements of a batch between two moments at which other threads get the TLB and signals are looked for.
constexpr std::size_t batch_step = std::size_t{1} << 16;

Context context_from(Unsigned asid, Unsigned vmid) {
  return {narrow<std::uint16_t>(asid, "asid"), narrow<std::uint16_t>(vmid, "vmid")};
}

Entry entry_from(Unsigned vaddr, Unsigned paddr, Unsigned page_size, Access access, bool user, Context context) {
  Entry e;
  e.size_log2 = page_size_log2(page_size.value);
  const std::uint64_t offset = page_size.value - 1;
  if ((vaddr.value & offset) != 0 || (paddr.value & offset) != 0)
    throw vm::InvalidConfig("page " + vm::hex(vaddr.value) + " to " + vm::hex(paddr.value) +
                            " does not begin at a multiple of its size, " + vm::hex(page_size.value));
  e.vaddr = vaddr.value;
  e.paddr = paddr.value;
  const auto bits = static_cast<vm::Rights>(access);
  e.rights = e.usable = user ? bits | bits << 3 : bits;
  e.context = context;
  return e;
}

// A MultiLevelTlb that Python threads may share.
class LockedTlb {
 public:
  explicit LockedTlb(TlbConfig config) : config_(std::move(config)), tlb_(config_) {}

  const TlbConfig& config() const { return config_; }
  std::size_t capacity() const { return tlb_.capacity(); }
  std::size_t level_count() const { return tlb_.level_count(); }

  /// Calls `work` with the TLB, alone. Holds the GIL; nobody waits for the lock with it.
  template <class Work>
  auto alone(Work&& work) {
    std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) {
      const py::gil_scoped_release release;
      lock.lock();
    }
    return work(tlb_);
  }

  /// The same without the GIL.
  template <class Work>
  auto alone_without_gil(Work&& work) {
    const py::gil_scoped_release release;
    const std::lock_guard<std::mutex> lock(mutex_);
    return work(tlb_);
  }

 private:
  TlbConfig config_;
  std::mutex mutex_;
  MultiLevelTlb tlb_;
};

py::tuple lookup_array(LockedTlb& self, const py::object& vaddrs, Context context) {
  const py::array_t<std::uint64_t> vaddr = addresses_from(vaddrs);
  const std::vector<py::ssize_t> shape(vaddr.shape(), vaddr.shape() + vaddr.ndim());
  py::array_t<std::uint64_t> paddr(shape);
  py::array_t<bool> hit(shape);
  const auto count = static_cast<std::size_t>(vaddr.size());
  const std::uint64_t* from = vaddr.data();
  std::uint64_t* to = paddr.mutable_data();
  bool* hits = hit.mutable_data();
  std::vector<PackedHit> facts(std::min(count, batch_step));
  for (std::size_t done = 0; done < count; done += batch_step) {
    const std::size_t step = std::min(batch_step, count - done);
    self.alone_without_gil([&](MultiLevelTlb& tlb) {
      tlb.lookup(from + done, step, context, to + done, facts.data());
      for (std::size_t i = 0; i < step; ++i) hits[done + i] = facts[i] != 0;
    });
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }
  return py::make_tuple(paddr, hit);
}

py::object lookup(LockedTlb& self, const py::object& vaddr, Unsigned asid, Unsigned vmid) {
  const Context context = context_from(asid, vmid);
  if (py::isinstance<py::array>(vaddr) || !PyIndex_Check(vaddr.ptr())) return lookup_array(self, vaddr, context);
  const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(vaddr.ptr()));
  if (!number) throw py::error_already_set();
  const std::uint64_t address = address_from(number.ptr());
  Hit hit;
  if (!self.alone([&](MultiLevelTlb& tlb) { return tlb.find(address, context, hit); })) return py::none();
  return py::cast(hit);
}

bool insert(LockedTlb& self, Unsigned vaddr, Unsigned paddr, Unsigned page_size, Access access, bool user,
            Unsigned asid, Unsigned vmid, bool global, bool prefetched, std::optional<Unsigned> ticket) {
  Entry entry = entry_from(vaddr, paddr, page_size, access, user, context_from(asid, vmid));
  entry.global = global;
  entry.prefetched = prefetched;
  return self.alone(
      [&](MultiLevelTlb& tlb) { return tlb.insert(entry, ticket ? FillTicket{ticket->value} : tlb.begin_fill()); });
}

void flush(LockedTlb& self, const FlushRequest& request) {
  self.alone([&](MultiLevelTlb& tlb) { tlb.flush(request); });
}

TlbStats stats(LockedTlb& self) {
  return self.alone([](MultiLevelTlb& tlb) { return tlb.stats(); });
}

std::size_t size(LockedTlb& self) {
  return self.alone([](MultiLevelTlb& tlb) { return tlb.size(); });
}

std::string repr(LockedTlb& self) {
  return "MultiLevelTlb(" + std::to_string(self.level_count()) + " levels, " + to_string(self.config().inclusion) +
         ", " + std::to_string(size(self)) + " of " + std::to_string(self.capacity()) + " entries)";
}

void add_flushes(py::class_<LockedTlb>& type) {
  type.def(
          "flush_page",
          [](LockedTlb& self, Unsigned vaddr, Unsigned asid, Unsigned vmid) {
            flush(self, FlushRequest::page(vaddr.value, context_from(asid, vmid)));
          },
          "vaddr"_a, "asid"_a = Unsigned{0}, "vmid"_a = Unsigned{0},
          "Forget the pages of any size that contain vaddr, global ones too.")
      .def(
          "flush_range",
          [](LockedTlb& self, Unsigned vaddr, Unsigned bytes, Unsigned asid, Unsigned vmid) {
            flush(self, FlushRequest::range(vaddr.value, bytes.value, context_from(asid, vmid)));
          },
          "vaddr"_a, "size"_a, "asid"_a = Unsigned{0}, "vmid"_a = Unsigned{0},
          "Forget the pages that overlap size bytes from vaddr on, global ones too. A range ends at 2**64.")
      .def(
          "flush_asid",
          [](LockedTlb& self, Unsigned asid, Unsigned vmid) {
            flush(self, FlushRequest::asid(context_from(asid, vmid)));
          },
          "asid"_a, "vmid"_a = Unsigned{0}, "Forget what belongs to one address space, except global entries.")
      .def(
          "flush_non_global",
          [](LockedTlb& self, Unsigned vmid) {
            flush(self, FlushRequest::non_global(narrow<std::uint16_t>(vmid, "vmid")));
          },
          "vmid"_a = Unsigned{0}, "Forget everything of one VM except global entries.")
      .def(
          "flush_all", [](LockedTlb& self) { flush(self, FlushRequest::all()); }, "Forget everything.");
}

void bind_multi_level(py::module_& module) {
  const py::arg_v access("access", Access::read | Access::write, "vm_core.Access.READ | vm_core.Access.WRITE");
  py::class_<LockedTlb> type(
      module, "MultiLevelTlb",
      "A hierarchy of set-associative TLB levels, shaped by a TlbConfig.\n\n"
      "Inclusive: a fill goes into every level, what leaves a level leaves the earlier ones too, a hit in a later "
      "level "
      "is copied to the earlier ones. Exclusive: a fill goes into the first level, what has to make room moves to the "
      "next, a hit moves back. It may forget, by design; it answers only what was inserted and not flushed since. "
      "Pages of two sizes at one address contradict each other: flush first.\n\n"
      "Threads may share it: every call has it alone, and after a flush returns no call answers what it covers. "
      "Raises InvalidConfig for numbers out of range.");
  type.def(py::init([](const std::optional<TlbConfig>& config) {
             return std::make_unique<LockedTlb>(config.value_or(TlbConfig{}));
           }),
           "config"_a = py::none())
      .def_property_readonly("config", &LockedTlb::config, py::return_value_policy::copy, "The TlbConfig given.")
      .def("lookup", &lookup, "vaddr"_a, "asid"_a = Unsigned{0}, "vmid"_a = Unsigned{0},
           "Look up one virtual address or an array of them.\n\n"
           "An int gives a TlbHit, or None for a miss. An array of integers of any shape gives two of that shape: "
           "paddr (uint64; 2**64 - 1 where it missed) and hit (bool); it releases the GIL.")
      .def(
          "insert", &insert, "vaddr"_a, "paddr"_a, "page_size"_a = Unsigned{4096}, access, "user"_a = false,
          py::kw_only(), "asid"_a = Unsigned{0}, "vmid"_a = Unsigned{0}, "global_"_a = false, "prefetched"_a = false,
          "ticket"_a = py::none(),
          "Remember a translation in place of what was known of the same page and context; True when that was done.\n\n"
          "False when a flush that covers it, or more than 64 flushes, came after the ticket was taken, or when no "
          "level takes pages of this size. Without a ticket no flush is too late. global_: it answers for every ASID "
          "of its VM. prefetched: it is counted in stats.prefetch.")
      .def(
          "begin_fill",
          [](LockedTlb& self) { return self.alone([](MultiLevelTlb& tlb) { return tlb.begin_fill().generation; }); },
          "The ticket for an insert of what is read from the page tables from now on.")
      .def_property_readonly("stats", &stats, "A TlbStats of this moment.")
      .def_property_readonly("size", &size, "Live entries of all levels; what two levels hold counts twice.")
      .def_property_readonly("capacity", &LockedTlb::capacity, "Entries of all levels.")
      .def("__repr__", &repr);
  add_flushes(type);
}

}  // namespace

void bind_tlb(py::module_& module) {
  bind_tlb_config(module);
  bind_tlb_stats(module);
  bind_tlb_hit(module);
  bind_multi_level(module);
}
