// X86Fpu and X86Xsave: registers as NumPy views.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstring>
#include <string>
#include <vector>

#include "bind.hpp"
#include "text.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;

namespace {

/// (count, 16) bytes inside `owner`, which the view keeps alive.
template <std::size_t Count>
py::array_t<std::uint8_t> view(std::array<std::array<std::uint8_t, 16>, Count>& registers, const py::object& owner) {
  return py::array_t<std::uint8_t>({Count, std::size_t{16}}, registers.front().data(), owner);
}

template <std::size_t Count>
void assign(std::array<std::array<std::uint8_t, 16>, Count>& registers, const py::object& value,
            const py::object& owner) {
  view(registers, owner).attr("__setitem__")(py::ellipsis(), value);
}

std::string repr_fpu(const X86Fpu& self) {
  std::size_t used = 0;
  for (const auto& xmm : self.xmm) used += xmm != decltype(xmm){} ? 1 : 0;
  return "<X86Fpu" + hex_field("fcw", self.fcw) + hex_field("fsw", self.fsw) + hex_field("ftw", self.ftw) +
         hex_field("mxcsr", self.mxcsr) + hex_field("last_ip", self.last_ip) + ", " + std::to_string(used) +
         " of 16 XMM registers not zero>";
}

void bind_fpu(py::module_& module) {
  py::class_<X86Fpu>(module, "X86Fpu",
                     "x87 and SSE registers, as FXSAVE stores them (Intel SDM vol. 1 §10.5.1). A copy: assign it to "
                     "``vcpu.fpu``.")
      .def(py::init<>())
      .def_property(
          "fpr", [](const py::object& self) { return view(self.cast<X86Fpu&>().fpr, self); },
          [](const py::object& self, const py::object& value) { assign(self.cast<X86Fpu&>().fpr, value, self); },
          "ST0 to ST7: a view of shape (8, 16), uint8; ``fpr.view(numpy.longdouble)`` has the numbers.")
      .def_property(
          "xmm", [](const py::object& self) { return view(self.cast<X86Fpu&>().xmm, self); },
          [](const py::object& self, const py::object& value) { assign(self.cast<X86Fpu&>().xmm, value, self); },
          "XMM0 to XMM15: a view of shape (16, 16), uint8; ``xmm.view(numpy.float32)`` has the numbers.")
      .def_readwrite("fcw", &X86Fpu::fcw, "x87 control word.")
      .def_readwrite("fsw", &X86Fpu::fsw, "x87 status word.")
      .def_readwrite("ftw", &X86Fpu::ftw, "Abridged tag word: a set bit says that the register is in use.")
      .def_readwrite("last_opcode", &X86Fpu::last_opcode)
      .def_readwrite("last_ip", &X86Fpu::last_ip, "Of the last x87 instruction.")
      .def_readwrite("last_dp", &X86Fpu::last_dp, "Of its operand.")
      .def_readwrite("mxcsr", &X86Fpu::mxcsr, "SSE control and status.")
      .def("__repr__", &repr_fpu);
}

X86Xsave xsave_from(const py::buffer& data) {
  const py::buffer_info info = data.request();
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(info.size * info.itemsize));
  if (!PyBuffer_IsContiguous(info.view(), 'C')) throw vm::InvalidConfig("an XSAVE area is made of contiguous bytes");
  std::memcpy(bytes.data(), info.ptr, bytes.size());
  return X86Xsave(std::move(bytes));
}

void bind_xsave(py::module_& module) {
  py::class_<X86Xsave>(module, "X86Xsave",
                       "An XSAVE area in the standard format (Intel SDM vol. 1 §13.4). A copy: assign it to "
                       "``vcpu.xsave``.")
      .def(py::init(&xsave_from), "data"_a, "From at least 576 bytes. Raises InvalidConfig for less.")
      .def_property_readonly(
          "data",
          [](const py::object& self) {
            auto& area = self.cast<X86Xsave&>();
            return py::array_t<std::uint8_t>(static_cast<py::ssize_t>(area.size()), area.data(), self);
          },
          "All bytes: a view, uint8. CPUID leaf 0xD says where each component lies.")
      .def_property("xstate_bv", &X86Xsave::xstate_bv, &X86Xsave::set_xstate_bv,
                    "Which components are not in their initial state, a bit each.")
      .def_property_readonly("xcomp_bv", &X86Xsave::xcomp_bv, "Not zero for the compacted format.")
      .def_property("legacy", &X86Xsave::legacy, &X86Xsave::set_legacy, "x87 and SSE (X86Fpu) out of the area.")
      .def("__len__", &X86Xsave::size)
      .def("__bytes__",
           [](const X86Xsave& self) {
             return py::bytes(reinterpret_cast<const char*>(self.bytes().data()), self.size());
           })
      .def("__repr__", [](const X86Xsave& self) {
        return "<X86Xsave of " + std::to_string(self.size()) + " bytes," + hex_field("xstate_bv", self.xstate_bv()) +
               ">";
      });
}

}  // namespace

void bind_x86_fpu(py::module_& module) {
  bind_fpu(module);
  bind_xsave(module);
}
