#pragma once
/// \file
/// `AddressSpace`: one set of page tables in one guest memory, read, enumerated and changed.

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "vm/core/address.hpp"
#include "vm/mem/guest/memory.hpp"
#include "vm/mem/paging/batch_front.hpp"
#include "vm/mem/paging/config.hpp"
#include "vm/mem/paging/mapping.hpp"
#include "vm/mem/paging/translation.hpp"

namespace vm::mem::paging {

class Operations;
class TableFrames;

/// How a batch is computed. All engines give the same answers; they differ in speed only.
enum class Engine : std::uint8_t {
  automatic,       ///< chosen once per call from a sample of the addresses and the instruction sets present
  walk,            ///< one full walk an element
  leaf_cache,      ///< a cache of last-level tables, one element at a time
  group_prefetch,  ///< full walks, many interleaved, each level prefetched for all of them
  avx2,            ///< leaf cache, 4 lanes
  avx512,          ///< leaf cache, 8 lanes
};
const char* to_string(Engine engine) noexcept;

struct BatchRequest {
  Access access = Access::read;
  Privilege privilege = Privilege::supervisor;
  Engine engine = Engine::automatic;
  unsigned threads = 1;  ///< at most; 0: one per CPU that the caller may use
  /// Asked every few milliseconds by the calling thread; false ends the call early with the rest unanswered.
  std::function<bool()> keep_going;
  /// Asked before the tables, unless null; only when the whole batch is done by the calling thread.
  BatchFront* front = nullptr;
};

struct AddressSpaceOptions {
  /// Where new tables go; absent: from the top of the last writable region downwards.
  std::optional<TableRange> tables;
  /// Successful translations set the A and D flags that the processor would set.
  bool update_accessed_dirty = false;
};

/// Translations may run concurrently with each other on any number of threads. `map`, `unmap` and `protect` of one
/// object wait for each other; beside a translation, or beside another object over the same tables, they are as racy as
/// a kernel that edits live tables without a flush: the other side sees old or new entries, never memory out of range.
class AddressSpace {
 public:
  /// Throws InvalidConfig when `config` or `options` make no sense.
  AddressSpace(std::shared_ptr<GuestMemory> memory, const PagingConfig& config, AddressSpaceOptions options = {});
  ~AddressSpace();
  AddressSpace(AddressSpace&&) noexcept;
  AddressSpace& operator=(AddressSpace&&) noexcept;

  const std::shared_ptr<GuestMemory>& memory() const noexcept { return memory_; }
  const PagingConfig& config() const noexcept { return config_; }
  const AddressSpaceOptions& options() const noexcept { return options_; }

  /// Throws PageFault; `Access::none` skips permission checks.
  Translation translate(GuestVirtual vaddr, Access access = Access::read,
                        Privilege privilege = Privilege::supervisor) const;
  /// As `translate`, with the fault in the result. Throws only ClosedError.
  Translation try_translate(GuestVirtual vaddr, Access access = Access::read,
                            Privilege privilege = Privilege::supervisor) const;

  /// One walk that says what it passed, for caches of translations and tables. `regions` are those of `memory()`.
  /// `from`, unless null, is the table at `from_level` that an earlier record named for the same part of the address
  /// space; the walk begins there. After a fault only `record.top` and the tables down to the level of the fault are
  /// set. A and D flags are set as for `translate`; a prefetch asks with `Access::none`, which sets none.
  Translation walk(const RegionTable& regions, GuestVirtual vaddr, Access access, Privilege privilege,
                   const WalkTable* from, int from_level, WalkRecord& record) const noexcept;

  /// Bytes of the smallest page that the format maps.
  std::uint64_t smallest_page() const noexcept;
  /// log2 of the bytes that one table translates, by its level.
  std::array<unsigned, 5> table_spans() const noexcept;

  /// Translates `count` addresses. `paddr[i]` is `no_address` and `info[i]` a fault where element i does not translate.
  /// Throws NotSupported when `engine` names an instruction set that this machine, build or format lacks.
  void translate(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, PackedInfo* info,
                 const BatchRequest& request = {}) const;
  /// The engine that `Engine::automatic` stands for with these addresses. Threads: any.
  Engine choose_engine(const std::uint64_t* vaddr, std::size_t count, const BatchRequest& request = {}) const;
  /// Engines that this machine, build and format can run.
  std::vector<Engine> engines() const;

  /// The fault that `translation` describes, with the architecture's error code.
  FaultInfo fault_info(const Translation& translation, Access access, Privilege privilege) const noexcept;

  /// Leaf mappings in ascending order of address. `keep_going` is asked now and then; false ends with what was found.
  /// Throws ResourceExhausted beyond `options.limit`.
  std::vector<Mapping> mappings(const EnumerateOptions& options = {},
                                const std::function<bool()>& keep_going = {}) const;

  /// Maps a range. On any error nothing has changed. Throws InvalidConfig (alignment, range, already mapped),
  /// ResourceExhausted (no frame left for a table), AccessViolation (tables in read-only memory).
  void map(const MapRequest& request);
  /// Removes what is mapped in the range, splitting larger pages at its ends, and frees tables that become empty.
  /// Holes are fine. Returns the bytes unmapped. On any error nothing has changed.
  std::uint64_t unmap(std::uint64_t vaddr, std::uint64_t size);
  /// Changes the rights of a range that is mapped throughout, splitting larger pages at its ends. Throws PageFault when
  /// it has a hole; on any error nothing has changed. `user` absent keeps each page's privilege.
  void protect(std::uint64_t vaddr, std::uint64_t size, Access access, std::optional<bool> user = std::nullopt);

 private:
  std::shared_ptr<GuestMemory> memory_;
  PagingConfig config_;
  AddressSpaceOptions options_;
  std::unique_ptr<const Operations> operations_;
  std::unique_ptr<TableFrames> frames_;
  std::unique_ptr<std::mutex> change_;  ///< held by map, unmap and protect, for callers that get it wrong
};

}  // namespace vm::mem::paging
