// One translator for all vm_* extension modules: pybind11 keeps translators in the registry that they share, so an
// exception thrown in vm_mem arrives here too. The Python classes are ordinary classes written in vm_core/error.py.

#include <exception>
#include <utility>

#include "bind.hpp"
#include "vm/core/error.hpp"

namespace py = pybind11;
using py::literals::operator""_a;

namespace {

template <class... Fields>
void raise(const char* name, const vm::VmError& error, Fields&&... fields) {
  // Looked up on each throw: a class cached here would outlive the interpreter that made it.
  const py::object type = py::module_::import("vm_core.error").attr(name);
  const py::object instance = type(error.what(), std::forward<Fields>(fields)...);
  PyErr_SetObject(type.ptr(), instance.ptr());
}

void raise_page_fault(const vm::PageFault& error) {
  const vm::FaultInfo& info = error.info();
  raise("PageFault", error, "vaddr"_a = info.vaddr, "access"_a = info.access, "privilege"_a = info.privilege,
        "level"_a = info.level, "reason"_a = info.reason, "error_code"_a = info.error_code);
}

void translate(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const vm::PageFault& error) {
    raise_page_fault(error);
  } catch (const vm::AccessViolation& error) {
    raise("AccessViolation", error);
  } catch (const vm::OutOfRange& error) {
    raise("OutOfRange", error, "address"_a = error.address(), "size"_a = error.size());
  } catch (const vm::InvalidConfig& error) {
    raise("InvalidConfig", error);
  } catch (const vm::NotSupported& error) {
    raise("NotSupported", error);
  } catch (const vm::ResourceExhausted& error) {
    raise("ResourceExhausted", error);
  } catch (const vm::PlatformError& error) {
    raise("PlatformError", error, "errno"_a = error.code());
  } catch (const vm::DoubleFree& error) {
    raise("DoubleFree", error);
  } catch (const vm::ClosedError& error) {
    raise("ClosedError", error);
  } catch (const vm::VmError& error) {
    raise("VmError", error);
  }
}

}  // namespace

void bind_errors() { py::register_exception_translator(&translate); }
