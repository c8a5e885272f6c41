#include "vm/mem/guest/region_pin.hpp"

#include <utility>

#include "vm/core/error.hpp"

namespace vm::mem {

RegionPin::RegionPin(std::shared_ptr<const GuestMemory> memory) : memory_(std::move(memory)) {
  if (memory_ == nullptr) throw InvalidConfig("guest memory is missing; got null");
  renew();
}

const RegionTable& RegionPin::renew() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  // The generation first: a table that is newer than it says is only asked for again.
  const std::uint64_t generation = memory_->generation();
  auto pinned = std::make_unique<const Pinned>(Pinned{generation, memory_->table()});
  all_.push_back(std::move(pinned));
  current_.store(all_.back().get(), std::memory_order_release);
  return *all_.back()->table;
}

}  // namespace vm::mem
