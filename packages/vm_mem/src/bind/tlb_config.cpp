#include "tlb_config.hpp"

#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "keyword_config.hpp"
#include "vm/core/error.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using namespace vm::mem::tlb;

namespace {

// The value of an enum whose name is `name`.
template <class Enum, std::size_t count>
Enum named(const char* what, const std::string& name, const Enum (&values)[count]) {
  std::string known;
  for (const Enum value : values) {
    if (name == to_string(value)) return value;
    known += (known.empty() ? "'" : "', '") + std::string(to_string(value));
  }
  throw vm::InvalidConfig(std::string(what) + " is '" + name + "'; " + known + "' exist");
}

Replacement replacement_from(const std::string& name) {
  return named("replacement", name, {Replacement::lru, Replacement::tree_plru, Replacement::fifo, Replacement::random});
}

py::dict arguments(const ArrayConfig& c) {
  py::list sizes;
  for (const std::uint8_t size : c.page_sizes) sizes.append(std::uint64_t{1} << size);
  return py::dict("sets"_a = c.sets, "ways"_a = c.ways, "replacement"_a = to_string(c.replacement),
                  "page_sizes"_a = py::tuple(sizes));
}

py::dict arguments(const LevelConfig& c) { return py::dict("arrays"_a = py::tuple(py::cast(c.arrays))); }

py::dict arguments(const TlbConfig& c) {
  return py::dict("strategy"_a = to_string(c.strategy), "l1_size"_a = c.l1_size, "l2_size"_a = c.l2_size,
                  "l3_size"_a = c.l3_size, "l1_ways"_a = c.l1_ways, "l2_ways"_a = c.l2_ways, "l3_ways"_a = c.l3_ways,
                  "replacement"_a = to_string(c.replacement), "inclusion"_a = to_string(c.inclusion),
                  "levels"_a = py::tuple(py::cast(c.levels)), "flush_policy"_a = to_string(c.flush_policy),
                  "flush_batch"_a = c.flush_batch, "flush_delay_ns"_a = c.flush_delay_ns,
                  "enable_prefetch"_a = c.enable_prefetch, "enable_prediction"_a = c.enable_prediction,
                  "prefetch_distance"_a = c.prefetch_distance, "seed"_a = c.seed);
}

// A `Config`, or a dictionary of its keyword arguments as `as_dict` gives it.
template <class Config>
Config config_from(const py::handle& object) {
  if (py::isinstance<py::dict>(object))
    return py::type::of<Config>()(**py::reinterpret_borrow<py::dict>(object)).template cast<Config>();
  return object.cast<Config>();
}

template <class Config>
std::vector<Config> configs_from(const py::iterable& objects) {
  std::vector<Config> configs;
  for (const py::handle object : objects) configs.push_back(config_from<Config>(object));
  return configs;
}

py::dict as_dict(const LevelConfig& level) {
  py::list arrays;
  for (const ArrayConfig& array : level.arrays) arrays.append(arguments(array));
  return py::dict("arrays"_a = arrays);
}

py::dict as_dict(const TlbConfig& config) {
  py::dict result = arguments(config);
  py::list levels;
  for (const LevelConfig& level : config.levels) levels.append(as_dict(level));
  result["levels"] = levels;
  return result;
}

void bind_array(py::module_& module) {
  py::class_<ArrayConfig> type(
      module, "ArrayConfig",
      "sets x ways of translations for some page sizes. Immutable.\n\n"
      "No number has to be a power of two. replacement: 'lru', 'tree_plru' (a binary tree of bits over any number of "
      "ways), 'fifo' or 'random'. page_sizes: bytes; empty is every size that no other array of the level names.");
  type.def(py::init([](Unsigned sets, Unsigned ways, const std::string& replacement, const py::iterable& page_sizes) {
             ArrayConfig c{narrow<std::uint32_t>(sets, "sets"),
                           narrow<std::uint32_t>(ways, "ways"),
                           replacement_from(replacement),
                           {}};
             for (const py::handle size : page_sizes)
               c.page_sizes.push_back(page_size_log2(size.cast<Unsigned>().value));
             return c;
           }),
           "sets"_a = Unsigned{64}, "ways"_a = Unsigned{4}, "replacement"_a = "lru", "page_sizes"_a = py::tuple())
      .def_readonly("sets", &ArrayConfig::sets)
      .def_readonly("ways", &ArrayConfig::ways)
      .def_property_readonly("replacement", [](const ArrayConfig& self) { return to_string(self.replacement); })
      .def_property_readonly("page_sizes",
                             [](const ArrayConfig& self) { return py::object(arguments(self)["page_sizes"]); })
      .def_property_readonly("entries", &ArrayConfig::entries, "sets times ways.")
      .def("as_dict", py::overload_cast<const ArrayConfig&>(&arguments),
           "The keyword arguments that make an equal object, as plain values.");
  add_keyword_config<ArrayConfig>(type, "ArrayConfig", &arguments);
}

void bind_level(py::module_& module) {
  py::class_<LevelConfig> type(module, "LevelConfig",
                               "One level of a hierarchy: one array for all page sizes, or several, split by size. "
                               "Immutable.\n\narrays: ArrayConfig objects, or dictionaries of their arguments.");
  type.def(py::init([](const py::iterable& arrays) { return LevelConfig{configs_from<ArrayConfig>(arrays)}; }),
           "arrays"_a)
      .def_property_readonly("arrays", [](const LevelConfig& self) { return py::object(arguments(self)["arrays"]); })
      .def("as_dict", py::overload_cast<const LevelConfig&>(&as_dict),
           "The keyword arguments that make an equal object, as plain values.");
  add_keyword_config<LevelConfig>(type, "LevelConfig", &arguments);
}

TlbConfig make(const std::string& strategy, Unsigned l1_size, Unsigned l2_size, Unsigned l3_size, Unsigned l1_ways,
               Unsigned l2_ways, Unsigned l3_ways, const std::string& replacement, const std::string& inclusion,
               const py::iterable& levels, const std::string& flush_policy, Unsigned flush_batch,
               Unsigned flush_delay_ns, bool enable_prefetch, bool enable_prediction, Unsigned prefetch_distance,
               Unsigned seed) {
  TlbConfig c;
  c.strategy = named("strategy", strategy, {Strategy::multi_level, Strategy::concurrent, Strategy::hybrid});
  c.l1_size = narrow<std::uint32_t>(l1_size, "l1_size");
  c.l2_size = narrow<std::uint32_t>(l2_size, "l2_size");
  c.l3_size = narrow<std::uint32_t>(l3_size, "l3_size");
  c.l1_ways = narrow<std::uint32_t>(l1_ways, "l1_ways");
  c.l2_ways = narrow<std::uint32_t>(l2_ways, "l2_ways");
  c.l3_ways = narrow<std::uint32_t>(l3_ways, "l3_ways");
  c.replacement = replacement_from(replacement);
  c.inclusion = named("inclusion", inclusion, {Inclusion::inclusive, Inclusion::exclusive});
  c.levels = configs_from<LevelConfig>(levels);
  c.flush_policy = named("flush_policy", flush_policy,
                         {FlushPolicy::immediate, FlushPolicy::delayed, FlushPolicy::batched, FlushPolicy::intelligent,
                          FlushPolicy::adaptive});
  c.flush_batch = narrow<std::uint32_t>(flush_batch, "flush_batch");
  c.flush_delay_ns = flush_delay_ns.value;
  c.enable_prefetch = enable_prefetch;
  c.enable_prediction = enable_prediction;
  c.prefetch_distance = narrow<std::uint32_t>(prefetch_distance, "prefetch_distance");
  c.seed = seed.value;
  validate(c);
  return c;
}

void bind_config(py::module_& module) {
  const TlbConfig d;
  py::class_<TlbConfig> type(
      module, "TlbConfig",
      "The shape of a TLB and its policies. Immutable; sizes are entries, an l2_size or l3_size of 0 is no such "
      "level.\n\n"
      "strategy: 'multi_level' (L1, L2, L3 for one thread at a time), 'concurrent' (one shared TLB whose readers take "
      "no lock) or 'hybrid' (a private first level per thread over a shared one). levels: LevelConfig objects, or "
      "dictionaries of their arguments, instead of the sizes and ways; 'multi_level' only. replacement: 'lru', "
      "'tree_plru', 'fifo' or 'random'; 'multi_level' only, the others replace in turn within a set and take no other "
      "value than the default. inclusion: 'inclusive' (what a level holds, later ones hold too) or 'exclusive' (what "
      "leaves a level moves to the next). flush_policy: "
      "'immediate', 'delayed' (flush_delay_ns), 'batched' (flush_batch), 'intelligent' or 'adaptive'. seed is of "
      "'random' replacement.\n\n"
      "Raises InvalidConfig naming the number that is out of its range.");
  type.def(py::init(&make), "strategy"_a = to_string(d.strategy), py::kw_only(), "l1_size"_a = Unsigned{d.l1_size},
           "l2_size"_a = Unsigned{d.l2_size}, "l3_size"_a = Unsigned{d.l3_size}, "l1_ways"_a = Unsigned{d.l1_ways},
           "l2_ways"_a = Unsigned{d.l2_ways}, "l3_ways"_a = Unsigned{d.l3_ways},
           "replacement"_a = to_string(d.replacement), "inclusion"_a = to_string(d.inclusion), "levels"_a = py::tuple(),
           "flush_policy"_a = to_string(d.flush_policy), "flush_batch"_a = Unsigned{d.flush_batch},
           "flush_delay_ns"_a = Unsigned{d.flush_delay_ns}, "enable_prefetch"_a = d.enable_prefetch,
           "enable_prediction"_a = d.enable_prediction, "prefetch_distance"_a = Unsigned{d.prefetch_distance},
           "seed"_a = Unsigned{d.seed})
      .def_property_readonly("strategy", [](const TlbConfig& self) { return to_string(self.strategy); })
      .def_readonly("l1_size", &TlbConfig::l1_size)
      .def_readonly("l2_size", &TlbConfig::l2_size)
      .def_readonly("l3_size", &TlbConfig::l3_size)
      .def_readonly("l1_ways", &TlbConfig::l1_ways)
      .def_readonly("l2_ways", &TlbConfig::l2_ways)
      .def_readonly("l3_ways", &TlbConfig::l3_ways)
      .def_property_readonly("replacement", [](const TlbConfig& self) { return to_string(self.replacement); })
      .def_property_readonly("inclusion", [](const TlbConfig& self) { return to_string(self.inclusion); })
      .def_property_readonly("levels", [](const TlbConfig& self) { return py::object(arguments(self)["levels"]); })
      .def_property_readonly("flush_policy", [](const TlbConfig& self) { return to_string(self.flush_policy); })
      .def_readonly("flush_batch", &TlbConfig::flush_batch)
      .def_readonly("flush_delay_ns", &TlbConfig::flush_delay_ns)
      .def_readonly("enable_prefetch", &TlbConfig::enable_prefetch)
      .def_readonly("enable_prediction", &TlbConfig::enable_prediction)
      .def_readonly("prefetch_distance", &TlbConfig::prefetch_distance)
      .def_readonly("seed", &TlbConfig::seed)
      .def("as_dict", py::overload_cast<const TlbConfig&>(&as_dict),
           "The keyword arguments that make an equal object, as plain values:\n"
           "``TlbConfig(**config.as_dict()) == config``.");
  add_keyword_config<TlbConfig>(type, "TlbConfig", &arguments);
}

}  // namespace

std::uint8_t page_size_log2(std::uint64_t bytes) {
  for (unsigned size = smallest_page_log2; size <= largest_page_log2; ++size)
    if (bytes == std::uint64_t{1} << size) return static_cast<std::uint8_t>(size);
  throw vm::InvalidConfig("a page size is " + std::to_string(bytes) +
                          "; pages have a power of two of bytes, from 4096 to 2**" + std::to_string(largest_page_log2));
}

void bind_tlb_config(py::module_& module) {
  bind_array(module);
  bind_level(module);
  bind_config(module);
}
