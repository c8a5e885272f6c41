#pragma once
/// \file
/// `vm_mem.paging.Translation` as a plain CPython type. A scalar translation is a question of nanoseconds; making a
/// pybind11 object for its answer would cost several times the walk.

#include <pybind11/pybind11.h>

#include "vm/core/access.hpp"
#include "vm/mem/paging/translation.hpp"

/// Creates the type and adds it to `module`.
void bind_translation_type(pybind11::module_& module);

/// A new `Translation` object; `translation` must be a success. Returns nullptr with a Python error set when there is
/// no memory. Holds the GIL.
PyObject* new_translation(const vm::mem::paging::Translation& translation, vm::Privilege privilege) noexcept;

/// The `vm_core.Access` member for a combination of rights. Borrowed.
PyObject* access_member(vm::Access access) noexcept;
