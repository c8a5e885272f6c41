#pragma once
/// \file
/// `GuestMemory`: guest-physical memory as this process sees it, backed by fresh memory, files or dumps.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "vm/mem/guest/cpu_state.hpp"
#include "vm/mem/guest/region.hpp"
#include "vm/mem/pages/mapping.hpp"

namespace vm::mem {

/// How guest memory is stored in a file.
enum class ImageFormat : std::uint8_t {
  automatic,  ///< decided by the file's first bytes; a file that no format claims is raw
  raw,        ///< byte N of the file is guest-physical address N
  lime,       ///< LiME version 1: ranges, each after a 32-byte header
  elf,        ///< ELF core: QEMU `dump-guest-memory`, kdump's vmcore
};

/// "raw", "lime" and "elf". Throws InvalidConfig on anything else.
ImageFormat parse_image_format(const std::string& name);

/// Which part of a file `GuestMemory::file` maps, and where the guest sees it.
struct FileOptions {
  std::uint64_t base = 0;             ///< guest-physical address of the first byte
  std::uint64_t offset = 0;           ///< first byte of the file; no particular alignment
  std::optional<std::uint64_t> size;  ///< bytes; absent: up to the file's end
  bool writable = false;              ///< writes go to the file, visible to everybody who has it open
};

/// Called with (bytes done, bytes in all); may throw to stop the work.
using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// What a file said beside the memory itself.
struct ImageFacts {
  std::string format;                ///< "anonymous", "memfd", "file", "raw", "lime", "elf" or "lazy"
  std::vector<CpuState> cpu_states;  ///< one per CPU note of an ELF core
  std::size_t elf_word = 8;          ///< bytes of a word of an ELF core's class
  std::uint16_t elf_machine = 0;     ///< e_machine of an ELF core
  std::vector<std::byte> elf_notes;  ///< its note segments, kept so that `save` loses nothing
};

/// A host address range with whatever keeps it mapped.
struct HostView {
  std::byte* host = nullptr;
  bool writable = false;
  std::shared_ptr<HostMapping> mapping;
};

/// Guest-physical memory: a table of regions over host memory.
///
/// Any number of threads may call anything at once. Bytes that one thread writes while another reads them are as racy
/// as any other memory. Every method but `close`, `closed` and `format` throws ClosedError after `close`.
class GuestMemory {
 public:
  /// `size` bytes of zeros at `base`. Memory is spent when it is touched, a page of the chosen kind at a time.
  static std::shared_ptr<GuestMemory> anonymous(std::uint64_t size, std::uint64_t base = 0,
                                                HugePages huge_pages = HugePages::automatic);
  /// The same, mappable by other processes through `fd()`; see HostMapping::memfd.
  static std::shared_ptr<GuestMemory> memfd(std::uint64_t size, std::uint64_t base = 0,
                                            const std::string& name = "guest",
                                            HugePages huge_pages = HugePages::automatic, bool sealed = true);
  /// Part of a file as one region. Throws PlatformError, InvalidConfig (the file is too short).
  static std::shared_ptr<GuestMemory> file(const std::string& path, const FileOptions& options = {});
  /// A memory image. With `writable`, writes change the image's file; what the file does not hold (the zero tail of an
  /// ELF segment) stays read-only. Throws InvalidConfig naming what is wrong at which offset, NotSupported naming a
  /// format that has to be converted first, PlatformError when the file cannot be opened or mapped.
  static std::shared_ptr<GuestMemory> open(const std::string& path, ImageFormat format = ImageFormat::automatic,
                                           bool writable = false);

  GuestMemory(RegionTable regions, ImageFacts facts);

  /// The current regions. Never null. The caller may keep the table as long as it likes: host memory stays mapped
  /// while any table or view refers to it.
  std::shared_ptr<const RegionTable> table() const;
  /// Changes whenever `table()` would give another answer, so that a caller may keep its table until then.
  std::uint64_t generation() const noexcept {
    return generation_.load(std::memory_order_acquire);  // pairs with the release in replace_table
  }

  /// True when touching a byte of the table may have to wait for a page source; see LazyMemory. One load: for callers
  /// who hold a lock that they would let go of then.
  bool lazy() const noexcept {
    return lazy_.load(std::memory_order_relaxed);  // a region that is being added meanwhile is not touched yet
  }

  /// Copies [paddr, paddr + size) out. Throws OutOfRange naming the hole; then nothing was copied.
  void read(std::uint64_t paddr, void* destination, std::uint64_t size) const;
  /// Copies `size` bytes in. Throws OutOfRange naming the hole, AccessViolation naming the read-only region; then
  /// nothing was written. `source` may be bytes of this memory.
  void write(std::uint64_t paddr, const void* source, std::uint64_t size);
  /// The host memory of [paddr, paddr + size), which must lie in one region. Throws OutOfRange.
  HostView view(std::uint64_t paddr, std::uint64_t size) const;

  /// Adds the regions of `other`, sharing their host memory. Throws InvalidConfig on an overlap; then nothing changed.
  void add(const GuestMemory& other);

  /// Gives the pages of [paddr, paddr + size) back to the host: they read as zeros from now on, for everybody who
  /// shares them, and cost nothing until they are touched again. Safe while a guest runs. Throws OutOfRange naming the
  /// hole, AccessViolation naming the read-only region, NotSupported naming a region whose bytes live in a file or come
  /// from a page source (LazyMemory::discard forgets those), InvalidConfig for a part of a page; then nothing changed.
  void discard(std::uint64_t paddr, std::uint64_t size);
  /// Throws what `discard` would, and changes nothing.
  void require_discardable(std::uint64_t paddr, std::uint64_t size) const;
  /// Has the host put pages under [paddr, paddr + size), so that no touch has to wait for them; changes no bytes.
  /// Throws OutOfRange, AccessViolation, NotSupported (before Linux 5.14), ResourceExhausted, PlatformError.
  void populate(std::uint64_t paddr, std::uint64_t size);
  /// Bytes of the pages of [paddr, paddr + size) that are in the host's memory now, as mincore(2) sees it: of a memfd
  /// whoever touched them, of anonymous memory also those that were only read. Throws OutOfRange, PlatformError.
  std::uint64_t resident(std::uint64_t paddr, std::uint64_t size) const;

  /// Writes all regions to a new file; what was at `path` is replaced only once the new file is complete. Blocks of
  /// zeros become holes; `automatic` means raw. Raw files begin at guest-physical address 0 and forget which addresses
  /// had no memory. An ELF core keeps the CPU notes. Not a snapshot: what is written meanwhile may or may not be in the
  /// file. Throws PlatformError, InvalidConfig, and what `progress` throws; then nothing is left behind.
  void save(const std::string& path, ImageFormat format, const Progress& progress = {}) const;

  /// Bytes in all regions together.
  std::uint64_t size() const;
  /// The lowest address; 0 when there are no regions.
  std::uint64_t base() const;
  /// The descriptor of the first region's memfd or file, or NotSupported. Valid as long as that region's memory.
  int fd() const;

  const std::string& format() const noexcept { return facts_.format; }
  const ImageFacts& facts() const noexcept { return facts_; }

  /// Gives up the regions. Twice is fine. Tables and views that others hold stay valid.
  void close() noexcept;
  bool closed() const noexcept;

 private:
  void replace_table(std::shared_ptr<const RegionTable> table) noexcept;

  const ImageFacts facts_;
  mutable std::mutex mutex_;
  std::shared_ptr<const RegionTable> table_;  // guarded by mutex_; null once closed
  std::atomic<std::uint64_t> generation_{0};
  std::atomic<bool> lazy_;
};

}  // namespace vm::mem
