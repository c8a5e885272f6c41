#pragma once
/// \file
/// How a backend tells which pages the guest wrote. The class for users is `DirtyLog`.

#include <cstdint>

#include "vm/accel/hypervisor/memory_slot.hpp"

namespace vm::accel {

/// How the writes of guests are noted.
enum class DirtyMethod : std::uint8_t {
  bitmap,  ///< a bit per page of a slot, cleared as it is read
  manual,  ///< a bit per page, cleared when asked (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)
  ring,    ///< a list per vCPU (KVM_CAP_DIRTY_LOG_RING); costs what was written, however large the memory is
};

/// "bitmap", "manual", "ring".
const char* dirty_method_name(DirtyMethod method) noexcept;

/// Receives pages one by one.
class DirtySink {
 public:
  virtual ~DirtySink() = default;
  /// Page number `page` of the slot with the number `slot`; both as the backend knows them: to be checked.
  virtual void page(unsigned slot, std::uint64_t page) = 0;
};

/// A facet of VM backends; `DirtyLog` serializes the calls. Pages are those of VmBackend::page_size(). Every call
/// throws PlatformError when the hypervisor refuses.
class DirtyPages {
 public:
  virtual ~DirtyPages() = default;

  virtual DirtyMethod method() const noexcept = 0;
  /// Throws NotSupported.
  virtual void use_manual() = 0;
  /// Lists of `entries` pages for the vCPUs that are created from now on; a power of two. Throws NotSupported,
  /// InvalidConfig naming the limits.
  virtual void use_ring(std::uint32_t entries) = 0;

  /// Writes one bit per page of `slot` to `bitmap`, which has dirty_words(slot, page size) words. Method `bitmap`
  /// clears them.
  virtual void read(const MemorySlot& slot, std::uint64_t* bitmap) = 0;
  /// Method `manual`: clears the bits that are set in `bitmap`, bit 0 of which is `first`, a multiple of 64. `count` is
  /// one too, unless first + count is the end of the slot.
  virtual void clear(const MemorySlot& slot, std::uint64_t first, std::uint64_t count, const std::uint64_t* bitmap) = 0;

  /// Method `ring`: hands out what the vCPU noted since the last call, or all vCPUs. Other threads may run vCPUs.
  virtual void collect(DirtySink& sink, const unsigned* vcpu) = 0;
  /// Method `ring`: pages that were handed out are noted again at the next write. Returns how many.
  virtual std::uint64_t reset() = 0;
};

/// 64-bit words of a bitmap over the pages of `slot`.
constexpr std::uint64_t dirty_words(std::uint64_t slot_size, std::uint64_t page_size) noexcept {
  return (slot_size / page_size + 63) / 64;
}

}  // namespace vm::accel
