// CopyPlan and MemcpyStrategy, and what this machine can do.

#include "simd_plan.hpp"

#include <pybind11/stl.h>

#include <map>
#include <optional>
#include <string>

#include "bind.hpp"
#include "keyword_config.hpp"
#include "vm/core/error.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using namespace vm::mem::simd;

namespace {

using Bytes = std::optional<Unsigned>;
using Threshold = std::size_t CopyPlan::*;

struct Named {
  const char* name;
  Threshold member;
  const char* doc;
};
constexpr Named thresholds[] = {
    {"string_from", &CopyPlan::string_from, "Copies of so many bytes and more are the processor's own: rep movsb."},
    {"stream_from", &CopyPlan::stream_from, "Copies of so many bytes and more go past the caches."},
    {"stream_hint_from", &CopyPlan::stream_hint_from, "The same with hint=\"stream\"."},
    {"fill_string_from", &CopyPlan::fill_string_from, "Fills of so many bytes and more are rep stosb."},
    {"fill_stream_from", &CopyPlan::fill_stream_from, "Fills of so many bytes and more go past the caches."},
    {"thread_bytes", &CopyPlan::thread_bytes, "With threads each of them has at least so many bytes to copy."},
};

InstructionSet set_from(const std::string& text) {
  if (const std::optional<InstructionSet> set = find_instruction_set(text)) return *set;
  std::string known;
  for (std::size_t i = 0; i < instruction_set_count; ++i)
    known += (i == 0 ? "" : ", ") + std::string(name(static_cast<InstructionSet>(i)));
  throw vm::InvalidConfig("instruction_set is '" + text + "'; there are " + known);
}

std::size_t threshold_from(const Bytes& bytes) {
  return bytes ? static_cast<std::size_t>(bytes->value) : CopyPlan::never;
}
py::object threshold_to(std::size_t bytes) {
  return bytes == CopyPlan::never ? py::object(py::none()) : py::object(py::int_(bytes));
}

CopyPlan make_plan(const std::string& set, const Bytes& string_from, const Bytes& stream_from,
                   const Bytes& stream_hint_from, Unsigned prefetch_distance, const Bytes& fill_string_from,
                   const Bytes& fill_stream_from, const Bytes& thread_bytes) {
  CopyPlan plan;
  plan.instruction_set = set_from(set);
  plan.string_from = threshold_from(string_from);
  plan.stream_from = threshold_from(stream_from);
  plan.stream_hint_from = threshold_from(stream_hint_from);
  plan.prefetch_distance = static_cast<std::size_t>(prefetch_distance.value);
  plan.fill_string_from = threshold_from(fill_string_from);
  plan.fill_stream_from = threshold_from(fill_stream_from);
  plan.thread_bytes = threshold_from(thread_bytes);
  return plan;
}

py::dict plan_arguments(const CopyPlan& plan) {
  py::dict arguments("instruction_set"_a = name(plan.instruction_set));
  for (const Named& threshold : thresholds) arguments[threshold.name] = threshold_to(plan.*threshold.member);
  arguments["prefetch_distance"] = plan.prefetch_distance;
  return arguments;
}

py::object replace(const py::object& self, const py::kwargs& changes) {
  py::dict arguments = plan_arguments(self.cast<const CopyPlan&>());
  for (const std::pair<py::handle, py::handle> change : changes) arguments[change.first] = change.second;
  return py::type::of(self)(**arguments);
}

std::map<std::string, std::string> instruction_sets() {
  const vm::CpuFeatures features = vm::CpuFeatures::detect();
  std::map<std::string, std::string> reasons;
  for (std::size_t i = 0; i < instruction_set_count; ++i) {
    const auto set = static_cast<InstructionSet>(i);
    reasons.emplace(name(set), why_not(set, features));
  }
  return reasons;
}

void bind_plan(py::module_& module) {
  py::class_<CopyPlan> plan(
      module, "CopyPlan",
      "How one machine copies and fills memory of each size. Immutable; equal plans are equal objects.\n\n"
      "instruction_set: \"scalar\", \"sse2\", \"avx\", \"avx2\", \"avx512\", \"neon\" or \"sve\". Every threshold is a "
      "size in bytes, or None for never. prefetch_distance: bytes that a copy past the caches prefetches ahead. "
      "detect() is the plan for this machine, replace() changes one; MemcpyStrategy(plan) carries it out.");
  plan.def(py::init(&make_plan), "instruction_set"_a, py::kw_only(), "string_from"_a = py::none(),
           "stream_from"_a = py::none(), "stream_hint_from"_a = py::none(), "prefetch_distance"_a = 0,
           "fill_string_from"_a = py::none(), "fill_stream_from"_a = py::none(), "thread_bytes"_a = py::none())
      .def_static("detect", &CopyPlan::detect, "The plan for this machine, from its features and sysfs caches.")
      .def_static("for_machine", &CopyPlan::for_machine, "features"_a,
                  "The plan for the machine that a vm_core.CpuFeatures describes; this one need not be like it.")
      .def("replace", &replace, "The same plan with other values, given as keyword arguments of the class.")
      .def(
          "method",
          [](const CopyPlan& self, Unsigned size, const py::object& hint) {
            return name(self.method(static_cast<std::size_t>(size.value), streaming_from(hint.ptr())));
          },
          "size"_a, "hint"_a = py::none(),
          "How a copy of so many bytes is done: \"small\" (no loop), \"vector\", \"string\" or \"stream\".")
      .def_property_readonly(
          "instruction_set", [](const CopyPlan& self) { return name(self.instruction_set); },
          "Whose loads and stores are used.")
      .def_property_readonly(
          "prefetch_distance", [](const CopyPlan& self) { return self.prefetch_distance; },
          "Bytes that a copy past the caches prefetches ahead; 0: none.");
  for (const Named& threshold : thresholds) {
    plan.def_property_readonly(
        threshold.name, [member = threshold.member](const CopyPlan& self) { return threshold_to(self.*member); },
        threshold.doc);
  }
  add_keyword_config<CopyPlan>(plan, "CopyPlan", plan_arguments);
}

}  // namespace

bool streaming_from(PyObject* hint) {
  if (hint == Py_None) return false;
  if (PyUnicode_Check(hint) != 0 && PyUnicode_CompareWithASCIIString(hint, "stream") == 0) return true;
  throw vm::InvalidConfig("hint is " + py::repr(hint).cast<std::string>() + "; it is \"stream\" or None");
}

void CopyArguments::set(PyObject* keyword, PyObject* value, const char* function) {
  if (PyUnicode_CompareWithASCIIString(keyword, "threads") == 0) {
    const long threads = PyLong_AsLong(value);
    if (threads == -1 && PyErr_Occurred()) throw py::error_already_set();
    if (threads < 0 || threads > 4096)
      throw vm::InvalidConfig("threads is " + std::to_string(threads) +
                              "; 0 means one per CPU, at most 4096 are possible");
    options.threads = static_cast<unsigned>(threads);
  } else if (PyUnicode_CompareWithASCIIString(keyword, "hint") == 0) {
    options.streaming = streaming_from(value);
  } else if (PyUnicode_CompareWithASCIIString(keyword, "strategy") == 0) {
    if (value == Py_None) return;
    if (!py::isinstance<MemcpyStrategy>(value))
      throw py::type_error("strategy is " + py::repr(value).cast<std::string>() + "; it is a MemcpyStrategy or None");
    strategy = &py::handle(value).cast<const MemcpyStrategy&>();
  } else {
    throw py::type_error(std::string(function) + "() got an unexpected keyword argument " +
                         py::repr(keyword).cast<std::string>());
  }
}

void bind_simd_plan(py::module_& module) {
  bind_plan(module);
  py::class_<MemcpyStrategy>(module, "MemcpyStrategy",
                             "A CopyPlan bound to the kernels that carry it out. Immutable, for any thread.\n\n"
                             "NotSupported when this machine or build lacks what the plan needs.")
      .def(py::init<const CopyPlan&>(), "plan"_a)
      .def_static("detect", &MemcpyStrategy::detect, "The strategy for this machine.")
      .def_property_readonly("plan", &MemcpyStrategy::plan, "The CopyPlan.", py::return_value_policy::copy)
      .def("__repr__", [](const MemcpyStrategy& self) {
        return "MemcpyStrategy(" + keyword_repr<CopyPlan>("CopyPlan", plan_arguments, self.plan()) + ")";
      });
  module.def("instruction_sets", &instruction_sets,
             "Every instruction set with kernels, by name, and why it cannot be used here: empty when it can.");
  module.def("has_avx512", &has_avx512, "Whether the AVX-512 kernels run on this machine.");
  module.def("has_avx2", &has_avx2, "Whether the AVX2 kernels run on this machine.");
  module.def("has_neon", &has_neon, "Whether the NEON kernels run on this machine.");
  module.def("simd_feature_name", &simd_feature_name,
             "The instruction set that copies use here, in words: \"AVX-512 (512-bit)\".");
}
