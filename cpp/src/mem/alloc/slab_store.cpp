#include "mem/alloc/slab_store.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "mem/pages/system_error.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem::alloc::detail {

namespace {

constexpr std::uint32_t nothing = UINT32_MAX;
constexpr std::uint64_t largest_capacity = std::uint64_t{1} << 46;
constexpr unsigned word_bits = 64;

std::uint64_t checked_capacity(const SlabConfig& config) {
  if (config.capacity == 0 || config.capacity > largest_capacity) {
    throw InvalidConfig("a slab allocator's capacity is 1 to 2^46 bytes, got " + hex(config.capacity));
  }
  return align_up(config.capacity, slab_bytes);
}

}  // namespace

/// Zeros are a slab without blocks, so what the kernel gives needs no more.
struct SlabStore::Slab {
  std::uint32_t previous;
  std::uint32_t next;
  std::uint32_t free_blocks;
  std::uint32_t blocks;
  std::uint32_t first_word;  // none below has a free block
  std::array<std::uint64_t, slab_bytes / smallest_block / word_bits> free_bits;
};

SlabStore::SlabStore(const SlabConfig& config)
    : most_spare_(config.spare_slabs),
      guard_pages_(config.hardening.guard_pages),
      pages_(HostMapping::anonymous(checked_capacity(config) + (guard_pages_ ? slab_bytes : 0), config.huge_pages)),
      slab_pages_(HostMapping::anonymous(pages_->size() / slab_bytes * sizeof(Slab), HugePages::none)),
      class_pages_(HostMapping::anonymous(pages_->size() / slab_bytes, HugePages::none)),
      slabs_(reinterpret_cast<Slab*>(slab_pages_->data())),
      slab_classes_(reinterpret_cast<std::atomic<std::uint8_t>*>(class_pages_->data())),
      usable_(slab_bytes - (guard_pages_ ? host_page_size() : 0)),
      spare_(nothing),
      purged_(nothing) {
  for (unsigned i = 0; i < class_count; ++i) {
    classes_[i].partial = nothing;
    classes_[i].stats.block_size = block_size(i);
    // Rounded up, so that offset * reciprocal >> 32 is offset / size: both are below 2^16, so the error of at most
    // 2^-16 per quotient never reaches the next whole number.
    classes_[i].reciprocal = static_cast<std::uint32_t>(((std::uint64_t{1} << 32) + block_size(i) - 1) / block_size(i));
  }
  if (!guard_pages_) return;
  if (usable_ < largest_block) {
    throw NotSupported("guard pages need pages of the system that are smaller than slabs (64 KiB); here they have " +
                       std::to_string(host_page_size()) + " bytes");
  }
  // The first slab is a guard for the one behind it.
  guard(0);
  slab_classes_[0].store(unclassed, std::memory_order_relaxed);
  used_.store(1, std::memory_order_release);
}

std::uint32_t SlabStore::take(unsigned size_class, void** out, std::uint32_t count) {
  Class& from = classes_[size_class];
  const std::lock_guard<std::mutex> lock(from.mutex);
  std::uint32_t taken = 0;
  while (taken < count) {
    std::uint32_t index = from.partial;
    if (index == nothing && taken == 0) index = new_slab(size_class);
    if (index == nothing) break;
    taken += take_from(index, size_class, out + taken, count - taken);
    if (slabs_[index].free_blocks == 0) unlink(from, index);
  }
  from.stats.live += taken;
  // A single block is for no magazine.
  from.stats.refills += static_cast<std::uint64_t>(taken != 0 && count != 1);
  return taken;
}

std::uint32_t SlabStore::take_from(std::uint32_t index, unsigned size_class, void** out, std::uint32_t count) noexcept {
  Slab& slab = slabs_[index];
  std::byte* const start = base() + std::uint64_t{index} * slab_bytes;
  const std::size_t size = block_size(size_class);
  std::uint32_t taken = 0;
  std::uint32_t word = slab.first_word;
  while (taken < count && taken < slab.free_blocks) {
    std::uint64_t bits = slab.free_bits[word];
    while (bits != 0 && taken < count) {
      const auto block = word * word_bits + static_cast<unsigned>(__builtin_ctzll(bits));
      out[taken++] = start + block * size;
      bits &= bits - 1;
    }
    slab.free_bits[word] = bits;
    if (bits == 0) ++word;
  }
  slab.first_word = word;
  slab.free_blocks -= taken;
  return taken;
}

void SlabStore::give(unsigned size_class, void* const* blocks, std::uint32_t count) noexcept {
  Class& to = classes_[size_class];
  const std::lock_guard<std::mutex> lock(to.mutex);
  std::uint32_t repeated = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    if (!give_one(size_class, blocks[i])) ++repeated;
  }
  to.stats.live -= count - repeated;
  to.stats.returned += count - repeated;
  if (repeated != 0) repeated_frees_.fetch_add(repeated, std::memory_order_relaxed);
}

bool SlabStore::give_one(unsigned size_class, const void* block) noexcept {
  Class& to = classes_[size_class];
  const auto place = static_cast<std::uint64_t>(static_cast<const std::byte*>(block) - base());
  const auto index = static_cast<std::uint32_t>(place >> slab_shift);
  const auto number = static_cast<std::uint32_t>((place % slab_bytes) * to.reciprocal >> 32);
  Slab& slab = slabs_[index];
  const std::uint32_t word = number / word_bits;
  const std::uint64_t bit = std::uint64_t{1} << (number % word_bits);
  if ((slab.free_bits[word] & bit) != 0) return false;
  slab.free_bits[word] |= bit;
  slab.first_word = std::min(slab.first_word, word);
  if (slab.free_blocks++ == 0) link(to, index);
  if (slab.free_blocks == slab.blocks) {
    unlink(to, index);
    --to.stats.slabs;
    release(index);
  }
  return true;
}

void SlabStore::reserve(unsigned size_class, std::uint64_t count) {
  Class& here = classes_[size_class];
  const std::lock_guard<std::mutex> lock(here.mutex);
  std::uint64_t found = 0;
  for (std::uint32_t i = here.partial; i != nothing && found < count; i = slabs_[i].next)
    found += slabs_[i].free_blocks;
  if (found >= count) return;
  require_room(size_class, count, found);
  std::uint32_t made = 0;
  try {
    while (found < count) {
      if (new_slab(size_class) == nothing) {
        require_room(size_class, count,
                     found);  // another size was faster; unless a slab came back meanwhile, it throws
        continue;
      }
      ++made;
      found += blocks_per_slab(size_class);
    }
  } catch (...) {
    // The new ones are the first of the list; kept, they would be lost to all other sizes.
    for (; made != 0; --made) {
      const std::uint32_t index = here.partial;
      unlink(here, index);
      --here.stats.slabs;
      release(index);
    }
    throw;
  }
}

/// Throws ResourceExhausted unless there are slabs for the blocks beyond those found.
void SlabStore::require_room(unsigned size_class, std::uint64_t count, std::uint64_t found) const {
  const std::uint64_t needed = (count - found - 1) / blocks_per_slab(size_class) + 1;
  const std::lock_guard<std::mutex> lock(arena_mutex_);
  const std::uint64_t fresh = capacity() / slab_bytes - used_.load(std::memory_order_relaxed);
  if (needed <= fresh + spare_count_ + purged_count_) return;
  throw ResourceExhausted(
      "reserving " + std::to_string(count) + " blocks of " + std::to_string(block_size(size_class)) +
      " bytes needs more than is left of the capacity of " + hex(capacity()) + " bytes; choose a larger capacity");
}

/// A slab for the class, linked; `nothing` when the capacity is used up. With the class's mutex held.
std::uint32_t SlabStore::new_slab(unsigned size_class) {
  const std::uint32_t index = claim();
  if (index == nothing) return nothing;
  Slab& slab = slabs_[index];
  slab.blocks = blocks_per_slab(size_class);
  slab.free_blocks = slab.blocks;
  slab.first_word = 0;
  slab.free_bits.fill(0);
  for (std::uint32_t word = 0; word * word_bits < slab.blocks; ++word) {
    const std::uint32_t here = std::min(word_bits, slab.blocks - word * word_bits);
    slab.free_bits[word] = ~std::uint64_t{0} >> (word_bits - here);
  }
  // Relaxed: who frees a block of it got the block from somebody who got it after this.
  slab_classes_[index].store(static_cast<std::uint8_t>(size_class), std::memory_order_relaxed);
  link(classes_[size_class], index);
  ++classes_[size_class].stats.slabs;
  return index;
}

std::uint32_t SlabStore::claim() {
  const std::lock_guard<std::mutex> lock(arena_mutex_);
  std::uint32_t index = spare_;
  if (index != nothing) {
    spare_ = slabs_[index].next;
    --spare_count_;
    return index;
  }
  index = purged_;
  if (index != nothing) {
    purged_ = slabs_[index].next;
    --purged_count_;
    return index;
  }
  index = used_.load(std::memory_order_relaxed);
  if (index >= capacity() / slab_bytes) return nothing;
  if (guard_pages_) guard(index);
  used_.store(index + 1, std::memory_order_release);
  return index;
}

/// Takes an empty slab back from its class.
void SlabStore::release(std::uint32_t index) noexcept {
  const std::lock_guard<std::mutex> lock(arena_mutex_);
  slab_classes_[index].store(unclassed, std::memory_order_relaxed);
  const bool keep = spare_count_ < most_spare_ || !discard(index);
  std::uint32_t& list = keep ? spare_ : purged_;
  slabs_[index].next = list;
  list = index;
  ++(keep ? spare_count_ : purged_count_);
}

std::uint64_t SlabStore::purge() noexcept {
  const std::lock_guard<std::mutex> lock(arena_mutex_);
  std::uint64_t bytes = 0;
  std::uint32_t kept = nothing;
  while (spare_ != nothing) {
    const std::uint32_t index = spare_;
    spare_ = slabs_[index].next;
    const bool gone = discard(index);
    std::uint32_t& list = gone ? purged_ : kept;
    slabs_[index].next = list;
    list = index;
    if (!gone) continue;
    --spare_count_;
    ++purged_count_;
    bytes += usable_;
  }
  spare_ = kept;
  return bytes;
}

/// False when the pages stay: they are locked, or larger than a slab.
bool SlabStore::discard(std::uint32_t index) noexcept {
  const std::uint64_t unit = pages_->discard_unit();
  if (unit == 0 || usable_ % unit != 0) return false;
  try {
    pages_->discard(std::uint64_t{index} * slab_bytes, usable_);
  } catch (const VmError&) {
    return false;
  }
  return true;
}

void SlabStore::guard(std::uint32_t index) {
  const std::uint64_t page = host_page_size();
  if (::mprotect(base() + (std::uint64_t{index} + 1) * slab_bytes - page, page, PROT_NONE) == 0) return;
  const int code = errno;
  if (code == ENOMEM) {
    throw ResourceExhausted(
        "the kernel has no mapping left for another guard page; raise vm.max_map_count, or do "
        "without Hardening::guard_pages");
  }
  throw_system_error("cannot protect a guard page", code);
}

void SlabStore::link(Class& owner, std::uint32_t index) noexcept {
  Slab& slab = slabs_[index];
  slab.previous = nothing;
  slab.next = owner.partial;
  if (owner.partial != nothing) slabs_[owner.partial].previous = index;
  owner.partial = index;
}

void SlabStore::unlink(Class& owner, std::uint32_t index) noexcept {
  const Slab& slab = slabs_[index];
  if (slab.previous != nothing) slabs_[slab.previous].next = slab.next;
  if (slab.next != nothing) slabs_[slab.next].previous = slab.previous;
  if (owner.partial == index) owner.partial = slab.next;
}

SlabClassStats SlabStore::class_stats(unsigned size_class) const {
  const std::lock_guard<std::mutex> lock(classes_[size_class].mutex);
  return classes_[size_class].stats;
}

std::uint64_t SlabStore::spare_slabs() const {
  const std::lock_guard<std::mutex> lock(arena_mutex_);
  return spare_count_;
}

void SlabStore::lock() {
  for (Class& each : classes_) each.mutex.lock();
  arena_mutex_.lock();
}

void SlabStore::unlock() {
  arena_mutex_.unlock();
  for (Class& each : classes_) each.mutex.unlock();
}

}  // namespace vm::mem::alloc::detail
