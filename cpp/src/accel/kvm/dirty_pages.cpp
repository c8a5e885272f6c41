#include "dirty_pages.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <string>

#include "ioctl.hpp"
#include "vm.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::kvm {
namespace {

mem::MappedPages map_ring(int fd, std::size_t size) {
  const auto offset = static_cast<off_t>(KVM_DIRTY_LOG_PAGE_OFFSET * ::sysconf(_SC_PAGESIZE));
  void* ring = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
  if (ring == MAP_FAILED) throw_errno("mapping the vCPU's dirty ring", errno);
  return {ring, size};
}

}  // namespace

DirtyRing::DirtyRing(unsigned vcpu, int fd, std::uint32_t entries)
    : vcpu_(vcpu), mask_(entries - 1), pages_(map_ring(fd, entries * sizeof(kvm_dirty_gfn))) {}

void DirtyRing::collect(DirtySink& sink) {
  auto* entries = reinterpret_cast<kvm_dirty_gfn*>(pages_.at(0));
  for (;;) {
    kvm_dirty_gfn& entry = entries[next_ & mask_];
    // Acquire pairs with the kernel's release: the entry was written before its flag.
    if ((__atomic_load_n(&entry.flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY) == 0) return;
    sink.page(entry.slot, entry.offset);  // the upper half of `slot` is the address space: 0, memory outside SMM
    // Release pairs with the kernel's acquire in KVM_RESET_DIRTY_RINGS: the entry was read before it may be reused.
    __atomic_store_n(&entry.flags, static_cast<__u32>(KVM_DIRTY_GFN_F_RESET), __ATOMIC_RELEASE);
    ++next_;
  }
}

void KvmDirtyPages::use_manual() {
  if (vm_.capability(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) <= 0)
    throw NotSupported(
        "this kernel's KVM clears dirty bits only when they are read (no "
        "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)");
  if (method_ == DirtyMethod::ring) throw InvalidConfig("this VM uses dirty rings; it cannot go back to bitmaps");
  kvm_enable_cap request{};
  request.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
  request.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
  checked_ioctl(vm_.fd(), KVM_ENABLE_CAP, &request, "KVM_ENABLE_CAP(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)");
  method_ = DirtyMethod::manual;
}

void KvmDirtyPages::use_ring(std::uint32_t entries) {
  // The older capability orders nothing by itself; x86 does not need that (api.rst §8.29).
  const bool ordered = vm_.capability(KVM_CAP_DIRTY_LOG_RING_ACQ_REL) > 0;
  const unsigned number = ordered ? KVM_CAP_DIRTY_LOG_RING_ACQ_REL : KVM_CAP_DIRTY_LOG_RING;
  const int most_bytes = vm_.capability(number);
  if (most_bytes <= 0) throw NotSupported("this kernel's KVM has no dirty rings (KVM_CAP_DIRTY_LOG_RING)");
  const auto most = static_cast<std::uint32_t>(most_bytes) / static_cast<std::uint32_t>(sizeof(kvm_dirty_gfn));
  const auto least =
      static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE)) / static_cast<std::uint32_t>(sizeof(kvm_dirty_gfn));
  if (entries < least || entries > most || (entries & (entries - 1)) != 0)
    throw InvalidConfig("a dirty ring has a power of two of entries from " + std::to_string(least) + " to " +
                        std::to_string(most) + ", asked for " + std::to_string(entries));
  if (method_ == DirtyMethod::ring) throw InvalidConfig("this VM uses dirty rings already");
  kvm_enable_cap request{};
  request.cap = number;
  request.args[0] = entries * sizeof(kvm_dirty_gfn);
  checked_ioctl(vm_.fd(), KVM_ENABLE_CAP, &request, "KVM_ENABLE_CAP(KVM_CAP_DIRTY_LOG_RING)");
  const std::lock_guard<std::mutex> lock(mutex_);
  entries_ = entries;
  method_ = DirtyMethod::ring;
}

void KvmDirtyPages::read(const MemorySlot& slot, std::uint64_t* bitmap) {
  kvm_dirty_log request{};
  request.slot = slot.id;
  request.dirty_bitmap = bitmap;
  checked_ioctl(vm_.fd(), KVM_GET_DIRTY_LOG, &request, "KVM_GET_DIRTY_LOG");
}

void KvmDirtyPages::clear(const MemorySlot& slot, std::uint64_t first, std::uint64_t count,
                          const std::uint64_t* bitmap) {
  constexpr std::uint64_t most = 0xFFFF'FFC0;  // the request counts in 32 bits
  while (count != 0) {
    const std::uint64_t step = std::min(count, most);
    kvm_clear_dirty_log request{};
    request.slot = slot.id;
    request.first_page = first;
    request.num_pages = static_cast<__u32>(step);
    request.dirty_bitmap = const_cast<std::uint64_t*>(bitmap);  // the kernel only reads it
    checked_ioctl(vm_.fd(), KVM_CLEAR_DIRTY_LOG, &request, "KVM_CLEAR_DIRTY_LOG");
    first += step;
    count -= step;
    bitmap += step / 64;
  }
}

void KvmDirtyPages::collect(DirtySink& sink, const unsigned* vcpu) {
  const std::lock_guard<std::mutex> lock(mutex_);
  bool found = vcpu == nullptr;
  for (const auto& ring : rings_) {
    if (vcpu != nullptr && ring->vcpu() != *vcpu) continue;
    ring->collect(sink);
    found = true;
  }
  if (!found) throw OutOfRange("this VM has no vCPU " + std::to_string(*vcpu), *vcpu, 1);
}

std::uint64_t KvmDirtyPages::reset() {
  return static_cast<std::uint64_t>(checked_ioctl(vm_.fd(), KVM_RESET_DIRTY_RINGS, "KVM_RESET_DIRTY_RINGS"));
}

void KvmDirtyPages::add_vcpu(unsigned id, int fd) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (entries_ != 0) rings_.push_back(std::make_unique<DirtyRing>(id, fd, entries_));
}

}  // namespace vm::accel::kvm
