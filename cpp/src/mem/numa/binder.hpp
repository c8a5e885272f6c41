#pragma once
/// \file
/// The ways of a decision to the kernel.

#include <cstdint>
#include <memory>
#include <string>

#include "vm/mem/numa/binding.hpp"

namespace vm::mem::numa {

/// Any number of threads may call one.
class Binder {
 public:
  Binder() = default;
  Binder(const Binder&) = delete;
  Binder& operator=(const Binder&) = delete;
  virtual ~Binder() = default;

  /// "hwloc 2.9.0": what a Binding says when it was this one.
  virtual const std::string& name() const noexcept = 0;
  /// 0 or errno; ENOSYS for what this way does not offer.
  virtual int bind(void* start, std::uint64_t size, const Decision& decision) noexcept = 0;
};

/// The machine as hwloc sees it when it may bind there; else nothing, and `reason` says why.
std::unique_ptr<Binder> make_hwloc_binder(std::string& reason);

/// Asks through `first` when there is one, then by system calls, and believes neither before the kernel repeats it.
/// `code` is the errno of the last refusal, or 0.
Binding bind(Binder* first, void* start, std::uint64_t size, const Decision& decision, int& code);

}  // namespace vm::mem::numa
