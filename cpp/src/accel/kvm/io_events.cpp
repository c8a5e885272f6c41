#include "io_events.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "abi.hpp"
#include "ioctl.hpp"
#include "vm.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::kvm {
namespace {

std::size_t host_page() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

kvm_ioeventfd request_for(const IoEvent& what, const EventFd& event) noexcept {
  kvm_ioeventfd request{};
  request.addr = what.address;
  request.len = what.size;
  request.fd = event.descriptor();
  request.datamatch = what.match.value_or(0);
  if (what.match) request.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
  if (what.space == IoSpace::port) request.flags |= KVM_IOEVENTFD_FLAG_PIO;
  return request;
}

kvm_coalesced_mmio_zone request_for(const CoalescedZone& zone) noexcept {
  kvm_coalesced_mmio_zone request{};
  request.addr = zone.address;
  request.size = zone.size;
  request.pio = zone.space == IoSpace::port ? 1 : 0;
  return request;
}

bool overlap(const CoalescedZone& a, const CoalescedZone& b) noexcept {
  return a.space == b.space && a.address <= b.address + (b.size - 1) && b.address <= a.address + (a.size - 1);
}

CoalescedWrite from_kvm(const kvm_coalesced_mmio& entry) noexcept {
  CoalescedWrite write;
  write.space = entry.pio != 0 ? IoSpace::port : IoSpace::memory;
  write.address = entry.phys_addr;
  write.size = static_cast<std::uint8_t>(std::min<std::uint32_t>(entry.len, sizeof entry.data));
  std::memcpy(write.data.data(), entry.data, write.size);
  return write;
}

}  // namespace

void KvmIoEvents::attach(const IoEvent& what, std::shared_ptr<EventFd> event) {
  check_io_event(what);
  if (!event) throw InvalidConfig("attaching to " + io_event_text(what) + " needs an event, got none");
  vm_.require(KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD");
  if (what.size == 0) vm_.require(KVM_CAP_IOEVENTFD_ANY_LENGTH, "KVM_CAP_IOEVENTFD_ANY_LENGTH");
  const std::lock_guard<std::mutex> lock(mutex_);
  events_.reserve(events_.size() + 1);  // after the request nothing may fail
  kvm_ioeventfd request = request_for(what, *event);
  try {
    checked_ioctl(vm_.fd(), KVM_IOEVENTFD, &request, "KVM_IOEVENTFD");
  } catch (const PlatformError& error) {
    if (error.code() != EEXIST) throw;
    throw InvalidConfig(std::string(error.what()) + "; an event waits for " + io_event_text(what) +
                        " or for any write there already");
  }
  events_.emplace_back(what, std::move(event));
}

void KvmIoEvents::detach(const IoEvent& what) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = std::find_if(events_.begin(), events_.end(), [&](const auto& e) { return e.first == what; });
  if (found == events_.end()) throw InvalidConfig("no event waits for " + io_event_text(what));
  kvm_ioeventfd request = request_for(what, *found->second);
  request.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
  checked_ioctl(vm_.fd(), KVM_IOEVENTFD, &request, "KVM_IOEVENTFD");
  events_.erase(found);
}

std::vector<IoEvent> KvmIoEvents::attached() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<IoEvent> result;
  for (const auto& entry : events_) result.push_back(entry.first);
  return result;
}

void KvmIoEvents::coalesce(const CoalescedZone& zone) {
  check_zone(zone);
  vm_.require(KVM_CAP_COALESCED_MMIO, "KVM_CAP_COALESCED_MMIO");
  if (zone.space == IoSpace::port) vm_.require(KVM_CAP_COALESCED_PIO, "KVM_CAP_COALESCED_PIO");
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const CoalescedZone& other : zones_) {
    if (!overlap(zone, other)) continue;
    throw InvalidConfig("the zone at " + hex(zone.address) + " overlaps the one of " + std::to_string(other.size) +
                        " bytes at " + hex(other.address));
  }
  zones_.reserve(zones_.size() + 1);
  kvm_coalesced_mmio_zone request = request_for(zone);
  checked_ioctl(vm_.fd(), KVM_REGISTER_COALESCED_MMIO, &request, "KVM_REGISTER_COALESCED_MMIO");
  zones_.push_back(zone);
}

void KvmIoEvents::stop_coalescing(const CoalescedZone& zone) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = std::find(zones_.begin(), zones_.end(), zone);
  if (found == zones_.end()) {
    throw InvalidConfig("there is no zone of " + std::to_string(zone.size) + " bytes at " + hex(zone.address) +
                        "; zones() has those that are");
  }
  kvm_coalesced_mmio_zone request = request_for(zone);
  checked_ioctl(vm_.fd(), KVM_UNREGISTER_COALESCED_MMIO, &request, "KVM_UNREGISTER_COALESCED_MMIO");
  zones_.erase(found);
}

std::vector<CoalescedZone> KvmIoEvents::zones() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return zones_;
}

void KvmIoEvents::map_ring(int vcpu, std::size_t area_size) {
  const std::size_t page = host_page();
  const std::size_t offset = KVM_COALESCED_MMIO_PAGE_OFFSET * page;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (ring_ || area_size < offset + page) return;  // a kernel without a ring refuses zones, too
  void* ring = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, static_cast<off_t>(offset));
  if (ring == MAP_FAILED) throw_errno("mapping the ring of coalesced writes", errno);
  ring_ = mem::MappedPages(ring, page);
}

std::vector<CoalescedWrite> KvmIoEvents::collect() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<CoalescedWrite> writes;
  if (!ring_) return writes;
  auto& ring = *reinterpret_cast<kvm_coalesced_mmio_ring*>(ring_.at(0));
  // As the kernel counts (virt/kvm/coalesced_mmio.c, KVM_COALESCED_MMIO_MAX).
  const auto entries = static_cast<std::uint32_t>((host_page() - sizeof ring) / sizeof(kvm_coalesced_mmio));
  std::uint32_t first = ring.first;  // only this side writes it, under the mutex
  // Acquire: the kernel writes the entry, then `last`.
  const std::uint32_t last = __atomic_load_n(&ring.last, __ATOMIC_ACQUIRE);
  for (; first != last && first < entries && last < entries; first = (first + 1) % entries)
    writes.push_back(from_kvm(ring.coalesced_mmio[first]));
  // Release: the entries are read before the kernel may use them again.
  __atomic_store_n(&ring.first, first, __ATOMIC_RELEASE);
  return writes;
}

}  // namespace vm::accel::kvm
