// An extension module of its own that throws each exception of the library: it stands for every module that is not
// vm_core._core, and has no translator.

#include <pybind11/pybind11.h>

#include <string>

#include "vm/core/error.hpp"
#include "vm/python/abi.hpp"

namespace {

void throw_one(const std::string& name) {
  if (name == "PageFault") {
    throw vm::PageFault(
        {0xffff800000001000, vm::Access::write, vm::Privilege::user, 3, vm::FaultReason::reserved_bit, 15});
  }
  if (name == "AccessViolation") throw vm::AccessViolation("AccessViolation from elsewhere");
  if (name == "OutOfRange") throw vm::OutOfRange("OutOfRange from elsewhere", 0x5000, 8);
  if (name == "InvalidConfig") throw vm::InvalidConfig("InvalidConfig from elsewhere");
  if (name == "NotSupported") throw vm::NotSupported("NotSupported from elsewhere");
  if (name == "ResourceExhausted") throw vm::ResourceExhausted("ResourceExhausted from elsewhere");
  if (name == "PlatformError") throw vm::PlatformError("PlatformError from elsewhere", 13);
  if (name == "DoubleFree") throw vm::DoubleFree("DoubleFree from elsewhere");
  if (name == "ClosedError") throw vm::ClosedError("ClosedError from elsewhere");
  throw vm::VmError("VmError from elsewhere");
}

}  // namespace

PYBIND11_MODULE(thrower, module) {
  vm::python::import_core();
  module.def("throw_one", &throw_one);
}
