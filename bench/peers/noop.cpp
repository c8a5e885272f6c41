// What a call costs that does nothing: the floor under every scalar call from Python.

#include <pybind11/pybind11.h>

#include <cstdint>

namespace {

struct Nothing {
  void nothing(std::uint64_t) const {}
};

}  // namespace

PYBIND11_MODULE(noop, module) {
  module.def("noop", [] {});
  pybind11::class_<Nothing>(module, "Nothing").def(pybind11::init<>()).def("nothing", &Nothing::nothing);
}
