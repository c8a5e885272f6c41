#pragma once
/// \file
/// Interrupts through KVM's requests.

#include <mutex>
#include <vector>

#include "vm/accel/hypervisor/interrupts.hpp"

namespace vm::accel::kvm {

class KvmVm;

class KvmInterrupts final : public Interrupts {
 public:
  /// `vm` owns this object.
  explicit KvmInterrupts(const KvmVm& vm) noexcept : vm_(vm) {}

  IrqchipKind irqchip() const override;
  void create_irqchip() override;
  void create_split_irqchip(unsigned pins) override;
  LineStatus set_line(std::uint32_t gsi, bool level) override;
  bool signal(const Msi& message) override;
  std::vector<GsiRoute> routes() const override;
  void set_routes(std::vector<GsiRoute> routes) override;
  void attach_irqfd(std::shared_ptr<EventFd> event, std::uint32_t gsi, std::shared_ptr<EventFd> resample) override;
  void detach_irqfd(const EventFd& event) override;
  std::vector<Irqfd> irqfds() const override;

 private:
  void require_none() const;
  void require_irqchip(const char* what) const;
  std::uint32_t most_routes() const;
  void check_irqfd(const Irqfd& irqfd) const;

  const KvmVm& vm_;
  mutable std::mutex mutex_;
  IrqchipKind kind_ = IrqchipKind::none;  // this and the rest guarded by mutex_
  std::vector<GsiRoute> routes_;          // KVM does not tell them
  std::vector<Irqfd> irqfds_;
};

}  // namespace vm::accel::kvm
