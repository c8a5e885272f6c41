#pragma once
/// \file
/// Memory of an allocator as Python has it: with the buffer protocol, and with the way back.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

/// Returns its memory once: by free() or when Python forgets it. The memory stays as long as somebody looks at it.
class Block {
 public:
  /// `release` gives the memory back and holds on to the allocator; what it throws goes to who calls free().
  Block(void* data, std::size_t size, std::function<void()> release)
      : data_(data), size_(size), release_(std::move(release)) {}
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block();

  /// Throws DoubleFree; BufferError while there are views.
  void free();
  /// One more view. Throws ClosedError.
  void look();
  void look_away() noexcept { views_.fetch_sub(1, std::memory_order_release); }

  bool freed() const noexcept { return views_.load(std::memory_order_acquire) < 0; }
  void* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }

 private:
  void* data_;
  std::size_t size_;
  std::function<void()> release_;
  std::atomic<std::int64_t> views_{0};  // below 0: freed
};

/// Bytes and shape of an array that somebody asks for.
struct ArrayRequest {
  /// Throws InvalidConfig for Python objects and for sizes that no memory has, TypeError and ValueError for what is no
  /// whole number.
  ArrayRequest(const pybind11::object& shape, const pybind11::object& dtype);

  pybind11::dtype type;
  std::vector<pybind11::ssize_t> shape;
  std::size_t bytes;
};

/// An array over all of `block`, whose memory goes back when the last view of it is gone.
pybind11::object array_over(std::unique_ptr<Block> block, const ArrayRequest& request);
