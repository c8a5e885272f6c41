#include "run_time.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "gil.hpp"
#include "vm/core/error.hpp"

namespace py = pybind11;
using std::chrono::nanoseconds;

void PythonSignals::check() {
  const GilHeld gil;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

// By hand, because pybind11 would try all conversions twice for an integer.
std::optional<nanoseconds> timeout_from(const py::object& timeout) {
  if (timeout.is_none()) return {};
  const double seconds = PyFloat_AsDouble(timeout.ptr());
  if (seconds == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
  if (seconds == HUGE_VAL) return {};
  if (!(seconds >= 0))
    throw vm::InvalidConfig("a timeout is a number of seconds from 0 up, got " + std::to_string(seconds));
  constexpr double longest = 9e9;  // seconds whose nanoseconds still fit 64 bits
  return nanoseconds(static_cast<std::int64_t>(std::min(seconds, longest) * 1e9));
}
