// CpuFeatures and Cache: one `has_...` property for each feature, and the same as a list of names.

#include "vm/core/cpu_features.hpp"

#include <pybind11/stl.h>

#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "cache.hpp"
#include "vm/core/error.hpp"

namespace py = pybind11;
using vm::Cache;
using vm::CpuFeature;
using vm::CpuFeatures;
using vm::CpuFeatureSet;
using vm::CpuidRegisters;

using py::literals::operator""_a;

py::dict cache_as_dict(const Cache& cache) {
  return py::dict("level"_a = cache.level, "type"_a = to_string(cache.type), "size"_a = cache.size,
                  "line_size"_a = cache.line_size, "ways"_a = cache.ways, "cpus"_a = cache.cpus);
}

namespace {

CpuFeature feature_at(std::size_t index) { return static_cast<CpuFeature>(index); }

std::vector<std::string_view> names_of(const CpuFeatureSet& set) {
  std::vector<std::string_view> names;
  for (std::size_t i = 0; i < vm::cpu_feature_count; ++i) {
    if (set[i]) names.push_back(name(feature_at(i)));
  }
  return names;
}

CpuFeature find_feature(std::string_view name) {
  if (const std::optional<CpuFeature> feature = vm::find_cpu_feature(name)) return *feature;
  throw vm::InvalidConfig("no processor feature is called '" + std::string(name) +
                          "'; vm_core.cpu_features.FEATURES lists them");
}

py::object text_or_none(const std::string& text) { return text.empty() ? py::object(py::none()) : py::str(text); }

using CpuidTable = std::map<std::pair<std::uint32_t, std::uint32_t>, std::array<std::uint32_t, 4>>;

CpuFeatures from_cpuid(const CpuidTable& leaves, std::uint64_t xcr0) {
  return vm::decode_cpuid({[&leaves](std::uint32_t leaf, std::uint32_t subleaf) -> CpuidRegisters {
                             const auto found = leaves.find({leaf, subleaf});
                             if (found == leaves.end()) return {};
                             const auto& [eax, ebx, ecx, edx] = found->second;
                             return {eax, ebx, ecx, edx};
                           },
                           [xcr0] { return xcr0; }});
}

std::string cache_text(const Cache& cache) {
  return "<Cache level " + std::to_string(cache.level) + " " + to_string(cache.type) + ", " +
         std::to_string(cache.size) + " bytes, CPUs " + vm::cpu_list(cache.cpus) + ">";
}

py::dict as_dict(const CpuFeatures& self) {
  py::list caches;
  for (const Cache& cache : self.caches) caches.append(cache_as_dict(cache));
  return py::dict("architecture"_a = to_string(self.architecture), "vendor"_a = self.vendor, "brand"_a = self.brand,
                  "family"_a = self.family, "model"_a = self.model, "stepping"_a = self.stepping,
                  "hypervisor"_a = text_or_none(self.hypervisor), "physical_bits"_a = self.physical_bits,
                  "virtual_bits"_a = self.virtual_bits, "sve_vector_bytes"_a = self.sve_vector_bytes,
                  "names"_a = names_of(self.usable), "disabled"_a = names_of(self.disabled),
                  "unknown"_a = names_of(self.unknown), "caches"_a = caches);
}

std::string text(const CpuFeatures& self) {
  std::string words = "<CpuFeatures " + to_string(self.architecture);
  if (!self.brand.empty()) words += ", '" + self.brand + "'";
  if (!self.hypervisor.empty()) words += ", under " + self.hypervisor;
  return words + ", " + std::to_string(self.usable.count()) + " features>";
}

void bind_cache(py::module_& module) {
  py::class_<Cache>(module, "Cache", "One processor cache. Sizes are in bytes; 0 where the system does not say.")
      .def_readonly("level", &Cache::level, "1 is nearest to the core.")
      .def_property_readonly(
          "type", [](const Cache& self) { return to_string(self.type); }, "'unified', 'data' or 'instruction'.")
      .def_readonly("size", &Cache::size, "Bytes.")
      .def_readonly("line_size", &Cache::line_size, "Bytes; 0 when not known.")
      .def_readonly("ways", &Cache::ways, "Associativity; 0 when not known.")
      .def_readonly("cpus", &Cache::cpus, "The CPUs that share it, ascending.")
      .def("as_dict", &cache_as_dict, "The fields as a dict.")
      .def("__repr__", &cache_text);
}

using FeaturesClass = py::class_<CpuFeatures>;

void bind_makers(FeaturesClass& type) {
  type.def_static("detect", &CpuFeatures::detect, py::call_guard<py::gil_scoped_release>(),
                  "Ask this machine. Costs up to a millisecond: keep the answer.\n\n"
                  "InvalidConfig when sysfs holds a cache description that is not one.")
      .def_static(
          "from_cpuid", &from_cpuid, py::arg("leaves"), py::kw_only(), py::arg("xcr0") = 0,
          "Decode recorded x86 CPUID leaves, for instance those of a guest.\n\n"
          "``leaves`` maps (leaf, subleaf) to (eax, ebx, ecx, edx); what is not there counts as zeros. ``xcr0`` "
          "says which registers the operating system saves. ``caches`` stays empty.")
      .def_static(
          "from_hwcaps",
          [](std::uint64_t hwcap, std::uint64_t hwcap2, std::optional<std::uint32_t> sve_vector_bytes,
             std::optional<std::uint64_t> midr, std::optional<std::vector<std::string>> event_sources) {
            return vm::decode_arm({hwcap, hwcap2, sve_vector_bytes, midr, std::move(event_sources)});
          },
          py::arg("hwcap"), py::arg("hwcap2") = 0, py::kw_only(), py::arg("sve_vector_bytes") = py::none(),
          py::arg("midr") = py::none(), py::arg("event_sources") = py::none(),
          "Decode the capability words that Linux gives to AArch64 programs.\n\n"
          "``event_sources`` are the names in /sys/bus/event_source/devices, which tell of PMU and SPE; without them "
          "both are ``unknown``. ``caches`` stays empty.");
}

void bind_identity(FeaturesClass& type) {
  type.def_property_readonly(
          "architecture", [](const CpuFeatures& self) { return to_string(self.architecture); },
          "'x86_64', 'aarch64' or 'other'.")
      .def_readonly("vendor", &CpuFeatures::vendor, "'GenuineIntel', 'Arm', ...; empty when not known.")
      .def_readonly("brand", &CpuFeatures::brand, "The processor's own name; empty when it has none.")
      .def_readonly("family", &CpuFeatures::family, "Display family on x86, else None.")
      .def_readonly("model", &CpuFeatures::model, "Display model on x86, part number on AArch64, or None.")
      .def_readonly("stepping", &CpuFeatures::stepping, "Stepping on x86, revision on AArch64, or None.")
      .def_property_readonly(
          "hypervisor", [](const CpuFeatures& self) { return text_or_none(self.hypervisor); },
          "Who runs this machine as a guest ('KVM', 'Hyper-V', ...), or None when none shows.")
      .def_readonly("physical_bits", &CpuFeatures::physical_bits, "Width of physical addresses, or None.")
      .def_readonly("virtual_bits", &CpuFeatures::virtual_bits, "Width of virtual addresses, or None.")
      .def_readonly("sve_vector_bytes", &CpuFeatures::sve_vector_bytes, "Bytes in an SVE vector, or None without SVE.")
      .def_readonly("caches", &CpuFeatures::caches,
                    "Caches of the first CPU that this thread may run on, by level and type.")
      .def("cache_bytes", &CpuFeatures::cache_bytes, py::arg("level"),
           "Bytes of the data or unified cache at ``level``; 0 when not known.");
}

void bind_features(FeaturesClass& type) {
  type.def_property_readonly(
          "names", [](const CpuFeatures& self) { return names_of(self.usable); },
          "What a program can use: the processor has it and the operating system supports it.")
      .def_property_readonly(
          "disabled", [](const CpuFeatures& self) { return names_of(self.disabled); },
          "What the processor has but the operating system does not support.")
      .def_property_readonly(
          "unknown", [](const CpuFeatures& self) { return names_of(self.unknown); },
          "What a program on this system cannot find out; ``has_...`` is False for it.")
      .def(
          "has", [](const CpuFeatures& self, std::string_view name) { return self.has(find_feature(name)); },
          py::arg("name"), "Whether the feature can be used; InvalidConfig when no feature has that name.")
      .def("__iter__", [](const CpuFeatures& self) { return py::iter(py::cast(names_of(self.usable))); })
      .def("__len__", [](const CpuFeatures& self) { return self.usable.count(); })
      .def(
          "__contains__",
          [](const CpuFeatures& self, std::string_view name) {
            const std::optional<CpuFeature> feature = vm::find_cpu_feature(name);
            return feature && self.has(*feature);
          },
          py::arg("name"))
      .def(
          "__contains__", [](const CpuFeatures&, const py::object&) { return false; }, py::arg("name"))
      .def("as_dict", &as_dict, "Everything as a dict that ``json`` accepts.")
      .def("__repr__", &text);
  for (std::size_t i = 0; i < vm::cpu_feature_count; ++i) {
    const CpuFeature feature = feature_at(i);
    type.def_property_readonly(("has_" + std::string(name(feature))).c_str(),
                               [feature](const CpuFeatures& self) { return self.has(feature); },
                               std::string(describe(feature)).c_str());
  }
}

}  // namespace

void bind_cpu_features(py::module_& module) {
  bind_cache(module);
  FeaturesClass type(module, "CpuFeatures",
                     "What the processor of this machine can do for a program.\n\n"
                     "Iterates over the names of the usable features; each is also a property.\n\n"
                     ">>> features = CpuFeatures.detect()\n"
                     ">>> features.has_avx512f == ('avx512f' in features)\n"
                     "True");
  bind_makers(type);
  bind_identity(type);
  bind_features(type);
  py::dict descriptions;
  for (std::size_t i = 0; i < vm::cpu_feature_count; ++i) {
    descriptions[py::str(name(feature_at(i)))] = py::str(describe(feature_at(i)));
  }
  module.attr("FEATURES") = descriptions;
}
