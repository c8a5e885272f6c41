#pragma once
/// \file
/// Which pages guests write, through KVM: bitmaps of slots (Documentation/virt/kvm/api.rst §4.8, §4.117) and rings of
/// vCPUs (§8.29).

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "abi.hpp"
#include "vm/accel/hypervisor/dirty_pages.hpp"
#include "vm/mem/pages/mapping.hpp"

namespace vm::accel::kvm {

class KvmVm;

/// The list that the kernel fills for one vCPU.
class DirtyRing {
 public:
  /// Throws PlatformError when the vCPU's ring cannot be mapped.
  DirtyRing(unsigned vcpu, int fd, std::uint32_t entries);

  unsigned vcpu() const noexcept { return vcpu_; }
  void collect(DirtySink& sink);

 private:
  const unsigned vcpu_;
  const std::uint32_t mask_;
  const mem::MappedPages pages_;
  std::uint32_t next_ = 0;
};

class KvmDirtyPages final : public DirtyPages {
 public:
  /// `vm` outlives this object.
  explicit KvmDirtyPages(const KvmVm& vm) noexcept : vm_(vm) {}

  DirtyMethod method() const noexcept override { return method_; }
  void use_manual() override;
  void use_ring(std::uint32_t entries) override;
  void read(const MemorySlot& slot, std::uint64_t* bitmap) override;
  void clear(const MemorySlot& slot, std::uint64_t first, std::uint64_t count, const std::uint64_t* bitmap) override;
  void collect(DirtySink& sink, const unsigned* vcpu) override;
  std::uint64_t reset() override;

  /// A vCPU was created; `fd` is its descriptor. Other threads may be in the calls above.
  void add_vcpu(unsigned id, int fd);

 private:
  const KvmVm& vm_;
  DirtyMethod method_ = DirtyMethod::bitmap;
  std::mutex mutex_;
  std::uint32_t entries_ = 0;                      // guarded by mutex_; of each ring
  std::vector<std::unique_ptr<DirtyRing>> rings_;  // guarded by mutex_; a vCPU that is closed keeps its ring
};

}  // namespace vm::accel::kvm
