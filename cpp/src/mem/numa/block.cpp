#include "vm/mem/numa/block.hpp"

#include <algorithm>
#include <utility>

#include "mem/numa/machine.hpp"
#include "mem/numa/relocate.hpp"
#include "mem/pages/huge_pages.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem::numa {

namespace {

/// The largest page that may hold the bytes.
std::uint64_t granule_of(std::uint64_t size, HugePages huge_pages) {
  const std::uint64_t transparent = std::uint64_t{1} << 21;
  const std::uint64_t reserved = reserved_page_size(huge_pages);
  if (reserved != 0) return reserved;
  return huge_pages == HugePages::none || size < transparent ? host_page_size() : transparent;
}

/// For kernels that populate nothing themselves. Adds zero in one step: whatever others write meanwhile stays.
void touch(std::byte* data, std::uint64_t size) {
  for (std::uint64_t offset = 0; offset < size; offset += host_page_size()) {
    __atomic_fetch_add(reinterpret_cast<unsigned char*>(data + offset), static_cast<unsigned char>(0),
                       __ATOMIC_RELAXED);
  }
}

}  // namespace

NumaBlock::NumaBlock(std::shared_ptr<Machine> machine, std::shared_ptr<HostMapping> mapping, HugePages huge_pages,
                     Decision decision, Binding binding)
    : machine_(std::move(machine)),
      size_(mapping->size()),
      granule_(granule_of(mapping->size(), huge_pages)),
      mapping_(std::move(mapping)),
      decision_(std::move(decision)),
      binding_(std::move(binding)) {
  machine_->enter(this);
}

NumaBlock::~NumaBlock() { machine_->leave(this); }

std::shared_ptr<HostMapping> NumaBlock::mapping() const {
  const std::lock_guard lock(mutex_);
  if (mapping_ == nullptr) throw ClosedError("this NUMA block was closed; allocate another");
  return mapping_;
}

std::byte* NumaBlock::data() const { return mapping()->data(); }

Decision NumaBlock::decision() const {
  const auto alive = mapping();
  const std::lock_guard lock(mutex_);
  return decision_;
}

Binding NumaBlock::binding() const {
  const auto alive = mapping();
  const std::lock_guard lock(mutex_);
  return binding_;
}

void NumaBlock::populate() {
  const auto alive = mapping();
  const Decision wanted = decision();
  const bool reserved = alive->discard_unit() != host_page_size();  // those were claimed when they were mapped
  if (wanted.strict && !reserved) {
    const std::uint64_t there = std::min(alive->resident(0, size_), size_);
    require_room(size_ - there, wanted, HugePages::none);
  }
  try {
    alive->populate(0, size_);
  } catch (const NotSupported&) {
    touch(alive->data(), size_);
  }
}

Placement NumaBlock::placement() const {
  const auto alive = mapping();
  return placement_of(alive->data(), size_);
}

Verification NumaBlock::verify() const {
  const auto alive = mapping();
  const Decision wanted = decision();
  Verification result;
  try {
    return judge(wanted, placement_of(alive->data(), size_), granule_);
  } catch (const NotSupported& error) {
    result.reason = error.what();
  }
  if (wanted.everywhere) result.reason += "; but there is usable memory on no other node";
  return result;
}

Migration NumaBlock::migrate(const NumaPolicy& policy) {
  const std::lock_guard one_at_a_time(migrating_);
  const auto alive = mapping();
  const Decision wanted = machine_->decide(policy);
  if (const auto reason = placement_unavailable()) throw NotSupported("nothing was moved: " + *reason);
  const Binding binding = machine_->bind(alive->data(), size_, wanted);
  {
    const std::lock_guard lock(mutex_);
    decision_ = wanted;
    binding_ = binding;
  }
  Migration result = relocate(alive->data(), size_, wanted, granule_);
  result.binding = binding;
  machine_->count_migration(result);
  return result;
}

void NumaBlock::close() noexcept {
  std::shared_ptr<HostMapping> last;  // unmapped after the lock is free
  const std::lock_guard lock(mutex_);
  last.swap(mapping_);
}

bool NumaBlock::closed() const noexcept {
  const std::lock_guard lock(mutex_);
  return mapping_ == nullptr;
}

}  // namespace vm::mem::numa
