#include "paging_config.hpp"

#include <pybind11/operators.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "vm/core/error.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using namespace vm::mem::paging;

namespace {

RiscVMode mode_from(const std::string& name) {
  if (name == "sv32") return RiscVMode::sv32;
  if (name == "sv39") return RiscVMode::sv39;
  if (name == "sv48") return RiscVMode::sv48;
  if (name == "sv57") return RiscVMode::sv57;
  throw vm::InvalidConfig("RISC-V mode is '" + name + "'; 'sv32', 'sv39', 'sv48' and 'sv57' exist");
}

const char* name_of(RiscVMode mode) {
  switch (mode) {
    case RiscVMode::sv32: return "sv32";
    case RiscVMode::sv39: return "sv39";
    case RiscVMode::sv48: return "sv48";
    case RiscVMode::sv57: return "sv57";
  }
  return "?";
}

// The keyword arguments that make an equal object: the base of repr, comparison and pickling.
py::dict arguments(const X86Config& c) {
  return py::dict("levels"_a = c.levels, "root"_a = c.root, "write_protect"_a = c.write_protect,
                  "no_execute"_a = c.no_execute, "smep"_a = c.smep, "smap"_a = c.smap, "ac"_a = c.ac, "pse"_a = c.pse,
                  "gigabyte_pages"_a = c.gigabyte_pages, "protection_keys"_a = c.protection_keys, "pkru"_a = c.pkru,
                  "supervisor_keys"_a = c.supervisor_keys, "pkrs"_a = c.pkrs, "physical_bits"_a = c.physical_bits,
                  "global_pages"_a = c.global_pages);
}
py::dict arguments(const RiscVConfig& c) {
  return py::dict("mode"_a = name_of(c.mode), "root"_a = c.root, "sum"_a = c.sum, "mxr"_a = c.mxr,
                  "svnapot"_a = c.svnapot, "svpbmt"_a = c.svpbmt, "svadu"_a = c.svadu);
}
py::dict arguments(const AArch64Config& c) {
  return py::dict("granule"_a = c.granule, "ttbr0"_a = c.ttbr0, "ttbr1"_a = c.ttbr1, "tcr"_a = c.tcr, "wxn"_a = c.wxn,
                  "pan"_a = c.pan, "physical_bits"_a = c.physical_bits);
}

bool is_register(const std::string& name) {
  return name == "root" || name == "tcr" || name == "ttbr0" || name == "ttbr1" || name == "pkru" || name == "pkrs";
}

template <class Config>
std::string repr(const char* type, const Config& config) {
  std::string text = std::string(type) + "(";
  bool first = true;
  const py::dict fields = arguments(config);
  for (const std::pair<py::handle, py::handle> item : fields) {
    const auto name = item.first.cast<std::string>();
    if (!first) text += ", ";
    first = false;
    text += name + "=";
    text += is_register(name) ? vm::hex(item.second.cast<std::uint64_t>()) : py::repr(item.second).cast<std::string>();
  }
  return text + ")";
}

template <class Config>
void add_common(py::class_<Config>& type, const char* name) {
  type.def("__repr__", [name](const Config& self) { return repr(name, self); })
      .def("__str__", [](const Config& self) { return describe(self); })
      .def(
          "__eq__", [](const Config& a, const Config& b) { return arguments(a).equal(arguments(b)); },
          py::is_operator())
      .def("__hash__", [name](const Config& self) { return py::hash(py::str(repr(name, self))); })
      .def("__reduce__", [](const py::object& self) {
        const py::object partial = py::module_::import("functools").attr("partial");
        return py::make_tuple(partial(py::type::of(self), **arguments(self.cast<const Config&>())), py::tuple());
      });
}

template <class Config>
Config checked(Config config) {
  validate(config);
  return config;
}

void bind_x86(py::module_& module) {
  py::class_<X86Config> type(module, "X86",
                             "x86 paging (Intel SDM vol. 3, chapter 4). Immutable.\n\n"
                             "levels: 2 is 32-bit paging with PSE-36, 3 PAE, 4 and 5 (LA57) the long modes. root: "
                             "physical address of the top table. The other arguments are the bits that take part in "
                             "the checks: CR0.WP, EFER.NXE, CR4.SMEP, CR4.SMAP with EFLAGS.AC, CR4.PSE, 1 GiB pages, "
                             "CR4.PKE with PKRU, CR4.PKS with IA32_PKRS, and MAXPHYADDR (entry bits above it are "
                             "reserved). CR4.PGE (global_pages) matters to TLBs only. Raises InvalidConfig for what no "
                             "processor can be set to.");
  type.def(py::init([](int levels, std::uint64_t root, bool write_protect, bool no_execute, bool smep, bool smap,
                       bool ac, bool pse, bool gigabyte_pages, bool protection_keys, std::uint32_t pkru,
                       bool supervisor_keys, std::uint32_t pkrs, int physical_bits, bool global_pages) {
             return checked(X86Config{levels, root, write_protect, no_execute, smep, smap, ac, pse, gigabyte_pages,
                                      protection_keys, pkru, supervisor_keys, pkrs, physical_bits, global_pages});
           }),
           "levels"_a = 4, "root"_a = 0, py::kw_only(), "write_protect"_a = true, "no_execute"_a = true,
           "smep"_a = false, "smap"_a = false, "ac"_a = false, "pse"_a = true, "gigabyte_pages"_a = true,
           "protection_keys"_a = false, "pkru"_a = 0, "supervisor_keys"_a = false, "pkrs"_a = 0, "physical_bits"_a = 52,
           "global_pages"_a = true)
      .def_static(
          "from_registers",
          [](std::uint64_t cr0, std::uint64_t cr3, std::uint64_t cr4, std::uint64_t efer, bool ac, std::uint32_t pkru,
             std::uint32_t pkrs, int physical_bits) {
            X86Config config = X86Config::from_registers(cr0, cr3, cr4, efer);
            config.ac = ac;
            config.pkru = pkru;
            config.pkrs = pkrs;
            config.physical_bits = physical_bits;
            return checked(config);
          },
          py::kw_only(), "cr0"_a, "cr3"_a, "cr4"_a, "efer"_a, "ac"_a = false, "pkru"_a = 0, "pkrs"_a = 0,
          "physical_bits"_a = 52,
          "The mode, root and checks that these control registers select. Raises InvalidConfig when paging is off.")
      .def_readonly("levels", &X86Config::levels)
      .def_readonly("root", &X86Config::root)
      .def_readonly("write_protect", &X86Config::write_protect)
      .def_readonly("no_execute", &X86Config::no_execute)
      .def_readonly("smep", &X86Config::smep)
      .def_readonly("smap", &X86Config::smap)
      .def_readonly("ac", &X86Config::ac)
      .def_readonly("pse", &X86Config::pse)
      .def_readonly("gigabyte_pages", &X86Config::gigabyte_pages)
      .def_readonly("protection_keys", &X86Config::protection_keys)
      .def_readonly("pkru", &X86Config::pkru)
      .def_readonly("supervisor_keys", &X86Config::supervisor_keys)
      .def_readonly("pkrs", &X86Config::pkrs)
      .def_readonly("physical_bits", &X86Config::physical_bits)
      .def_readonly("global_pages", &X86Config::global_pages);
  add_common(type, "X86");
}

void bind_riscv(py::module_& module) {
  py::class_<RiscVConfig> type(module, "RiscV",
                               "RISC-V paging (Privileged Architecture, Sv32 to Sv57). Immutable.\n\n"
                               "mode: 'sv32', 'sv39', 'sv48' or 'sv57'. root: physical address of the top table. sum "
                               "and mxr are the bits of sstatus. svnapot and svpbmt: extensions that give the top "
                               "entry bits a meaning; without them those bits are reserved. svadu: hardware sets A and "
                               "D; without it a clear bit faults (Svade).");
  type.def(py::init([](const std::string& mode, std::uint64_t root, bool sum, bool mxr, bool svnapot, bool svpbmt,
                       bool svadu) {
             return checked(RiscVConfig{mode_from(mode), root, sum, mxr, svnapot, svpbmt, svadu});
           }),
           "mode"_a = "sv39", "root"_a = 0, py::kw_only(), "sum"_a = false, "mxr"_a = false, "svnapot"_a = true,
           "svpbmt"_a = true, "svadu"_a = false)
      .def_static(
          "from_satp",
          [](std::uint64_t satp, int xlen, bool sum, bool mxr, bool svnapot, bool svpbmt, bool svadu) {
            RiscVConfig config = RiscVConfig::from_satp(satp, xlen);
            config.sum = sum;
            config.mxr = mxr;
            config.svnapot = svnapot;
            config.svpbmt = svpbmt;
            config.svadu = svadu;
            return checked(config);
          },
          "satp"_a, "xlen"_a = 64, py::kw_only(), "sum"_a = false, "mxr"_a = false, "svnapot"_a = true,
          "svpbmt"_a = true, "svadu"_a = false,
          "The mode and root that satp holds. Raises InvalidConfig for Bare and reserved modes.")
      .def_property_readonly("mode", [](const RiscVConfig& self) { return name_of(self.mode); })
      .def_readonly("root", &RiscVConfig::root)
      .def_readonly("sum", &RiscVConfig::sum)
      .def_readonly("mxr", &RiscVConfig::mxr)
      .def_readonly("svnapot", &RiscVConfig::svnapot)
      .def_readonly("svpbmt", &RiscVConfig::svpbmt)
      .def_readonly("svadu", &RiscVConfig::svadu);
  add_common(type, "RiscV");
}

void bind_aarch64(py::module_& module) {
  py::class_<AArch64Config> type(
      module, "AArch64",
      "AArch64 stage 1 paging of EL1&0 (Arm ARM, chapter D8). Immutable.\n\n"
      "granule: 4096, 16384 or 65536; without it, what TCR_EL1 says, and without that 4096. ttbr0, ttbr1: the "
      "registers; "
      "ASID and CnP are ignored. tcr: TCR_EL1; without it 48-bit halves with 48-bit output. wxn: SCTLR_EL1.WXN. pan: "
      "PSTATE.PAN. physical_bits: ID_AA64MMFR0_EL1.PARange. Raises InvalidConfig for reserved values and for a granule "
      "that contradicts tcr, NotSupported for different granules in the two halves.");
  type.def(py::init([](std::optional<std::uint64_t> granule, std::uint64_t ttbr0, std::uint64_t ttbr1,
                       std::optional<std::uint64_t> tcr, bool wxn, bool pan, int physical_bits) {
             AArch64Config config;
             if (!granule) granule = tcr ? AArch64Config::granule_of(*tcr) : 4096;
             config.granule = *granule;
             config.tcr = tcr ? *tcr : AArch64Config::default_tcr(*granule);
             config.ttbr0 = ttbr0;
             config.ttbr1 = ttbr1;
             config.wxn = wxn;
             config.pan = pan;
             config.physical_bits = physical_bits;
             return checked(config);
           }),
           "granule"_a = py::none(), py::kw_only(), "ttbr0"_a = 0, "ttbr1"_a = 0, "tcr"_a = py::none(), "wxn"_a = false,
           "pan"_a = false, "physical_bits"_a = 52)
      .def_readonly("granule", &AArch64Config::granule)
      .def_readonly("ttbr0", &AArch64Config::ttbr0)
      .def_readonly("ttbr1", &AArch64Config::ttbr1)
      .def_readonly("tcr", &AArch64Config::tcr)
      .def_readonly("wxn", &AArch64Config::wxn)
      .def_readonly("pan", &AArch64Config::pan)
      .def_readonly("physical_bits", &AArch64Config::physical_bits);
  add_common(type, "AArch64");
}

}  // namespace

PagingConfig paging_config_from(const py::object& object) {
  if (py::isinstance<X86Config>(object)) return object.cast<X86Config>();
  if (py::isinstance<RiscVConfig>(object)) return object.cast<RiscVConfig>();
  if (py::isinstance<AArch64Config>(object)) return object.cast<AArch64Config>();
  throw py::type_error("config must be X86, RiscV or AArch64, not " +
                       py::str(py::type::of(object).attr("__name__")).cast<std::string>());
}

py::object paging_config_to_python(const PagingConfig& config) {
  return std::visit([](const auto& c) { return py::cast(c); }, config);
}

std::optional<TableRange> tables_from(const py::object& tables) {
  if (tables.is_none()) return std::nullopt;
  const auto start = tables.attr("start").cast<std::uint64_t>();
  const auto stop = tables.attr("stop").cast<std::uint64_t>();
  if (tables.attr("step").cast<std::int64_t>() != 1 || stop <= start)
    throw vm::InvalidConfig("tables is " + py::repr(tables).cast<std::string>() +
                            "; it must be a range of physical addresses, range(first, beyond_last)");
  return TableRange{start, stop - 1};
}

py::object tables_to_python(const std::optional<TableRange>& tables) {
  if (!tables) return py::none();
  return py::module_::import("builtins").attr("range")(tables->first, py::int_(tables->last) + py::int_(1));
}

void bind_paging_config(py::module_& module) {
  bind_x86(module);
  bind_riscv(module);
  bind_aarch64(module);
}
