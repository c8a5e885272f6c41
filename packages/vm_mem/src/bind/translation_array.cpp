#include "translation_array.hpp"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "translation_type.hpp"
#include "vm/core/error.hpp"

namespace py = pybind11;
using namespace vm::mem::paging;

TranslationArray::TranslationArray(std::shared_ptr<const AddressSpace> space, Addresses vaddr, Addresses paddr,
                                   Infos info, vm::Access access, vm::Privilege privilege)
    : space_(std::move(space)),
      vaddr_(std::move(vaddr)),
      paddr_(std::move(paddr)),
      info_(std::move(info)),
      access_(access),
      privilege_(privilege) {}

template <class T, class Unpack>
py::array TranslationArray::unpack(Unpack&& unpack) const {
  py::array_t<T> out(std::vector<py::ssize_t>(info_.shape(), info_.shape() + info_.ndim()));
  const PackedInfo* in = info_.data();
  T* to = out.mutable_data();
  const auto count = static_cast<std::size_t>(info_.size());
  {
    const py::gil_scoped_release release;
    for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<T>(unpack(in[i], i));
  }
  return out;
}

py::array TranslationArray::ok() const {
  return unpack<bool>([](PackedInfo info, std::size_t) { return !is_fault(info); });
}
py::array TranslationArray::fault() const {
  return unpack<std::uint8_t>([](PackedInfo info, std::size_t) { return reason_of(info); });
}
py::array TranslationArray::page_size() const {
  return unpack<std::uint64_t>([](PackedInfo info, std::size_t) { return page_size_of(info); });
}
py::array TranslationArray::access() const {
  return unpack<std::uint8_t>([this](PackedInfo info, std::size_t) { return access_of(rights_of(info), privilege_); });
}
py::array TranslationArray::user() const {
  return unpack<bool>(
      [](PackedInfo info, std::size_t) { return vm::user_access(rights_of(info)) != vm::Access::none; });
}
py::array TranslationArray::level() const {
  return unpack<std::int8_t>([](PackedInfo info, std::size_t) { return level_of(info); });
}
py::array TranslationArray::error_code() const {
  const std::uint64_t* vaddr = vaddr_.data();
  return unpack<std::uint32_t>([this, vaddr](PackedInfo info, std::size_t i) {
    return is_fault(info) ? fault_at(vaddr[i], info).error_code : 0;
  });
}

vm::FaultInfo TranslationArray::fault_at(std::uint64_t vaddr, PackedInfo info) const {
  Translation t;
  t.vaddr = vaddr;
  t.level = static_cast<std::int8_t>(level_of(info));
  t.reason = reason_of(info);
  return space_->fault_info(t, access_, privilege_);
}

py::object TranslationArray::item(const py::object& index) const {
  const py::object vaddr = vaddr_[index];
  if (py::isinstance<py::array>(vaddr)) {
    const auto contiguous = py::module_::import("numpy").attr("ascontiguousarray");
    return py::cast(TranslationArray(space_, contiguous(vaddr), contiguous(paddr_[index]), contiguous(info_[index]),
                                     access_, privilege_));
  }
  const auto info = info_[index].cast<PackedInfo>();
  if (is_fault(info)) throw vm::PageFault(fault_at(vaddr.cast<std::uint64_t>(), info));
  Translation t;
  t.vaddr = vaddr.cast<std::uint64_t>();
  t.paddr = paddr_[index].cast<std::uint64_t>();
  t.rights = rights_of(info);
  t.size_log2 = static_cast<std::uint8_t>(info >> 6 & 63);
  t.level = static_cast<std::int8_t>(level_of(info));
  auto result = py::reinterpret_steal<py::object>(new_translation(t, privilege_));
  if (!result) throw py::error_already_set();
  return result;
}

void TranslationArray::raise_for_fault() const {
  const PackedInfo* begin = info_.data();
  const PackedInfo* end = begin + info_.size();
  const PackedInfo* first = std::find_if(begin, end, is_fault);
  if (first != end) throw vm::PageFault(fault_at(vaddr_.data()[first - begin], *first));
}

std::size_t TranslationArray::fault_count() const {
  return static_cast<std::size_t>(std::count_if(info_.data(), info_.data() + info_.size(), is_fault));
}

std::string TranslationArray::repr() const {
  const std::string shape = py::str(vaddr_.attr("shape")).cast<std::string>();
  const std::size_t faults = fault_count();
  return "TranslationArray(shape=" + shape + ", ok=" + std::to_string(static_cast<std::size_t>(info_.size()) - faults) +
         ", faults=" + std::to_string(faults) + ")";
}

void bind_translation_array(py::module_& module) {
  py::class_<TranslationArray>(module, "TranslationArray",
                               "The answers of a batch, one per address, in arrays of the addresses' shape.\n\n"
                               "Made by AddressSpace.translate(array). Ten bytes an element are stored; every property "
                               "but vaddr and paddr makes its array when it is read. Indexing with a whole number "
                               "gives a Translation or raises PageFault, any other index a smaller TranslationArray.")
      .def_property_readonly("vaddr", &TranslationArray::vaddr, "uint64: the virtual addresses asked for.")
      .def_property_readonly("paddr", &TranslationArray::paddr,
                             "uint64: the physical addresses; 2**64 - 1 where the translation faulted.")
      .def_property_readonly("ok", &TranslationArray::ok, "bool: True where the address translates.")
      .def_property_readonly("fault", &TranslationArray::fault,
                             "uint8: vm_core.FaultReason; NONE where the address translates.")
      .def_property_readonly("page_size", &TranslationArray::page_size,
                             "uint64: bytes of the mapping page; 0 where the translation faulted.")
      .def_property_readonly("access", &TranslationArray::access,
                             "uint8: vm_core.Access that the tables grant to the privilege that asked; 0 at faults.")
      .def_property_readonly("user", &TranslationArray::user,
                             "bool: True where the tables grant user code anything on the page.")
      .def_property_readonly("level", &TranslationArray::level,
                             "int8: level of the entry that answered or faulted; 0 is the last-level table.")
      .def_property_readonly("error_code", &TranslationArray::error_code,
                             "uint32: the architecture's error code of each fault (see PageFault); 0 elsewhere.")
      .def_property_readonly(
          "shape", [](const TranslationArray& self) { return self.vaddr().attr("shape"); }, "Shape of all arrays.")
      .def_property_readonly(
          "size", [](const TranslationArray& self) { return self.vaddr().size(); }, "Number of addresses.")
      .def_property_readonly("fault_count", &TranslationArray::fault_count, "Number of addresses that faulted.")
      .def("raise_for_fault", &TranslationArray::raise_for_fault,
           "Raise PageFault for the first address, in C order, that faulted; return None when none did.")
      .def("__getitem__", &TranslationArray::item, py::arg("index"))
      .def("__len__",
           [](const TranslationArray& self) {
             if (self.vaddr().ndim() == 0) throw py::type_error("a single address has no length");
             return self.vaddr().shape(0);
           })
      .def("__repr__", &TranslationArray::repr);
}
