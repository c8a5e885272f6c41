#pragma once
/// \file
/// Prefetchers as Python holds them.

#include <pybind11/pybind11.h>

#include <memory>
#include <mutex>
#include <utility>

#include "vm/mem/prefetch/prefetcher.hpp"

/// A prefetcher takes one thread at a time and Python has many, so each has a lock.
class PyPrefetcher {
 public:
  explicit PyPrefetcher(std::unique_ptr<vm::mem::prefetch::Prefetcher> prefetcher)
      : prefetcher_(std::move(prefetcher)) {}
  virtual ~PyPrefetcher() = default;

  vm::mem::prefetch::Prefetcher& get() const noexcept { return *prefetcher_; }

  /// To be called with the GIL; gives it away while another thread has the lock.
  std::unique_lock<std::mutex> lock() const {
    std::unique_lock<std::mutex> mine(mutex_, std::try_to_lock);
    if (!mine.owns_lock()) {
      const pybind11::gil_scoped_release release;
      mine.lock();
    }
    return mine;
  }

 private:
  std::unique_ptr<vm::mem::prefetch::Prefetcher> prefetcher_;
  mutable std::mutex mutex_;
};

/// One whose kind is known, so that Python sees it as a class of its own.
template <class P>
class PyPrefetcherOf final : public PyPrefetcher {
 public:
  explicit PyPrefetcherOf(std::unique_ptr<P> prefetcher) : PyPrefetcher(std::move(prefetcher)) {}

  P& get() const noexcept { return static_cast<P&>(PyPrefetcher::get()); }
};
