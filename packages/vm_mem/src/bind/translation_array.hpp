#pragma once
/// \file
/// `vm_mem.paging.TranslationArray`: the answer of a batch as NumPy arrays, unpacked when somebody looks.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>

#include "vm/mem/paging/address_space.hpp"

/// Two arrays hold everything; the others are computed from them on demand and kept.
class TranslationArray {
 public:
  using Addresses = pybind11::array_t<std::uint64_t>;
  using Infos = pybind11::array_t<vm::mem::paging::PackedInfo>;

  TranslationArray(std::shared_ptr<const vm::mem::paging::AddressSpace> space, Addresses vaddr, Addresses paddr,
                   Infos info, vm::Access access, vm::Privilege privilege);

  const Addresses& vaddr() const { return vaddr_; }
  const Addresses& paddr() const { return paddr_; }
  pybind11::array ok() const;
  pybind11::array fault() const;
  pybind11::array page_size() const;
  pybind11::array access() const;
  pybind11::array user() const;
  pybind11::array level() const;
  pybind11::array error_code() const;

  /// A Translation for an index that selects one element (PageFault when it faulted), else the selected part.
  pybind11::object item(const pybind11::object& index) const;
  /// Raises PageFault for the first element, in C order, that faulted.
  void raise_for_fault() const;
  std::size_t fault_count() const;
  std::string repr() const;

 private:
  template <class T, class Unpack>
  pybind11::array unpack(Unpack&& unpack) const;
  vm::FaultInfo fault_at(std::uint64_t vaddr, vm::mem::paging::PackedInfo info) const;

  std::shared_ptr<const vm::mem::paging::AddressSpace> space_;
  Addresses vaddr_;
  Addresses paddr_;
  Infos info_;
  vm::Access access_;
  vm::Privilege privilege_;
};

void bind_translation_array(pybind11::module_& module);
