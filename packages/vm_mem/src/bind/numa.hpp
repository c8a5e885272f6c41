#pragma once
/// \file
/// What the two parts of vm_mem.numa share.

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

#include "vm/mem/guest/memory.hpp"
#include "vm/mem/numa/policy.hpp"

/// The contiguous bytes of an object with the buffer protocol, kept from changing their size.
class NumaBuffer {
 public:
  /// Throws InvalidConfig saying that `what` needs one run of bytes; TypeError for what is no buffer.
  NumaBuffer(const pybind11::object& source, const std::string& what);
  NumaBuffer(const NumaBuffer&) = delete;
  NumaBuffer& operator=(const NumaBuffer&) = delete;
  ~NumaBuffer() { PyBuffer_Release(&buffer_); }

  const void* data() const { return buffer_.buf; }
  std::uint64_t size() const { return static_cast<std::uint64_t>(buffer_.len); }

 private:
  Py_buffer buffer_{};
};

/// Whole guest memory when neither is given. Throws InvalidConfig for one without the other.
struct GuestRange {
  GuestRange(const vm::mem::GuestMemory& memory, const pybind11::object& paddr_or_none,
             const pybind11::object& size_or_none);
  std::uint64_t paddr;
  std::uint64_t size;
};

/// "(0, 1)".
std::string nodes_repr(const std::vector<int>& nodes);
/// NumaPolicy's repr: what makes an equal one.
std::string policy_repr(const vm::mem::numa::NumaPolicy& policy);
/// NumaBlock, ReplicatedBlock and NumaAllocator.
void bind_numa_allocator(pybind11::module_& module);
