#pragma once
/// \file
/// ioeventfds and the ring of coalesced writes.

#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

#include "vm/accel/hypervisor/io_events.hpp"
#include "vm/mem/pages/mapping.hpp"

namespace vm::accel::kvm {

class KvmVm;

class KvmIoEvents final : public IoEvents {
 public:
  /// `vm` owns this object.
  explicit KvmIoEvents(const KvmVm& vm) noexcept : vm_(vm) {}

  void attach(const IoEvent& what, std::shared_ptr<EventFd> event) override;
  void detach(const IoEvent& what) override;
  std::vector<IoEvent> attached() const override;
  void coalesce(const CoalescedZone& zone) override;
  void stop_coalescing(const CoalescedZone& zone) override;
  std::vector<CoalescedZone> zones() const override;
  std::vector<CoalescedWrite> collect() override;

  /// The VM's ring can be mapped through any of its vCPUs; the first one that comes is used.
  void map_ring(int vcpu, std::size_t area_size);

 private:
  const KvmVm& vm_;
  mutable std::mutex mutex_;
  std::vector<std::pair<IoEvent, std::shared_ptr<EventFd>>> events_;  // this and the rest guarded by mutex_
  std::vector<CoalescedZone> zones_;
  mem::MappedPages ring_;  // none before the first vCPU
};

}  // namespace vm::accel::kvm
