// Mmu: the binding of vm/mem/mmu/mmu.hpp.

#include "vm/mem/mmu/mmu.hpp"

#include <pybind11/stl.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "bind.hpp"
#include "flushes.hpp"
#include "mmio.hpp"
#include "mmu_in_use.hpp"
#include "mmu_stats.hpp"
#include "paging_config.hpp"
#include "prefetcher_type.hpp"
#include "touch.hpp"
#include "translate_call.hpp"
#include "vm/core/error.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using vm::Access;
using vm::GuestPhysical;
using vm::GuestVirtual;
using vm::Privilege;
using vm::mem::GuestMemory;
using vm::mem::Mmu;
using vm::mem::MmuConfig;

namespace {

// Copies shorter than this take less time than giving up the GIL and getting it back.
constexpr std::uint64_t long_copy = std::uint64_t{1} << 16;

/// Gives the GIL away when `wanted` and it is there.
class WithoutGil {
 public:
  WithoutGil(Mmu& mmu, bool wanted) {
    if (!wanted || PyGILState_Check() == 0) return;
    use_.emplace(mmu);
    release_.emplace();
  }

 private:
  std::optional<InUse<Mmu>> use_;
  std::optional<py::gil_scoped_release> release_;
};

Privilege privilege_from(bool user) { return user ? Privilege::user : Privilege::supervisor; }

vm::mem::tlb::WalkCacheConfig walk_cache_from(const std::optional<std::array<std::uint32_t, 4>>& entries) {
  return entries ? vm::mem::tlb::WalkCacheConfig{*entries} : vm::mem::tlb::WalkCacheConfig{};
}

std::shared_ptr<Mmu> make_mmu(std::shared_ptr<GuestMemory> memory, const py::object& paging,
                              const vm::mem::tlb::TlbConfig& tlb,
                              const std::optional<std::array<std::uint32_t, 4>>& walk_cache,
                              const PyPrefetcher* prefetcher, Unsigned asid, Unsigned vmid, const py::object& tables,
                              bool update_accessed_dirty) {
  MmuConfig config;
  config.tlb = tlb;
  config.walk_cache = walk_cache_from(walk_cache);
  config.paging = {tables_from(tables), update_accessed_dirty};
  config.context = context_from(asid, vmid);
  std::unique_ptr<vm::mem::prefetch::Prefetcher> own;
  if (prefetcher != nullptr) own = prefetcher->get().fresh();
  return std::make_shared<Mmu>(std::move(memory), paging_config_from(paging), config, std::move(own));
}

/// Calls `work` once for the type of `width` bytes.
template <class Work>
auto by_width(unsigned width, Work&& work) {
  switch (width) {
    case 1: return work(std::uint8_t{});
    case 2: return work(std::uint16_t{});
    case 4: return work(std::uint32_t{});
    case 8: return work(std::uint64_t{});
    default: throw vm::InvalidConfig("width is " + std::to_string(width) + "; words have 1, 2, 4 or 8 bytes");
  }
}

template <class T>
T word_from(Unsigned value, const char* what) {
  if (value.value > std::numeric_limits<T>::max())
    throw vm::InvalidConfig(std::string(what) + " is " + vm::hex(value.value) + "; it does not fit " +
                            std::to_string(sizeof(T)) + " bytes");
  return static_cast<T>(value.value);
}

py::bytes read(Mmu& self, Unsigned vaddr, Unsigned size, bool user, Access access) {
  constexpr std::uint64_t header = 64;  // more than a bytes object has; Python would raise OverflowError
  if (size.value > PY_SSIZE_T_MAX - header)
    throw vm::ResourceExhausted("read of " + std::to_string(size.value) + " bytes: no bytes object is so large");
  auto bytes =
      py::reinterpret_steal<py::bytes>(PyBytes_FromStringAndSize(nullptr, static_cast<py::ssize_t>(size.value)));
  if (!bytes) throw py::error_already_set();
  const CallGuard<Mmu> guard(self);
  const WithoutGil release(self, size.value >= long_copy);
  self.read(GuestVirtual(vaddr.value), PyBytes_AS_STRING(bytes.ptr()), size.value, privilege_from(user), access);
  return bytes;
}

void write(Mmu& self, Unsigned vaddr, const py::buffer& data, bool user) {
  const py::buffer_info info = data.request();
  if (!PyBuffer_IsContiguous(info.view(), 'C')) throw vm::InvalidConfig("data must be contiguous");
  const auto size = static_cast<std::uint64_t>(info.size * info.itemsize);
  const CallGuard<Mmu> guard(self);
  const WithoutGil release(self, size >= long_copy);
  self.write(GuestVirtual(vaddr.value), info.ptr, size, privilege_from(user));
}

std::uint64_t load(Mmu& self, Unsigned vaddr, unsigned width, bool user) {
  return by_width(width, [&](auto word) {
    const CallGuard<Mmu> guard(self);
    return std::uint64_t{self.load<decltype(word)>(GuestVirtual(vaddr.value), privilege_from(user))};
  });
}

void store(Mmu& self, Unsigned vaddr, Unsigned value, unsigned width, bool user) {
  by_width(width, [&](auto word) {
    const auto narrow = word_from<decltype(word)>(value, "value");
    const CallGuard<Mmu> guard(self);
    self.store(GuestVirtual(vaddr.value), narrow, privilege_from(user));
  });
}

py::tuple compare_exchange(Mmu& self, Unsigned vaddr, Unsigned expected, Unsigned desired, unsigned width, bool user) {
  return by_width(width, [&](auto word) -> py::tuple {
    auto found = word_from<decltype(word)>(expected, "expected");
    const auto wanted = word_from<decltype(word)>(desired, "desired");
    bool replaced = false;
    {
      const CallGuard<Mmu> guard(self);
      replaced = self.compare_exchange(GuestVirtual(vaddr.value), found, wanted, privilege_from(user));
    }
    return py::make_tuple(replaced, found);
  });
}

const char translate_doc[] =
    "translate($self, vaddr, /, *, access=Access.READ, user=False, engine='auto', threads=1)\n--\n\n"
    "Translate one virtual address or an array of them, as AddressSpace.translate does.\n\n"
    "One address goes through the TLB. Small arrays do too; large ones when a sample of them says that this is faster, "
    "and past it otherwise, with threads or with a named engine. The answers are the same.\n\n"
    "Thread-safe; arrays release the GIL.";

PyMethodDef translate_definition = translate_method<Mmu>(translate_doc);

void add_tables(py::class_<Mmu, py::smart_holder>& type) {
  const py::arg_v access("access", Access::read | Access::write, "vm_core.Access.READ | vm_core.Access.WRITE");
  type.def(
          "map_page",
          [](Mmu& self, Unsigned vaddr, Unsigned paddr, Access rights, bool user) {
            const CallGuard<Mmu> guard(self);
            self.map_page(GuestVirtual(vaddr.value), GuestPhysical(paddr.value), rights, user);
          },
          "vaddr"_a, "paddr"_a, access, "user"_a = false,
          "Map one page of the smallest size. Raises InvalidConfig when it is misaligned or already mapped.")
      .def(
          "unmap_page",
          [](Mmu& self, Unsigned vaddr) {
            const CallGuard<Mmu> guard(self);
            self.unmap_page(GuestVirtual(vaddr.value));
          },
          "vaddr"_a, "Unmap the page, of whatever size, that contains vaddr; then flush it. PageFault without one.")
      .def(
          "map",
          [](Mmu& self, Unsigned vaddr, Unsigned paddr, Unsigned size, Access rights, bool user,
             std::optional<std::uint64_t> page_size) {
            const CallGuard<Mmu> guard(self);
            self.map({vaddr.value, paddr.value, size.value, rights, user, page_size});
          },
          "vaddr"_a, "paddr"_a, "size"_a, access, "user"_a = false, "page_size"_a = py::none(), "As AddressSpace.map.")
      .def(
          "unmap",
          [](Mmu& self, Unsigned vaddr, Unsigned size) {
            const CallGuard<Mmu> guard(self);
            return self.unmap(vaddr.value, size.value);
          },
          "vaddr"_a, "size"_a, "As AddressSpace.unmap; then flush the range. Returns the bytes that were mapped.")
      .def(
          "protect",
          [](Mmu& self, Unsigned vaddr, Unsigned size, Access rights, std::optional<bool> user) {
            const CallGuard<Mmu> guard(self);
            self.protect(vaddr.value, size.value, rights, user);
          },
          "vaddr"_a, "size"_a, "access"_a, "user"_a = py::none(), "As AddressSpace.protect; then flush the range.")
      .def(
          "switch_to",
          [](Mmu& self, const py::object& config, Unsigned asid, Unsigned vmid, bool keep) {
            self.switch_to(paging_config_from(config), context_from(asid, vmid), keep);
          },
          "config"_a, py::kw_only(), "asid"_a = Unsigned{0}, "vmid"_a = Unsigned{0}, "keep"_a = false,
          "Select another address space, as a write to CR3, satp or TTBR does.\n\n"
          "Non-global translations of the new ASID are flushed unless keep; everything is when more than the root "
          "changes. Raises VmError, and changes nothing, while another thread is in a call that has released the GIL.");
}

std::size_t preheat(Mmu& self, const py::object& vaddrs) {
  const py::array_t<std::uint64_t> vaddr = addresses_from(vaddrs);
  const std::uint64_t* from = vaddr.data();
  const auto count = static_cast<std::size_t>(vaddr.size());
  constexpr std::size_t step = std::size_t{1} << 16;  // elements between two looks for Ctrl-C
  std::size_t filled = 0;
  const InUse<Mmu> use(self);
  for (std::size_t done = 0; done < count; done += step) {
    {
      const py::gil_scoped_release release;
      const TouchGuard touching(*self.memory());
      filled += self.preheat(from + done, std::min(step, count - done));
    }
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }
  return filled;
}

void add_reconfigure(py::class_<Mmu, py::smart_holder>& type) {
  type.def(
      "reconfigure",
      [](Mmu& self, const std::optional<vm::mem::tlb::TlbConfig>& tlb,
         const std::optional<std::array<std::uint32_t, 4>>& walk_cache, const PyPrefetcher* prefetcher) {
        std::unique_ptr<vm::mem::prefetch::Prefetcher> own;
        if (prefetcher != nullptr) own = prefetcher->get().fresh();
        self.reconfigure(tlb.value_or(self.config().tlb),
                         walk_cache ? walk_cache_from(walk_cache) : self.config().walk_cache, std::move(own));
      },
      py::kw_only(), "tlb"_a = py::none(), "walk_cache"_a = py::none(), "prefetcher"_a = py::none(),
      "Put another TLB, prefetcher and walk cache in the place of these; None keeps a configuration.\n\n"
      "A TLB or a walk cache of another configuration begins empty, and its part of stats at zero; one whose "
      "configuration stays, but for the prefetcher, is kept with its entries. The prefetcher always begins anew, the "
      "counters of the Mmu itself go on. Raises VmError, and changes nothing, while another thread is in a call that "
      "has "
      "released the GIL, or when called below one (from a signal handler).");
}

void add_accesses(py::class_<Mmu, py::smart_holder>& type) {
  const py::arg_v read_access("access", Access::read, "vm_core.Access.READ");
  type.def("read", &read, "vaddr"_a, "size"_a, py::kw_only(), "user"_a = false, read_access,
           "Copy size bytes from vaddr, over borders of pages, regions and devices.\n\n"
           "Everything is translated and checked before the first byte moves. Raises PageFault with the first byte "
           "that faults, OutOfRange where there is neither memory nor a device, AccessViolation for an access that a "
           "device does not answer.")
      .def("write", &write, "vaddr"_a, "data"_a, py::kw_only(), "user"_a = false,
           "Copy a bytes-like object to vaddr. Raises as read, and AccessViolation for read-only memory; then nothing "
           "was written.")
      .def("load", &load, "vaddr"_a, "width"_a = 8, py::kw_only(), "user"_a = false,
           "Read one little-endian word of 1, 2, 4 or 8 bytes: atomically when aligned, as one access of a device.")
      .def("store", &store, "vaddr"_a, "value"_a, "width"_a = 8, py::kw_only(), "user"_a = false,
           "Write one little-endian word of 1, 2, 4 or 8 bytes.")
      .def("compare_exchange", &compare_exchange, "vaddr"_a, "expected"_a, "desired"_a, "width"_a = 8, py::kw_only(),
           "user"_a = false,
           "Replace expected by desired atomically; returns whether it was, and what was found.\n\n"
           "Needs write permission either way. InvalidConfig when misaligned, NotSupported on a device.");
}

/// A device's functions often know the Mmu that owns them.
int traverse_mmu(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  if (!py::detail::is_holder_constructed(self)) return 0;
  return visit_device_functions(py::cast<Mmu&>(py::handle(self)).mmio(), visit, arg);
}

int clear_mmu(PyObject* self) {
  if (!py::detail::is_holder_constructed(self)) return 0;
  vm::mem::MmioManager& devices = py::cast<Mmu&>(py::handle(self)).mmio();
  for (const vm::mem::MmioRange& device : devices.ranges()) devices.remove(device.base);
  return 0;
}

void collect_cycles(PyHeapTypeObject* heap_type) {
  PyTypeObject& type = heap_type->ht_type;
  type.tp_flags |= Py_TPFLAGS_HAVE_GC;
  type.tp_traverse = traverse_mmu;
  type.tp_clear = clear_mmu;
}

}  // namespace

void bind_mmu(py::module_& module) {
  bind_mmio(module);
  bind_mmu_stats(module);
  py::class_<Mmu, py::smart_holder> type(
      module, "Mmu",
      "Guest memory through virtual addresses: page tables behind a TLB and a page-walk cache, devices beside "
      "memory.\n\n"
      "memory: GuestMemory. config: X86, RiscV or AArch64. tlb: TlbConfig; its prefetch options are served here, with "
      "real walks of the tables. walk_cache: entries by level of the table, the last level first; (0, 0, 0, 0) is off. "
      "prefetcher: one of vm_mem.prefetch in the place of the one that tlb describes; a fresh copy of it works here. "
      "asid, vmid: the tags of the address space. tables, update_accessed_dirty: as for AddressSpace.\n\n"
      "Translations, reads, writes and flushes may run in any number of threads at once. map, unmap and protect wait "
      "for each other and have flushed when they return (a delayed or batched flush policy waits for flush_barrier). "
      "Tables changed in any other way need a flush, as on hardware.",
      py::custom_type_setup(collect_cycles));
  type.def(py::init(&make_mmu), "memory"_a, "config"_a, py::kw_only(),
           py::arg_v("tlb", vm::mem::default_mmu_tlb(), "TlbConfig(strategy='concurrent')"),
           "walk_cache"_a = py::none(), "prefetcher"_a = py::none(), "asid"_a = Unsigned{0}, "vmid"_a = Unsigned{0},
           "tables"_a = py::none(), "update_accessed_dirty"_a = false)
      .def_property_readonly("memory", &Mmu::memory, "The GuestMemory.")
      .def_property_readonly(
          "config", [](const Mmu& self) { return paging_config_to_python(self.space()->config()); },
          "The X86, RiscV or AArch64 that is in force.")
      .def_property_readonly(
          "space", [](const Mmu& self) { return std::const_pointer_cast<vm::mem::paging::AddressSpace>(self.space()); },
          "The page tables without TLB and walk cache, as AddressSpace. What it changes is not flushed here.")
      .def_property_readonly(
          "asid", [](const Mmu& self) { return self.context().asid; }, "The ASID (PCID) in force.")
      .def_property_readonly(
          "vmid", [](const Mmu& self) { return self.context().vmid; }, "The VMID in force.")
      .def_property_readonly(
          "mmio", [](Mmu& self) -> vm::mem::MmioManager& { return self.mmio(); },
          py::return_value_policy::reference_internal, "The devices: MmioManager.")
      .def_property_readonly(
          "tlb", [](const Mmu& self) { return self.tlb(); }, "The UnifiedTlb; reconfigure() makes another one.")
      .def_property_readonly(
          "walk_cache", [](const Mmu& self) { return py::tuple(py::cast(self.config().walk_cache.entries)); },
          "Entries of the walk cache in force by the level of the table, the last level first.")
      .def_property_readonly("stats", &Mmu::stats, "An MmuStats of this moment.")
      .def(
          "flush_barrier",
          [](Mmu& self) {
            const InUse<Mmu> use(self);
            const py::gil_scoped_release release;
            self.flush_barrier();
          },
          "Carry out the flushes that a delayed or batched policy holds back.")
      .def("__repr__", [](const Mmu& self) {
        return "Mmu(" + describe(self.space()->config()) + ", " + to_string(self.config().tlb.strategy) + " TLB of " +
               std::to_string(self.tlb()->capacity()) + " entries)";
      });
  add_tables(type);
  add_accesses(type);
  add_reconfigure(type);
  type.def(
      "preheat", &preheat, "vaddrs"_a,
      "Fill the TLB ahead of time with the pages of an array of addresses (a range, a list, the pages of a "
      "vm_mem.prefetch.Profile times their size), by real walks that set no flag.\n\n"
      "Returns how many pages were filled; what is there already, or not mapped, is passed over. Releases the GIL.");
  add_flushes(
      type, [](const Mmu& self) { return self.context(); },
      [](Mmu& self, const vm::mem::tlb::FlushRequest& request) { self.flush(request); });
  add_method(type, translate_definition);
}
