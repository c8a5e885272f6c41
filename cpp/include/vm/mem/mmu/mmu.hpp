#pragma once
/// \file
/// `Mmu`: guest memory through virtual addresses, with everything a processor keeps between an address and a byte.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "vm/core/counters.hpp"
#include "vm/mem/guest/mmio.hpp"
#include "vm/mem/guest/region_pin.hpp"
#include "vm/mem/mmu/batch_guide.hpp"
#include "vm/mem/mmu/tlb_front.hpp"
#include "vm/mem/mmu/unified_tlb.hpp"
#include "vm/mem/paging/address_space.hpp"
#include "vm/mem/tlb/walk_cache.hpp"

namespace vm::mem {

/// The fastest strategy for an emulator, also on one thread: a hit in a later level of `multi_level`, which keeps true
/// LRU and inclusion, costs more than walking tables that are in the processor's caches.
inline tlb::TlbConfig default_mmu_tlb() {
  tlb::TlbConfig config;
  config.strategy = tlb::Strategy::concurrent;
  return config;
}

/// Which way large batches of translations go.
enum class BatchWay : std::uint8_t {
  measured,     ///< whichever `BatchGuide` expects to take less time
  through_tlb,  ///< for those who compare, and for tests
  around_tlb,   ///< likewise
};

struct MmuConfig {
  tlb::TlbConfig tlb = default_mmu_tlb();
  tlb::WalkCacheConfig walk_cache;
  paging::AddressSpaceOptions paging;
  tlb::Context context;  ///< the ASID (PCID) and VMID of the address space
  BatchWay batches = BatchWay::measured;
};

struct MmuStats {
  tlb::TlbStats tlb;
  tlb::WalkCacheStats walk_cache;
  PrefetchReport prefetch;
  std::uint64_t walks = 0;   ///< page-table walks for demanded addresses
  std::uint64_t faults = 0;  ///< translations that ended in a fault; of batches only those that were walked alone
  std::uint64_t prefetch_walks = 0;
  tlb::LevelStats arrays;        ///< the TLB of large batches; what misses it is walked by the batch walker
  std::uint64_t bypassed = 0;    ///< elements of batches that went to the batch walker without asking a TLB
  std::uint64_t mmio_reads = 0;  ///< blocks; a block may be several accesses of the device
  std::uint64_t mmio_writes = 0;
};

/// Translations, reads, writes and flushes may run on any number of threads at once. `map`, `unmap` and `protect` wait
/// for each other and flush what they changed before they return: a translation that begins later sees the change, one
/// that runs meanwhile sees the state before or after. Data that threads write while others read is as racy as any
/// memory; `load`, `store` and `compare_exchange` of aligned words are single atomic accesses. `switch_to` and
/// `reconfigure` must be alone.
class Mmu {
 public:
  /// A call that `switch_to` and `reconfigure` must not meet: while one exists they throw VmError and change nothing.
  /// For those who cannot promise to be alone: Python's threads, and its signal handlers in the midst of a call. Any
  /// number of threads; throws VmError while one of the two is at work.
  class Use {
   public:
    explicit Use(Mmu& mmu);
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use();

   private:
    Mmu& mmu_;
  };

  /// Throws InvalidConfig when a part of the configuration makes no sense.
  /// `prefetcher`, unless null, takes the place of the one that the TLB's configuration describes.
  Mmu(std::shared_ptr<GuestMemory> memory, const paging::PagingConfig& paging, const MmuConfig& config = {},
      std::unique_ptr<prefetch::Prefetcher> prefetcher = nullptr);
  ~Mmu();

  const std::shared_ptr<GuestMemory>& memory() const noexcept { return memory_; }
  /// The page tables as they are, without TLB and walk cache. `switch_to` makes another one.
  std::shared_ptr<const paging::AddressSpace> space() const noexcept { return space_; }
  tlb::Context context() const noexcept { return context_; }
  const MmuConfig& config() const noexcept { return config_; }
  /// `reconfigure` makes another one.
  const std::shared_ptr<UnifiedTlb>& tlb() const noexcept { return tlb_; }
  MmioManager& mmio() noexcept { return mmio_; }

  /// Throws PageFault. `Access::none` skips the permission checks.
  paging::Translation translate(GuestVirtual vaddr, Access access = Access::read,
                                Privilege privilege = Privilege::supervisor);
  /// As `translate`, with the fault in the result. Throws ClosedError once the memory is closed.
  paging::Translation try_translate(GuestVirtual vaddr, Access access = Access::read,
                                    Privilege privilege = Privilege::supervisor);
  /// As `AddressSpace::translate`, with the same answers. Small batches go through the TLB. Large ones have a level of
  /// their own (`BatchLevel`), which is asked when `BatchGuide` expects it to pay; what goes around it, also with
  /// several threads or when `request` names an engine, is counted in `bypassed`. Batches do not feed the prefetcher.
  void translate(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, paging::PackedInfo* info,
                 const paging::BatchRequest& request = {});

  /// Fills the TLB ahead of time with the pages of these addresses, in order, as a prefetcher would: real walks that
  /// set no flag and fault nobody. Returns how many were filled; what is there already, or not mapped, is passed over.
  std::size_t preheat(const std::uint64_t* vaddr, std::size_t count);

  /// As in `AddressSpace`; then flushes the TLB and the walk cache, by the policy of the TLB's configuration.
  void map(const paging::MapRequest& request);
  std::uint64_t unmap(std::uint64_t vaddr, std::uint64_t size);
  void protect(std::uint64_t vaddr, std::uint64_t size, Access access, std::optional<bool> user = std::nullopt);
  /// Maps one page of the smallest size.
  void map_page(GuestVirtual vaddr, GuestPhysical paddr, Access access, bool user = false);
  /// Unmaps the whole page, of whatever size, that contains `vaddr`. Throws PageFault when there is none.
  void unmap_page(GuestVirtual vaddr);

  /// Forgets translations: what a kernel's INVLPG, SFENCE.VMA or TLBI asks for after it has changed tables itself. The
  /// walk cache is flushed at once whatever the policy.
  void flush(const tlb::FlushRequest& request);
  /// Carries out the flushes that a delayed or batched policy holds back.
  void flush_barrier();

  /// Another address space, as a write to CR3, satp or TTBR would select. Unless `keep`, non-global translations of
  /// the new ASID are flushed. When anything but root and ASID changes, everything is.
  void switch_to(const paging::PagingConfig& paging, tlb::Context context, bool keep = false);

  /// Another TLB, another prefetcher and another walk cache in the place of these. A TLB or a walk cache of another
  /// configuration begins empty, with statistics of zero; one whose configuration stays is kept with what is in it, so
  /// that only the prefetcher, which always begins anew, may change. The counters of the MMU itself go on. Must be
  /// alone. Throws InvalidConfig; then nothing has changed.
  void reconfigure(const tlb::TlbConfig& tlb, const tlb::WalkCacheConfig& walk_cache,
                   std::unique_ptr<prefetch::Prefetcher> prefetcher = nullptr);

  /// Copies [vaddr, vaddr + size) out, over any borders of pages, regions and devices. Everything is translated and
  /// checked before the first byte moves. Throws PageFault (its `vaddr` is the first byte that faults), OutOfRange (its
  /// `address` is the first physical address without memory or device), AccessViolation, and what the source of lazy
  /// memory throws for a page.
  void read(GuestVirtual vaddr, void* destination, std::uint64_t size, Privilege privilege = Privilege::supervisor,
            Access access = Access::read);
  /// Copies in. Throws as `read`, and AccessViolation for read-only memory; then nothing was written. `source` may be
  /// bytes of the memory.
  void write(GuestVirtual vaddr, const void* source, std::uint64_t size, Privilege privilege = Privilege::supervisor);

  /// One access of 1, 2, 4 or 8 bytes, little-endian. Atomic when aligned and in memory; a device sees one access.
  template <class T>
  T load(GuestVirtual vaddr, Privilege privilege = Privilege::supervisor);
  template <class T>
  void store(GuestVirtual vaddr, T value, Privilege privilege = Privilege::supervisor);
  /// Replaces `expected` by `desired` atomically; else puts what was found into `expected` and returns false. Needs
  /// write permission either way, like a locked instruction. Throws InvalidConfig when misaligned, NotSupported on a
  /// device.
  template <class T>
  bool compare_exchange(GuestVirtual vaddr, T& expected, T desired, Privilege privilege = Privilege::supervisor);

  MmuStats stats() const;

 private:
  /// Physically contiguous bytes in one region, or in one device when `host` is null.
  struct Piece {
    std::uint64_t paddr = 0;
    std::uint64_t size = 0;
    std::byte* host = nullptr;
  };

  paging::Translation miss(std::uint64_t vaddr, Access access, Privilege privilege);
  paging::Translation walk_and_fill(std::uint64_t vaddr, Access access, Privilege privilege);
  paging::Translation walk(const RegionTable& regions, std::uint64_t vaddr, Access access, Privilege privilege,
                           paging::WalkRecord& record);
  void fill(const paging::Translation& t, const paging::WalkRecord& record, bool prefetched, tlb::FillTicket ticket);
  void prefetch(std::uint64_t vaddr, bool first_use);
  bool prefetch_page(std::uint64_t vaddr);
  void forget(std::uint64_t vaddr, std::uint64_t size);
  template <class Change>
  auto change_tables(std::uint64_t vaddr, std::uint64_t size, Change&& change);
  void translate_large(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, paging::PackedInfo* info,
                       const paging::BatchRequest& request);
  bool walk_all(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, paging::PackedInfo* info,
                const paging::BatchRequest& request, TlbFront* front);
  void learn_sample(TlbFront& front, const std::uint64_t* vaddr, std::size_t count,
                    const paging::BatchRequest& request);
  void count_arrays(const tlb::LevelStats& counts);
  paging::Translation finish(const paging::Translation& t, const paging::WalkRecord& record, tlb::FillTicket ticket);
  /// Cuts an access at its borders and checks all of it.
  std::vector<Piece> pieces(std::uint64_t vaddr, std::uint64_t size, Access access, Privilege privilege);
  /// The first piece of it.
  Piece piece(std::uint64_t vaddr, std::uint64_t size, Access access, Privilege privilege);

  class Alone;
  class Batch;
  enum Counter : std::size_t {
    walks,
    faults,
    prefetch_walks,
    bypassed,
    mmio_reads,
    mmio_writes,
    array_hits,
    array_misses,
    array_fills,
    array_evictions,
    array_flushed
  };

  std::shared_ptr<GuestMemory> memory_;
  RegionPin regions_;
  MmuConfig config_;
  std::shared_ptr<paging::AddressSpace> space_;
  tlb::Context context_;
  bool tags_;  ///< addresses have to be stripped of tags before they are looked up
  std::shared_ptr<UnifiedTlb> tlb_;
  std::unique_ptr<tlb::WalkCache> walk_cache_;
  MmioManager mmio_;
  CounterSet counters_;
  BatchGuide guide_;
  TlbFronts fronts_;
  std::atomic<int> uses_{0};  ///< `Use`s; far below 0 while an `Alone` exists
  std::mutex change_;         ///< held from a change of the tables to the end of its flush
};

}  // namespace vm::mem
