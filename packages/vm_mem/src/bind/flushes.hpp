#pragma once
/// \file
/// The flush methods that everything with a TLB has.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>

#include "in_use.hpp"
#include "keyword_config.hpp"
#include "vm/mem/tlb/flush.hpp"
#include "vm/python/unsigned.hpp"

/// Throws InvalidConfig for numbers of more than 16 bits.
inline vm::mem::tlb::Context context_from(Unsigned asid, Unsigned vmid) {
  return {narrow<std::uint16_t>(asid, "asid"), narrow<std::uint16_t>(vmid, "vmid")};
}

/// `context(self)` is what stands for an asid or vmid that is None; `flush(self, request)` does it, without the GIL.
template <class T, class... Options, class ContextOf, class Flush>
void add_flushes(pybind11::class_<T, Options...>& type, ContextOf context, Flush flush) {
  namespace py = pybind11;
  using namespace pybind11::literals;
  using vm::mem::tlb::Context;
  using vm::mem::tlb::FlushRequest;
  using Tag = std::optional<Unsigned>;

  const auto chosen = [context](T& self, const Tag& asid, const Tag& vmid) {
    const Context now = context(self);
    return context_from(asid.value_or(Unsigned{now.asid}), vmid.value_or(Unsigned{now.vmid}));
  };
  const auto carry_out = [flush](T& self, const FlushRequest& request) {
    const InUse<T> use(self);
    const py::gil_scoped_release release;
    flush(self, request);
  };
  type.def(
          "flush_page",
          [=](T& self, Unsigned vaddr, const Tag& asid, const Tag& vmid) {
            carry_out(self, FlushRequest::page(vaddr.value, chosen(self, asid, vmid)));
          },
          "vaddr"_a, "asid"_a = py::none(), "vmid"_a = py::none(),
          "Forget the pages of any size that contain vaddr, global ones too.")
      .def(
          "flush_range",
          [=](T& self, Unsigned vaddr, Unsigned size, const Tag& asid, const Tag& vmid) {
            carry_out(self, FlushRequest::range(vaddr.value, size.value, chosen(self, asid, vmid)));
          },
          "vaddr"_a, "size"_a, "asid"_a = py::none(), "vmid"_a = py::none(),
          "Forget the pages that overlap size bytes from vaddr on, global ones too. A range ends at 2**64.")
      .def(
          "flush_asid",
          [=](T& self, const Tag& asid, const Tag& vmid) {
            carry_out(self, FlushRequest::asid(chosen(self, asid, vmid)));
          },
          "asid"_a = py::none(), "vmid"_a = py::none(),
          "Forget what belongs to one address space, except global entries.")
      .def(
          "flush_non_global",
          [=](T& self, const Tag& vmid) {
            carry_out(self, FlushRequest::non_global(chosen(self, std::nullopt, vmid).vmid));
          },
          "vmid"_a = py::none(), "Forget everything of one VM except global entries.")
      .def(
          "flush_all", [=](T& self) { carry_out(self, FlushRequest::all()); }, "Forget everything, of every context.");
}
