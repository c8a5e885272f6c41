#pragma once
/// \file
/// Page numbers as Python gives them.

#include <pybind11/numpy.h>

#include <cstdint>
#include <string>

#include "vm/core/error.hpp"
#include "vm/mem/prefetch/prefetcher.hpp"
#include "vm/python/unsigned.hpp"

inline void require_page(std::uint64_t page) {
  if (page <= vm::mem::prefetch::max_page) return;
  throw vm::InvalidConfig("page numbers are at most 2**52 - 1, got " + vm::hex(page) +
                          "; shift an address right by the page's size_log2");
}

/// A one-dimensional array or sequence of integers that are not negative, as 64-bit words.
class PageArray {
 public:
  PageArray() = default;
  /// Throws InvalidConfig; `what` names the argument.
  PageArray(const pybind11::object& source, const char* what) {
    const pybind11::array any = pybind11::array::ensure(source);
    if (!any) throw pybind11::error_already_set();
    const char kind = any.dtype().kind();
    if (any.ndim() != 1 || (any.size() != 0 && kind != 'i' && kind != 'u')) {
      throw vm::InvalidConfig(std::string(what) + " must be a one-dimensional array of integers, got " +
                              pybind11::str(any.dtype()).cast<std::string>() + " with " + std::to_string(any.ndim()) +
                              " dimensions");
    }
    if (kind == 'i' && any.size() != 0 && any.attr("min")().cast<std::int64_t>() < 0) {
      throw vm::InvalidConfig(std::string(what) + " must not be negative");
    }
    words_ = pybind11::array_t<std::uint64_t, pybind11::array::c_style | pybind11::array::forcecast>(any);
    data_ = words_.data();
  }

  pybind11::ssize_t size() const { return words_.size(); }
  std::uint64_t operator[](std::size_t i) const noexcept { return data_[i]; }

 private:
  pybind11::array_t<std::uint64_t, pybind11::array::c_style | pybind11::array::forcecast> words_;
  const std::uint64_t* data_ = nullptr;
};
