#include "mem/alloc/block_checks.hpp"

#include <algorithm>
#include <cstring>
#include <random>
#include <string>

#include "vm/core/error.hpp"

namespace vm::mem::alloc::detail {

namespace {

// A word of the ledger: the state above, the size that was asked for below.
enum class State : std::uint32_t { never, live, quarantined, freed, damaged };
constexpr unsigned state_shift = 24;
constexpr std::uint32_t size_mask = (1U << state_shift) - 1;
// What blocks in quarantine are filled with: no pointer of any program, and an odd number in every width.
constexpr std::byte poison{0xdf};

constexpr std::uint32_t entry(State state, std::size_t size) noexcept {
  return static_cast<std::uint32_t>(state) << state_shift | static_cast<std::uint32_t>(size);
}
constexpr State state_of(std::uint32_t word) noexcept { return static_cast<State>(word >> state_shift); }
constexpr std::size_t size_of(std::uint32_t word) noexcept { return word & size_mask; }

std::string text(const void* address) { return hex(reinterpret_cast<std::uintptr_t>(address)); }

std::uint64_t random_secret() {
  std::random_device source;
  return std::uint64_t{source()} << 32 | source();
}

}  // namespace

BlockChecks::BlockChecks(SlabStore& store, const Hardening& hardening)
    : store_(store),
      canaries_(hardening.canaries),
      secret_(random_secret()),
      ledger_pages_(HostMapping::anonymous(store.capacity() / smallest_block * sizeof(std::uint32_t), HugePages::none)),
      ledger_(reinterpret_cast<std::uint32_t*>(ledger_pages_->data())) {
  if (hardening.quarantine != 0) quarantine_.emplace(hardening.quarantine, secret_);
}

void* BlockChecks::allocate(unsigned size_class, std::size_t size) {
  const std::lock_guard<std::mutex> lock(mutex_);
  void* block = nullptr;
  if (store_.take(size_class, &block, 1) == 0) return nullptr;
  *word_of(block) = entry(State::live, size);
  if (canaries_) write_canary({static_cast<std::byte*>(block), size_class}, size);
  return block;
}

void BlockChecks::free(void* address, std::optional<std::size_t> size) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const Block block = require_block(address);
  std::uint32_t& word = *word_of(address);
  const std::size_t asked = size_of(word);
  if (state_of(word) != State::live) {
    if (state_of(word) == State::never) {
      throw AccessViolation("free of " + text(address) +
                            ", which no call of allocate has given out; free only what "
                            "this allocator returned");
    }
    throw DoubleFree("the block of " + std::to_string(asked) + " bytes at " + text(address) +
                     " is free already; somebody freed it before, or kept a copy of the pointer");
  }
  if (size && *size != asked) {
    throw AccessViolation("the block at " + text(address) + " was allocated with " + std::to_string(asked) +
                          " bytes and is freed with " + std::to_string(*size) + "; both must be equal");
  }
  // From here on it counts as freed, whatever is found: who catches the exception must not free it again.
  word = entry(State::damaged, asked);
  if (canaries_) require_canary(block, asked);
  if (!quarantine_) {
    word = entry(State::freed, asked);
    void* const gone = address;
    return store_.give(block.size_class, &gone, 1);
  }
  word = entry(State::quarantined, asked);
  std::memset(block.start, std::to_integer<int>(poison), block_size(block.size_class));
  const auto number = static_cast<std::uint64_t>(block.start - store_.base()) / smallest_block;
  if (!quarantine_->full()) return quarantine_->push(number);
  const std::optional<std::uint64_t> oldest = quarantine_->pop();
  quarantine_->push(number);  // before the oldest, which may turn out to be damaged, is looked at
  release(oldest);
}

void BlockChecks::release(std::optional<std::uint64_t> number) {
  if (!number) {
    throw AccessViolation(
        "the list of freed blocks was overwritten; somebody writes through a wild pointer. The block "
        "of that entry stays out of use");
  }
  const Block block = block_of(*number);
  std::uint32_t& word = *word_of(block.start);
  const std::size_t asked = size_of(word);
  word = entry(State::damaged, asked);
  require_untouched(block);
  word = entry(State::freed, asked);
  void* const gone = block.start;
  store_.give(block.size_class, &gone, 1);
}

void BlockChecks::empty_quarantine() {
  const std::lock_guard<std::mutex> lock(mutex_);
  while (quarantine_ && quarantine_->size() != 0) release(quarantine_->pop());
}

void BlockChecks::verify() {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (std::size_t i = 0; quarantine_ && i < quarantine_->size(); ++i) {
    const std::optional<std::uint64_t> number = quarantine_->peek(i);
    if (!number) throw AccessViolation("entry " + std::to_string(i) + " of the list of freed blocks was overwritten");
    require_untouched(block_of(*number));
  }
  if (!canaries_) return;
  for (std::uint32_t slab = 0; slab < store_.slabs_used(); ++slab) {
    const unsigned size_class = store_.slab_classes()[slab].load(std::memory_order_relaxed);
    if (size_class == unclassed) continue;
    for (std::uint32_t i = 0; i < store_.blocks_per_slab(size_class); ++i) {
      const Block block{store_.base() + slab * slab_bytes + i * block_size(size_class), size_class};
      const std::uint32_t word = *word_of(block.start);
      if (state_of(word) == State::live) require_canary(block, size_of(word));
    }
  }
}

std::uint64_t BlockChecks::quarantined() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return quarantine_ ? quarantine_->size() : 0;
}

std::uint32_t* BlockChecks::word_of(const void* block) const noexcept {
  return ledger_ + static_cast<std::uint64_t>(static_cast<const std::byte*>(block) - store_.base()) / smallest_block;
}

BlockChecks::Block BlockChecks::block_of(std::uint64_t number) const noexcept {
  std::byte* const start = store_.base() + number * smallest_block;
  return {start, store_.slab_classes()[number * smallest_block / slab_bytes].load(std::memory_order_relaxed)};
}

/// The block that begins at an address, in whatever state.
BlockChecks::Block BlockChecks::require_block(const void* address) const {
  const auto place = static_cast<std::uint64_t>(static_cast<const std::byte*>(address) - store_.base());
  if (place / slab_bytes >= store_.slabs_used()) {
    throw AccessViolation("free of " + text(address) +
                          ", which is no memory of this allocator; free it where it came "
                          "from");
  }
  const Block block = block_of(place / smallest_block);
  if (block.size_class == unclassed) {
    const std::uint32_t word = *word_of(address);
    if (state_of(word) == State::freed && place % smallest_block == 0) {
      throw DoubleFree("the block of " + std::to_string(size_of(word)) + " bytes at " + text(address) +
                       " is free already; somebody freed it before, or kept a copy of the pointer");
    }
    throw AccessViolation("free of " + text(address) + ", where this allocator has no block");
  }
  const std::uint64_t beyond = place % slab_bytes % block_size(block.size_class);
  if (beyond != 0) {
    throw AccessViolation("free of " + text(address) + ", which lies " + std::to_string(beyond) +
                          " bytes inside a block; free the address that allocate returned");
  }
  return block;
}

std::byte BlockChecks::canary(const std::byte* block, std::size_t at) const noexcept {
  const std::uint64_t word = (secret_ ^ reinterpret_cast<std::uintptr_t>(block)) * 0x9e3779b97f4a7c15;
  return static_cast<std::byte>(word >> (8 * (at % 7) + 8));
}

void BlockChecks::write_canary(const Block& block, std::size_t size) const noexcept {
  for (std::size_t at = size; at < block_size(block.size_class); ++at) block.start[at] = canary(block.start, at);
}

void BlockChecks::require_canary(const Block& block, std::size_t size) const {
  for (std::size_t at = size; at < block_size(block.size_class); ++at) {
    if (block.start[at] == canary(block.start, at)) continue;
    throw AccessViolation("the block of " + std::to_string(size) + " bytes at " + text(block.start) +
                          " was written beyond its end, at byte " + std::to_string(at) + "; it stays out of use");
  }
}

void BlockChecks::require_untouched(const Block& block) const {
  const std::byte* const start = block.start;
  const std::byte* const end = start + block_size(block.size_class);
  const std::byte* const changed = std::find_if(start, end, [](std::byte b) { return b != poison; });
  if (changed == end) return;
  throw AccessViolation("the block of " + std::to_string(size_of(*word_of(block.start))) + " bytes at " +
                        text(block.start) + " was written after it had been freed, at byte " +
                        std::to_string(changed - start) + "; it stays out of use");
}

}  // namespace vm::mem::alloc::detail
