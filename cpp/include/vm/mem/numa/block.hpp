#pragma once
/// \file
/// `NumaBlock`: memory that knows where it was wanted, and says where it is.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "vm/mem/numa/binding.hpp"
#include "vm/mem/numa/migration.hpp"
#include "vm/mem/numa/placement.hpp"
#include "vm/mem/numa/policy.hpp"
#include "vm/mem/pages/mapping.hpp"

namespace vm::mem::numa {

class Machine;

/// Zero-filled private memory from a NumaAllocator, which it may outlive. Any number of threads may call anything at
/// once; the bytes are as racy as any memory. All but `close`, `closed` and `size` throw ClosedError after `close`.
class NumaBlock {
 public:
  NumaBlock(std::shared_ptr<Machine> machine, std::shared_ptr<HostMapping> mapping, HugePages huge_pages,
            Decision decision, Binding binding);
  NumaBlock(const NumaBlock&) = delete;
  NumaBlock& operator=(const NumaBlock&) = delete;
  ~NumaBlock();

  std::byte* data() const;
  std::uint64_t size() const noexcept { return size_; }
  /// Whoever holds it keeps the bytes mapped, also after `close`.
  std::shared_ptr<HostMapping> mapping() const;

  /// What the kernel was asked last.
  Decision decision() const;
  /// Whether it holds that.
  Binding binding() const;
  /// The size that pages may have, which is what an interleaving deals out: 4 KiB, 2 MiB or 1 GiB on x86.
  std::uint64_t granule() const noexcept { return granule_; }

  /// Puts pages under all bytes. Throws ResourceExhausted, PlatformError.
  void populate();
  /// Where the pages are now. Throws NotSupported where the kernel does not tell, PlatformError.
  Placement placement() const;
  /// Whether that is where they were wanted; `unverified` where the kernel does not tell. Throws PlatformError.
  Verification verify() const;
  /// Has the kernel place pages by `policy` from now on, and moves those that are there. Pages that could not be moved
  /// are counted, not thrown. Throws what `decide` does; NotSupported when the kernel does not take a policy without
  /// fallback, or moves no pages: then the block is as it was; PlatformError.
  Migration migrate(const NumaPolicy& policy);

  /// Gives up the memory; the last view of it unmaps it. Twice is fine.
  void close() noexcept;
  bool closed() const noexcept;

 private:
  friend class Machine;

  std::shared_ptr<Machine> machine_;
  std::uint64_t size_;
  std::uint64_t granule_;
  std::mutex migrating_;  // held through a whole migration, before mutex_
  mutable std::mutex mutex_;
  std::shared_ptr<HostMapping> mapping_;  // guarded by mutex_, like what follows; null once closed
  Decision decision_;
  Binding binding_;
};

}  // namespace vm::mem::numa
