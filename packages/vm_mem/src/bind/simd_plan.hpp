#pragma once
/// \file
/// What Python says about how to copy.

#include <pybind11/pybind11.h>

#include "vm/mem/simd/memcpy.hpp"
#include "vm/mem/simd/parallel.hpp"

/// "stream" is true, None is false; anything else raises InvalidConfig.
bool streaming_from(PyObject* hint);

/// Keyword arguments of the functions that copy.
struct CopyArguments {
  vm::mem::simd::CopyOptions options;
  const vm::mem::simd::MemcpyStrategy* strategy = &vm::mem::simd::default_strategy();
  /// The options as the caller knows them: threads, hint, strategy. Raises TypeError for another name.
  void set(PyObject* name, PyObject* value, const char* function);
};
