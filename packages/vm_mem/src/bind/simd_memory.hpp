#pragma once
/// \file
/// The memory behind an argument that is a NumPy array or has the buffer protocol.

#include <pybind11/pybind11.h>

#include <cstddef>
#include <optional>
#include <vector>

#include "vm/mem/simd/strided.hpp"

/// Holds the memory as long as it lives; to be made and destroyed with the GIL. `role` names the argument in messages.
class ArgumentMemory {
 public:
  /// Raises TypeError for what has no memory, AccessViolation when `writable` is wanted and it is not, InvalidConfig
  /// for elements that are references to Python objects, which must be counted and so cannot be copied as bytes.
  ArgumentMemory(PyObject* object, bool writable, const char* role);
  ~ArgumentMemory();
  ArgumentMemory(const ArgumentMemory&) = delete;
  ArgumentMemory& operator=(const ArgumentMemory&) = delete;

  void* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }  ///< bytes of all elements
  std::size_t item() const noexcept { return item_; }  ///< bytes of one
  bool contiguous() const noexcept { return contiguous_; }
  std::vector<std::size_t> shape() const { return {shape_, shape_ + axes_}; }
  std::vector<std::ptrdiff_t> strides() const;
  /// Raises InvalidConfig unless the elements lie side by side in the order of C.
  void require_contiguous() const;

 private:
  void take_array(PyObject* array, bool writable);
  void take_buffer(PyObject* object, bool writable);
  void require_writable(bool writable, bool is) const;

  const char* role_;
  void* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t item_ = 1;
  bool contiguous_ = false;
  int axes_ = 0;
  const pybind11::ssize_t* shape_ = nullptr;
  const pybind11::ssize_t* strides_ = nullptr;  // null: contiguous (ctypes leaves them out, whatever it is asked)
  pybind11::object array_;                      // the array that owns shape and strides
  Py_buffer view_{};                            // or the view that does
};

/// The memory of two arguments. Asking for a buffer may run Python code (PEP 688), and nothing keeps that from giving
/// an array another shape; so an array is looked at last.
class TwoMemories {
 public:
  TwoMemories(PyObject* first, bool writable, const char* first_role, PyObject* second, const char* second_role);
  const ArgumentMemory& first() const noexcept { return *first_; }
  const ArgumentMemory& second() const noexcept { return *second_; }

 private:
  std::optional<ArgumentMemory> first_, second_;
};

/// The bytes of a `bytes`, `bytearray`, memoryview of bytes or simple contiguous array, found without a view of it:
/// they stay as long as the GIL is held. False when that cannot be told quickly; then ArgumentMemory knows.
bool find_bytes(PyObject* object, bool writable, void*& data, std::size_t& size) noexcept;
