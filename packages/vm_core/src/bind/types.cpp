// Enumerations as Python's own enum types, and the alignment helpers with their arguments checked.

#include <pybind11/native_enum.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>

#include "bind.hpp"
#include "vm/core/access.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/core/fault.hpp"

namespace py = pybind11;

namespace {

void bind_access(py::module_& module) {
  py::native_enum<vm::Access>(module, "Access", "enum.IntFlag",
                              "A set of access rights: a request wants all of them, an answer grants all of them.\n\n"
                              "``Access.NONE`` (zero) as a request asks for the address only, without permission "
                              "checks.")
      .value("NONE", vm::Access::none)
      .value("READ", vm::Access::read)
      .value("WRITE", vm::Access::write)
      .value("EXECUTE", vm::Access::execute)
      .finalize();
  py::native_enum<vm::Privilege>(module, "Privilege", "enum.IntEnum",
                                 "Who asks: x86 CPL 3, RISC-V U-mode and AArch64 EL0 are USER, all else SUPERVISOR.")
      .value("SUPERVISOR", vm::Privilege::supervisor)
      .value("USER", vm::Privilege::user)
      .finalize();
}

void bind_fault(py::module_& module) {
  using vm::FaultReason;
  py::native_enum<FaultReason>(module, "FaultReason", "enum.IntEnum",
                               "Why a page-table walk refused a translation; the numbers are stable in arrays and "
                               "files. ``describe(reason)`` says it in words.")
      .value("NONE", FaultReason::none)
      .value("NOT_PRESENT", FaultReason::not_present)
      .value("NOT_CANONICAL", FaultReason::not_canonical)
      .value("RESERVED_BIT", FaultReason::reserved_bit)
      .value("MISALIGNED_PAGE", FaultReason::misaligned_page)
      .value("USER_DENIED", FaultReason::user_denied)
      .value("READ_DENIED", FaultReason::read_denied)
      .value("WRITE_DENIED", FaultReason::write_denied)
      .value("EXECUTE_DENIED", FaultReason::execute_denied)
      .value("SUPERVISOR_EXECUTE", FaultReason::supervisor_execute)
      .value("SUPERVISOR_ACCESS", FaultReason::supervisor_access)
      .value("PROTECTION_KEY", FaultReason::protection_key)
      .value("ACCESS_FLAG", FaultReason::access_flag)
      .value("DIRTY_FLAG", FaultReason::dirty_flag)
      .value("ADDRESS_SIZE", FaultReason::address_size)
      .value("TABLE_UNREACHABLE", FaultReason::table_unreachable)
      .value("WALK_DISABLED", FaultReason::walk_disabled)
      .finalize();
  module.def("describe", &vm::describe, py::arg("reason"), py::pos_only(),
             "Say a fault reason in plain words, without the address: ``'not present'``.");
  module.def(
      "_fault_message",
      [](std::uint64_t vaddr, vm::Access access, vm::Privilege privilege, int level, FaultReason reason,
         std::uint32_t error_code) {
        return vm::FaultInfo{vaddr, access, privilege, level, reason, error_code}.message();
      },
      py::arg("vaddr"), py::arg("access"), py::arg("privilege"), py::arg("level"), py::arg("reason"),
      py::arg("error_code"), "The one wording of a page fault, for ``PageFault``.");
}

void bind_page_size(py::module_& module) {
  using vm::PageSize;
  py::native_enum<PageSize>(module, "PageSize", "enum.IntEnum",
                            "Page sizes that the supported page-table formats can map; the value is the size in bytes.")
      .value("SIZE_4K", PageSize::size_4k)
      .value("SIZE_16K", PageSize::size_16k)
      .value("SIZE_64K", PageSize::size_64k)
      .value("SIZE_2M", PageSize::size_2m)
      .value("SIZE_4M", PageSize::size_4m)
      .value("SIZE_32M", PageSize::size_32m)
      .value("SIZE_512M", PageSize::size_512m)
      .value("SIZE_1G", PageSize::size_1g)
      .value("SIZE_64G", PageSize::size_64g)
      .value("SIZE_512G", PageSize::size_512g)
      .value("SIZE_4T", PageSize::size_4t)
      .value("SIZE_256T", PageSize::size_256t)
      .finalize();
}

std::uint64_t checked_alignment(std::uint64_t alignment) {
  if (!vm::is_power_of_two(alignment)) {
    throw vm::InvalidConfig("alignment must be a power of two, not " + std::to_string(alignment));
  }
  return alignment;
}

std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
  const std::uint64_t up = vm::align_up(value, checked_alignment(alignment));
  if (up < value) {
    throw vm::OutOfRange(
        "the next multiple of " + vm::hex(alignment) + " after " + vm::hex(value) + " does not fit in 64 bits", value,
        alignment);
  }
  return up;
}

void bind_alignment(py::module_& module) {
  module.def(
      "align_down",
      [](std::uint64_t value, std::uint64_t alignment) { return vm::align_down(value, checked_alignment(alignment)); },
      py::arg("value"), py::arg("alignment"),
      "The largest multiple of ``alignment`` that is not above ``value``.\n\n"
      "Both are 64-bit; ``alignment`` is a power of two, else InvalidConfig.\n\n"
      ">>> hex(align_down(0x12345, 0x1000))\n'0x12000'");
  module.def("align_up", &align_up, py::arg("value"), py::arg("alignment"),
             "The smallest multiple of ``alignment`` that is not below ``value``.\n\n"
             "Both are 64-bit; ``alignment`` is a power of two, else InvalidConfig; a result beyond 64 bits is "
             "OutOfRange.\n\n"
             ">>> hex(align_up(0x12345, 0x1000))\n'0x13000'");
  module.def(
      "is_aligned",
      [](std::uint64_t value, std::uint64_t alignment) { return vm::is_aligned(value, checked_alignment(alignment)); },
      py::arg("value"), py::arg("alignment"),
      "True when ``value`` is a multiple of ``alignment``, a power of two (else InvalidConfig).\n\n"
      ">>> is_aligned(0x12000, PageSize.SIZE_4K)\nTrue");
}

}  // namespace

void bind_types(py::module_& module) {
  bind_access(module);
  bind_fault(module);
  bind_page_size(module);
  bind_alignment(module);
}
