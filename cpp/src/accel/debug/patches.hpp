#pragma once
/// \file
/// Trap instructions in guest memory, and what was there before.
///
/// A patch whose byte the guest has changed meanwhile is not put back: what the guest wrote is kept.

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>

#include "vm/mem/guest/memory.hpp"

namespace vm::accel {

/// One thread at a time, while no vCPU runs.
class Patches {
 public:
  /// Puts `trap` at `paddr`, once however often it is asked for. Throws OutOfRange, AccessViolation (read-only memory).
  void add(const mem::GuestMemory& memory, std::uint64_t paddr, std::byte trap);
  /// Undoes one `add`.
  void drop(std::uint64_t paddr) noexcept;
  bool has(std::uint64_t paddr) const noexcept { return patches_.count(paddr) != 0; }
  void clear() noexcept;

  /// Replaces patches by what they hide in bytes that were read from `paddr`.
  void hide(std::uint64_t paddr, std::byte* bytes, std::size_t size) const noexcept;
  /// After [paddr, paddr + size) was written: what was written is what the patches hide now.
  void written(std::uint64_t paddr, std::size_t size) noexcept;

  /// The original instruction is back while this object lives.
  class Lifted {
   public:
    Lifted(Patches& patches, std::uint64_t paddr) noexcept;
    Lifted(const Lifted&) = delete;
    Lifted& operator=(const Lifted&) = delete;
    ~Lifted();

   private:
    Patches& patches_;
    const std::uint64_t paddr_;
  };

 private:
  struct Patch {
    mem::HostView at;
    std::byte trap{};
    std::byte original{};
    unsigned users = 1;
    void put() noexcept;
    void take() noexcept;
  };
  std::map<std::uint64_t, Patch> patches_;
};

}  // namespace vm::accel
