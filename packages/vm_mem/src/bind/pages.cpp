// Pages of this process for Python: blocks of them, and what the kernel put behind any buffer.

#include <pybind11/native_enum.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "huge_pages.hpp"
#include "page_block_state.hpp"
#include "pages_docs.hpp"
#include "vm/core/error.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using vm::Access;
using vm::mem::Advice;
using vm::mem::HugePages;
using vm::mem::LockMode;
using vm::mem::PageBlock;
using vm::mem::PageCensus;
using vm::mem::PurgeMode;
using vm::mem::WxPolicy;

namespace {

/// Bytes between two looks for signals, unless a page is larger.
constexpr std::uint64_t signal_step = std::uint64_t{256} << 20;

WxPolicy wx_policy_from(const std::string& name) {
  for (const WxPolicy policy : {WxPolicy::unrestricted, WxPolicy::exclusive, WxPolicy::strict}) {
    if (name == to_string(policy)) return policy;
  }
  throw vm::InvalidConfig("unknown wx_policy \"" + name + "\"; choose \"exclusive\", \"strict\" or \"unrestricted\"");
}

std::optional<std::string> name_of(HugePages kind) {
  switch (kind) {
    case HugePages::transparent: return "transparent";
    case HugePages::size_2m: return "2M";
    case HugePages::size_1g: return "1G";
    case HugePages::automatic:
    case HugePages::none: break;
  }
  return std::nullopt;
}

std::unique_ptr<BlockHandle> make(Unsigned size, const std::optional<Unsigned>& alignment,
                                  const std::optional<std::string>& huge_pages, bool fallback, Unsigned guard,
                                  const std::string& wx_policy) {
  vm::mem::PageOptions options;
  if (alignment) options.alignment = alignment->value;
  options.huge_pages = parse_huge_pages(huge_pages);
  options.fallback = fallback;
  options.guard = guard.value;
  options.wx_policy = wx_policy_from(wx_policy);
  const py::gil_scoped_release release;
  return std::make_unique<BlockHandle>(size.value, options);
}

/// From offset to the end when there is no size.
std::uint64_t size_or_rest(const PageBlock& pages, Unsigned offset, const std::optional<Unsigned>& size) {
  if (size) return size->value;
  return pages.capacity() - std::min(offset.value, pages.capacity());
}

void prefault(const BlockHandle& handle, Unsigned offset, const std::optional<Unsigned>& size,
              const std::optional<unsigned>& threads) {
  if (threads && *threads == 0) throw vm::InvalidConfig("threads is 0; choose 1 or more, or None");
  const auto block = handle.get();
  PageBlock& pages = block->pages();
  const std::uint64_t bytes = size_or_rest(pages, offset, size);
  pages.check_prefault(offset.value, bytes);
  const std::uint64_t step = std::max(signal_step, pages.page_size());
  for (std::uint64_t done = 0;; done += step) {
    const bool last = bytes - done <= step;
    {
      const py::gil_scoped_release release;
      pages.prefault(offset.value + done, last ? bytes - done : step, threads.value_or(0));
    }
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (last) return;
  }
}

/// Something for an array to hold on to that keeps the pages.
py::capsule keeper_of(std::unique_ptr<BlockView> view) {
  py::capsule capsule(view.get(), [](void* pointer) {
    const py::gil_scoped_release release;  // unmapping many pages takes time
    delete static_cast<BlockView*>(pointer);
  });
  view.release();  // the capsule's now
  return capsule;
}

py::object array(const BlockHandle& handle, const py::object& dtype) {
  const py::dtype type = py::dtype::from_args(dtype);
  auto view = std::make_unique<BlockView>(handle.get());
  const auto item = static_cast<std::uint64_t>(type.itemsize());
  if (type.attr("hasobject").cast<bool>()) {
    throw vm::InvalidConfig("a page block holds no Python objects; choose another dtype than " +
                            py::repr(type).cast<std::string>());
  }
  if (item == 0 || view->size() % item != 0) {
    throw vm::InvalidConfig(std::to_string(view->size()) + " bytes are no whole number of items of " +
                            std::to_string(item) + " bytes (" + py::repr(type).cast<std::string>() + ")");
  }
  std::byte* const data = view->data();
  const auto size = static_cast<py::ssize_t>(view->size());
  const bool writable = view->writable();
  const py::array bytes(py::dtype::of<std::uint8_t>(), {size}, {py::ssize_t{1}}, data, keeper_of(std::move(view)));
  // NumPy lets nobody set the flag again, because a capsule offers no writable buffer.
  if (!writable) bytes.attr("flags").attr("writeable") = false;
  return bytes.attr("view")(type);
}

int get_buffer(PyObject* self, Py_buffer* buffer, int flags) {
  try {
    auto view = std::make_unique<BlockView>(py::cast<const BlockHandle&>(py::handle(self)).get());
    if (PyBuffer_FillInfo(buffer, self, view->data(), static_cast<py::ssize_t>(view->size()), view->writable() ? 0 : 1,
                          flags) != 0) {
      return -1;
    }
    buffer->internal = view.release();  // until release_buffer
    return 0;
  } catch (...) {
    buffer->obj = nullptr;
    py::detail::try_translate_exceptions();
    return -1;
  }
}

void release_buffer(PyObject*, Py_buffer* buffer) {
  const py::gil_scoped_release release;
  delete static_cast<BlockView*>(buffer->internal);
}

void offer_buffer(PyHeapTypeObject* heap_type) {
  heap_type->as_buffer.bf_getbuffer = get_buffer;
  heap_type->as_buffer.bf_releasebuffer = release_buffer;
  heap_type->ht_type.tp_as_buffer = &heap_type->as_buffer;
}

py::list rights(const BlockHandle& handle) {
  py::list runs;
  for (const vm::mem::RightsRange& run : handle.get()->pages().protection().ranges()) {
    runs.append(py::make_tuple(run.offset, run.size, run.access));
  }
  return runs;
}

PageCensus measure(const py::object& source) {
  Py_buffer buffer;
  if (PyObject_GetBuffer(source.ptr(), &buffer, PyBUF_ANY_CONTIGUOUS) != 0) {
    const py::error_already_set error;
    if (error.matches(PyExc_TypeError)) throw py::type_error(std::string("measure needs a buffer: ") + error.what());
    throw vm::InvalidConfig("measure needs one contiguous run of bytes (" + std::string(error.what()) + ")");
  }
  const std::unique_ptr<Py_buffer, void (*)(Py_buffer*)> releaser(&buffer, PyBuffer_Release);
  const py::gil_scoped_release release;
  return vm::mem::count_pages(buffer.buf, static_cast<std::uint64_t>(buffer.len));
}

std::string huge_text(const PageCensus& census) { return census.huge_known ? std::to_string(census.huge) : "None"; }

std::string census_repr(const PageCensus& census) {
  return "PageCensus(mapped=" + std::to_string(census.mapped) + ", resident=" + std::to_string(census.resident) +
         ", huge=" + huge_text(census) + ", locked=" + std::to_string(census.locked) +
         ", page_size=" + std::to_string(census.page_size) + ")";
}

std::string block_repr(const BlockHandle& handle) {
  if (handle.closed()) return "<PageBlock closed>";
  const auto block = handle.get();
  const PageBlock& pages = block->pages();
  std::string text = "<PageBlock " + std::to_string(pages.size()) + " bytes at " +
                     vm::hex(reinterpret_cast<std::uintptr_t>(pages.data())) + ", aligned to " +
                     std::to_string(pages.alignment());
  if (const auto kind = name_of(pages.huge_pages())) text += ", huge pages " + *kind;
  if (pages.guard() != 0) text += ", guards of " + std::to_string(pages.guard());
  return text + ">";
}

void bind_census(py::module_& module) {
  py::class_<PageCensus>(module, "PageCensus", docs::census)
      .def_readonly("mapped", &PageCensus::mapped, "Belongs to some mapping.")
      .def_readonly("resident", &PageCensus::resident, "In memory; the kernel's shared page of zeros is not counted.")
      .def_property_readonly(
          "huge",
          [](const PageCensus& census) {
            return census.huge_known ? std::optional<std::uint64_t>(census.huge) : std::nullopt;
          },
          "Of resident, what the processor maps as huge pages; None where the kernel (before Linux 6.7) cannot tell.")
      .def_readonly("locked", &PageCensus::locked, "Locked in memory (mlock).")
      .def_readonly("page_size", &PageCensus::page_size, "Of the mapping; 0 when several differ.")
      .def("__repr__", &census_repr);
  module.def("measure", &measure, "buffer"_a, py::pos_only(), docs::measure);
}

void bind_advice(py::module_& module) {
  py::native_enum<Advice>(module, "Advice", "enum.Enum", docs::advice)
      .value("NORMAL", Advice::normal)
      .value("RANDOM", Advice::random)
      .value("SEQUENTIAL", Advice::sequential)
      .value("WILL_NEED", Advice::will_need)
      .value("HUGE_PAGES", Advice::huge_pages)
      .value("NO_HUGE_PAGES", Advice::no_huge_pages)
      .value("COLLAPSE", Advice::collapse)
      .value("COLD", Advice::cold)
      .value("PAGE_OUT", Advice::page_out)
      .value("DONT_FORK", Advice::dont_fork)
      .value("DO_FORK", Advice::do_fork)
      .value("WIPE_ON_FORK", Advice::wipe_on_fork)
      .value("KEEP_ON_FORK", Advice::keep_on_fork)
      .value("DONT_DUMP", Advice::dont_dump)
      .value("DO_DUMP", Advice::do_dump)
      .value("MERGEABLE", Advice::mergeable)
      .value("UNMERGEABLE", Advice::unmergeable)
      .finalize();
}

template <class Use>
auto reader(Use use) {
  return [use](const BlockHandle& handle) { return use(handle.get()->pages()); };
}

void bind_facts(py::class_<BlockHandle>& type) {
  type.def_property_readonly("size", reader([](const PageBlock& p) { return p.size(); }), "Bytes that were asked for.")
      .def_property_readonly("capacity", reader([](const PageBlock& p) { return p.capacity(); }),
                             "Bytes up to the end of the last page.")
      .def_property_readonly("address",
                             reader([](const PageBlock& p) { return reinterpret_cast<std::uintptr_t>(p.data()); }),
                             "Where the first byte is.")
      .def_property_readonly("alignment", reader([](const PageBlock& p) { return p.alignment(); }),
                             "Address is a multiple of it.")
      .def_property_readonly("guard", reader([](const PageBlock& p) { return p.guard(); }),
                             "Inaccessible bytes on either side.")
      .def_property_readonly("page_size", reader([](const PageBlock& p) { return p.page_size(); }),
                             "What offsets and sizes of ranges are multiples of.")
      .def_property_readonly("huge_pages", reader([](const PageBlock& p) { return name_of(p.huge_pages()); }),
                             docs::block_huge_pages)
      .def_property_readonly("refused", reader([](const PageBlock& p) {
                               return p.refused().empty() ? std::nullopt : std::optional<std::string>(p.refused());
                             }),
                             docs::refused)
      .def_property_readonly("wx_policy", reader([](const PageBlock& p) { return to_string(p.protection().policy()); }),
                             "\"exclusive\", \"strict\" or \"unrestricted\".")
      .def_property_readonly("rights", &rights, docs::rights)
      .def_property_readonly("resident", reader([](const PageBlock& p) { return p.resident(); }), docs::resident);
}

void bind_actions(py::class_<BlockHandle>& type) {
  type.def("array", &array, "dtype"_a = "u1", docs::array)
      .def("prefault", &prefault, "offset"_a = Unsigned{0}, "size"_a = py::none(), py::kw_only(),
           "threads"_a = py::none(), docs::prefault)
      .def(
          "lock",
          [](const BlockHandle& handle, bool on_fault) {
            const auto block = handle.get();
            const py::gil_scoped_release release;
            block->pages().lock(on_fault ? LockMode::on_fault : LockMode::now);
          },
          py::kw_only(), "on_fault"_a = false, docs::lock)
      .def(
          "unlock", [](const BlockHandle& handle) { handle.get()->pages().unlock(); },
          "Let the system evict the pages again.")
      .def(
          "advise",
          [](const BlockHandle& handle, Advice advice, Unsigned offset, const std::optional<Unsigned>& size) {
            const auto block = handle.get();
            const py::gil_scoped_release release;
            block->pages().advise(advice, offset.value, size_or_rest(block->pages(), offset, size));
          },
          "advice"_a, "offset"_a = Unsigned{0}, "size"_a = py::none(), docs::advise)
      .def(
          "purge",
          [](const BlockHandle& handle, Unsigned offset, const std::optional<Unsigned>& size, bool lazily) {
            const auto block = handle.get();
            const py::gil_scoped_release release;
            block->pages().purge(offset.value, size_or_rest(block->pages(), offset, size),
                                 lazily ? PurgeMode::lazily : PurgeMode::now);
          },
          "offset"_a = Unsigned{0}, "size"_a = py::none(), py::kw_only(), "lazily"_a = false, docs::purge)
      .def(
          "protect",
          [](const BlockHandle& handle, Unsigned offset, Unsigned size, Access access) {
            const auto block = handle.get();
            const py::gil_scoped_release release;
            block->protect(offset.value, size.value, access);
          },
          "offset"_a, "size"_a, "access"_a, docs::protect)
      .def(
          "measure",
          [](const BlockHandle& handle) {
            const auto block = handle.get();
            const py::gil_scoped_release release;
            return block->pages().census();
          },
          docs::measure_block);
}

}  // namespace

void bind_pages(py::module_& module) {
  bind_census(module);
  bind_advice(module);
  // Its destructor may unmap many pages.
  py::class_<BlockHandle> type(module, "PageBlock", docs::block, py::custom_type_setup(offer_buffer),
                               py::release_gil_before_calling_cpp_dtor());
  type.def(py::init(&make), "size"_a, py::kw_only(), "alignment"_a = py::none(), "huge_pages"_a = "auto",
           "fallback"_a = false, "guard"_a = Unsigned{0}, "wx_policy"_a = "exclusive");
  bind_facts(type);
  bind_actions(type);
  type.def(
          "close",
          [](BlockHandle& handle) {
            const py::gil_scoped_release release;
            handle.close();
          },
          docs::close_block)
      .def_property_readonly("closed", &BlockHandle::closed, "Whether close() was called.")
#if PY_VERSION_HEX < 0x030C0000
      // From Python 3.12 on this is what Python makes of the buffer protocol (PEP 688).
      .def(
          "__buffer__", [](const py::object& self, int) { return py::memoryview(self); }, "flags"_a, py::pos_only(),
          "A memoryview of the bytes.")
#endif
      .def("__len__", reader([](const PageBlock& p) { return p.size(); }))
      .def("__enter__", [](const py::object& self) { return self; })
      .def("__exit__",
           [](BlockHandle& handle, const py::args&) {
             const py::gil_scoped_release release;
             handle.close();
           })
      .def("__repr__", &block_repr);
}
