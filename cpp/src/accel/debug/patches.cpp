#include "patches.hpp"

#include "vm/core/error.hpp"

namespace vm::accel {

void Patches::Patch::put() noexcept {
  original = *at.host;
  *at.host = trap;
}

void Patches::Patch::take() noexcept {
  if (*at.host == trap) *at.host = original;
}

void Patches::add(const mem::GuestMemory& memory, std::uint64_t paddr, std::byte trap) {
  const auto found = patches_.find(paddr);
  if (found != patches_.end()) {
    ++found->second.users;
    return;
  }
  Patch patch{memory.view(paddr, 1), trap, {}, 1};
  if (!patch.at.writable) {
    throw AccessViolation("a software breakpoint at physical address " + hex(paddr) +
                          " would have to be written into read-only memory; use a hardware breakpoint");
  }
  patches_.emplace(paddr, std::move(patch)).first->second.put();
}

void Patches::drop(std::uint64_t paddr) noexcept {
  const auto found = patches_.find(paddr);
  if (found == patches_.end() || --found->second.users != 0) return;
  found->second.take();
  patches_.erase(found);
}

void Patches::clear() noexcept {
  for (auto& [paddr, patch] : patches_) patch.take();
  patches_.clear();
}

void Patches::hide(std::uint64_t paddr, std::byte* bytes, std::size_t size) const noexcept {
  for (auto at = patches_.lower_bound(paddr); at != patches_.end() && at->first - paddr < size; ++at) {
    std::byte& byte = bytes[at->first - paddr];
    if (byte == at->second.trap) byte = at->second.original;
  }
}

void Patches::written(std::uint64_t paddr, std::size_t size) noexcept {
  for (auto at = patches_.lower_bound(paddr); at != patches_.end() && at->first - paddr < size; ++at) at->second.put();
}

Patches::Lifted::Lifted(Patches& patches, std::uint64_t paddr) noexcept : patches_(patches), paddr_(paddr) {
  const auto found = patches_.patches_.find(paddr_);
  if (found != patches_.patches_.end()) found->second.take();
}

Patches::Lifted::~Lifted() {
  const auto found = patches_.patches_.find(paddr_);
  if (found != patches_.patches_.end()) found->second.put();
}

}  // namespace vm::accel
