// vm_mem.tlb: the parts, and UnifiedTlb.

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "flushes.hpp"
#include "prefetcher_type.hpp"
#include "tlb_config.hpp"
#include "tlb_hit.hpp"
#include "tlb_stats.hpp"
#include "translate_arguments.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/mmu/unified_tlb.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using namespace vm::mem::tlb;
using vm::Access;
using vm::mem::UnifiedTlb;

namespace {

// Elements of a batch between two moments at which other threads get the TLB and signals are looked for.
constexpr std::size_t batch_step = std::size_t{1} << 16;

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

py::tuple lookup_array(UnifiedTlb& self, const py::object& vaddrs, Context context) {
  const py::array_t<std::uint64_t> vaddr = addresses_from(vaddrs);
  const std::vector<py::ssize_t> shape(vaddr.shape(), vaddr.shape() + vaddr.ndim());
  py::array_t<std::uint64_t> paddr(shape);
  py::array_t<bool> hit(shape);
  const auto count = static_cast<std::size_t>(vaddr.size());
  const std::uint64_t* from = vaddr.data();
  std::uint64_t* to = paddr.mutable_data();
  bool* found = hit.mutable_data();
  std::vector<Hit> hits(std::min(count, batch_step));
  for (std::size_t done = 0; done < count; done += batch_step) {
    const std::size_t step = std::min(batch_step, count - done);
    {
      const py::gil_scoped_release release;
      self.lookup(from + done, step, context, hits.data(), found + done);
      for (std::size_t i = 0; i < step; ++i) to[done + i] = found[done + i] ? hits[i].paddr : UINT64_MAX;
    }
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }
  return py::make_tuple(paddr, hit);
}

py::object lookup(UnifiedTlb& self, const py::object& vaddr, Unsigned asid, Unsigned vmid) {
  const Context context = context_from(asid, vmid);
  if (py::isinstance<py::array>(vaddr) || !PyIndex_Check(vaddr.ptr())) return lookup_array(self, vaddr, context);
  const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(vaddr.ptr()));
  if (!number) throw py::error_already_set();
  Hit hit;
  if (!self.lookup(address_from(number.ptr()), context, hit)) return py::none();
  return py::cast(hit);
}

bool insert(UnifiedTlb& self, Unsigned vaddr, Unsigned paddr, Unsigned page_size, Access access, bool user,
            Unsigned asid, Unsigned vmid, bool global, bool prefetched, std::optional<Unsigned> ticket) {
  Entry entry = entry_from(vaddr, paddr, page_size, access, user, context_from(asid, vmid));
  entry.global = global;
  entry.prefetched = prefetched;
  return self.insert(entry, ticket ? FillTicket{ticket->value} : self.begin_fill());
}

void advise(UnifiedTlb& self, Unsigned vaddr, const py::function& walk, bool first_use, Unsigned asid, Unsigned vmid) {
  // Other threads that come here meanwhile do not wait, so that calling Python under the lock is safe.
  self.advise(vaddr.value, first_use, context_from(asid, vmid), [&](std::uint64_t candidate) {
    const py::object filled = walk(candidate);
    return py::bool_(filled).cast<bool>();
  });
}

std::string repr(const UnifiedTlb& self) {
  return std::string("UnifiedTlb(") + to_string(self.config().strategy) + ", " + std::to_string(self.size()) + " of " +
         std::to_string(self.capacity()) + " entries)";
}

void bind_unified_tlb(py::module_& module) {
  const py::arg_v access("access", Access::read | Access::write, "vm_core.Access.READ | vm_core.Access.WRITE");
  py::class_<UnifiedTlb, py::smart_holder> type(
      module, "UnifiedTlb",
      "A TLB of the strategy, shape, flush policy and prefetcher that a TlbConfig asks for.\n\n"
      "It may forget, by design; it answers only what was inserted and not flushed since. It walks no tables: whoever "
      "inserts a translation has read it (vm_mem.Mmu does both). Pages of two sizes at one address contradict each "
      "other: flush first. prefetcher: one of vm_mem.prefetch in the place of the one that the configuration "
      "describes; a fresh copy of it works here.\n\n"
      "Any number of threads may share it. After an immediate flush returns no call answers what it covers, on any "
      "thread; delayed and batched ones wait for barrier(). Raises InvalidConfig for numbers out of range.");
  type.def(py::init([](const std::optional<TlbConfig>& config, const PyPrefetcher* prefetcher) {
             std::unique_ptr<vm::mem::prefetch::Prefetcher> own;
             if (prefetcher != nullptr) own = prefetcher->get().fresh();
             return std::make_unique<UnifiedTlb>(config.value_or(TlbConfig{}), std::move(own));
           }),
           "config"_a = py::none(), py::kw_only(), "prefetcher"_a = py::none())
      .def_property_readonly("config", &UnifiedTlb::config, py::return_value_policy::copy, "The TlbConfig given.")
      .def("lookup", &lookup, "vaddr"_a, "asid"_a = Unsigned{0}, "vmid"_a = Unsigned{0},
           "Look up one virtual address or an array of them.\n\n"
           "An int gives a TlbHit, or None for a miss. An array of integers of any shape gives two of that shape: "
           "paddr (uint64; 2**64 - 1 where it missed) and hit (bool); it releases the GIL.")
      .def(
          "insert", &insert, "vaddr"_a, "paddr"_a, "page_size"_a = Unsigned{4096}, access, "user"_a = false,
          py::kw_only(), "asid"_a = Unsigned{0}, "vmid"_a = Unsigned{0}, "global_"_a = false, "prefetched"_a = false,
          "ticket"_a = py::none(),
          "Remember a translation in place of what was known of the same page and context; True when that was done.\n\n"
          "False when a flush that covers it, or very many flushes, came after the ticket was taken, or when no level "
          "takes pages of this size. Without a ticket no flush is too late. ``global_``: it answers for every ASID of "
          "its VM. prefetched: it is counted in stats.prefetch.")
      .def(
          "begin_fill", [](const UnifiedTlb& self) { return self.begin_fill().generation; },
          "The ticket for an insert of what is read from the page tables from now on.")
      .def(
          "contains",
          [](const UnifiedTlb& self, Unsigned vaddr, Unsigned asid, Unsigned vmid) {
            return self.contains(vaddr.value, context_from(asid, vmid));
          },
          "vaddr"_a, "asid"_a = Unsigned{0}, "vmid"_a = Unsigned{0},
          "Whether a look-up would hit. Leaves no trace in statistics or replacement.")
      .def("advise", &advise, "vaddr"_a, "walk"_a, py::kw_only(), "first_use"_a = false, "asid"_a = Unsigned{0},
           "vmid"_a = Unsigned{0},
           "Tell the prefetcher of a look-up that missed, or (first_use) of a hit whose prefetched is true.\n\n"
           "walk(vaddr) -> bool is called for a few addresses that it thinks are next, and answers whether it has "
           "inserted one (with prefetched=True). Nothing happens without a prefetcher, or while another thread is at "
           "it.")
      .def("barrier", &UnifiedTlb::barrier, py::call_guard<py::gil_scoped_release>(),
           "Carry out the flushes that a delayed or batched policy holds back.")
      .def_property_readonly("pending_flushes", &UnifiedTlb::pending_flushes, "Flushes that wait.")
      .def_property_readonly("flush_stats", &UnifiedTlb::flush_stats, "A FlushStats of this moment.")
      .def_property_readonly("stats", &UnifiedTlb::stats, "A TlbStats of this moment.")
      .def_property_readonly("prefetcher", &UnifiedTlb::describe_prefetcher,
                             "Name and parameters of the prefetcher; empty without one.")
      .def_property_readonly("size", &UnifiedTlb::size,
                             "Live entries of all levels; what two levels hold counts twice.")
      .def_property_readonly("capacity", &UnifiedTlb::capacity, "Entries of all levels.")
      .def("__repr__", &repr);
  add_flushes(
      type, [](const UnifiedTlb&) { return Context{}; },
      [](UnifiedTlb& self, const FlushRequest& request) { self.flush(request); });
}

void bind_flush_stats(py::module_& module) {
  py::class_<FlushQueueStats>(module, "FlushStats", "What a flush policy did with the requests.")
      .def_readonly("requests", &FlushQueueStats::requests, "Flushes asked for.")
      .def_readonly("carried_out", &FlushQueueStats::carried_out, "Flushes that reached the TLB.")
      .def_readonly("merged", &FlushQueueStats::merged, "Requests that a waiting one took in.")
      .def_readonly("contexts", &FlushQueueStats::contexts, "Ranges for which the whole context was flushed.")
      .def_readonly("barriers", &FlushQueueStats::barriers, "Barriers.")
      .def("__repr__", [](const FlushQueueStats& self) {
        return "FlushStats(requests=" + std::to_string(self.requests) +
               ", carried_out=" + std::to_string(self.carried_out) + ", merged=" + std::to_string(self.merged) +
               ", contexts=" + std::to_string(self.contexts) + ")";
      });
}

}  // namespace

void bind_tlb(py::module_& module) {
  bind_tlb_config(module);
  bind_tlb_stats(module);
  bind_tlb_hit(module);
  bind_flush_stats(module);
  bind_unified_tlb(module);
}
