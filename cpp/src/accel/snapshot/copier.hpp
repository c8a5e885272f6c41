#pragma once
/// \file
/// Puts pages of guest memory back.

#include <cstdint>
#include <cstring>

#include "accel/snapshot/zero_page.hpp"
#include "vm/accel/hypervisor/dirty_log.hpp"
#include "vm/accel/snapshot/snapshot.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {

class Snapshot::Copier final : public RunSink {
 public:
  explicit Copier(const SnapshotParts& parts) noexcept : parts_(parts) {}

  std::uint64_t pages() const noexcept { return pages_; }

  /// Without looking: these changed.
  void run(const MemorySlot& slot, std::uint64_t first, std::uint64_t count) override {
    const SnapshotSlot* from = find(slot.base);
    if (from == nullptr) return;
    std::byte* to = slot.host + first * MemoryImage::page_size;
    pages_ += count;
    for (std::uint64_t page = from->image_page + first; count != 0; --count, ++page, to += MemoryImage::page_size) {
      if (parts_.memory->present(page)) {
        std::memcpy(to, parts_.memory->page(page), MemoryImage::page_size);
      } else {
        std::memset(to, 0, MemoryImage::page_size);
      }
    }
  }

  /// All pages of a slot that are different. Throws InvalidConfig when they are and cannot be written.
  void compare(const MemorySlot& slot) {
    const SnapshotSlot* from = find(slot.base);
    if (from == nullptr) return;
    for (std::uint64_t i = 0; i < slot.size / MemoryImage::page_size; ++i) {
      const std::byte* now = slot.host + i * MemoryImage::page_size;
      const std::uint64_t page = from->image_page + i;
      const bool same = parts_.memory->present(page)
                            ? std::memcmp(now, parts_.memory->page(page), MemoryImage::page_size) == 0
                            : is_zero(now, MemoryImage::page_size);
      if (same) continue;
      if (!slot.mapping->writable())
        throw InvalidConfig("the page at " + hex(slot.base + i * MemoryImage::page_size) +
                            " differs from the snapshot, and its memory is read-only");
      run(slot, i, 1);
    }
  }

 private:
  const SnapshotSlot* find(std::uint64_t base) noexcept {
    if (last_ != nullptr && last_->base == base) return last_;
    for (const SnapshotSlot& slot : parts_.slots) {
      if (slot.base == base) return last_ = &slot;
    }
    return nullptr;
  }

  const SnapshotParts& parts_;
  const SnapshotSlot* last_ = nullptr;
  std::uint64_t pages_ = 0;
};

}  // namespace vm::accel
