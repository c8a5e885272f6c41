#include "interrupts.hpp"

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "abi.hpp"
#include "ioctl.hpp"
#include "vm.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::kvm {
namespace {

constexpr const char* needs_no_vcpu = "; an irqchip is created before the first vCPU of its VM";

kvm_irq_routing_entry to_kvm(const GsiRoute& route) noexcept {
  kvm_irq_routing_entry entry{};
  entry.gsi = route.gsi;
  if (const Msi* message = std::get_if<Msi>(&route.target)) {
    entry.type = KVM_IRQ_ROUTING_MSI;
    entry.u.msi.address_lo = static_cast<std::uint32_t>(message->address);
    entry.u.msi.address_hi = static_cast<std::uint32_t>(message->address >> 32);
    entry.u.msi.data = message->data;
  } else {
    const auto& pin = std::get<IrqPin>(route.target);
    entry.type = KVM_IRQ_ROUTING_IRQCHIP;
    entry.u.irqchip.irqchip = static_cast<std::uint32_t>(pin.controller);
    entry.u.irqchip.pin = pin.pin;
  }
  return entry;
}

kvm_irqfd request_for(const Irqfd& irqfd) noexcept {
  kvm_irqfd request{};
  request.fd = static_cast<std::uint32_t>(irqfd.event->descriptor());
  request.gsi = irqfd.gsi;
  if (irqfd.resample) {
    request.flags = KVM_IRQFD_FLAG_RESAMPLE;
    request.resamplefd = static_cast<std::uint32_t>(irqfd.resample->descriptor());
  }
  return request;
}

}  // namespace

IrqchipKind KvmInterrupts::irqchip() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return kind_;
}

void KvmInterrupts::require_none() const {
  if (kind_ == IrqchipKind::none) return;
  throw InvalidConfig(std::string("this VM has an irqchip already (") + irqchip_name(kind_) + ")");
}

void KvmInterrupts::require_irqchip(const char* what) const {
  if (kind_ != IrqchipKind::none) return;
  throw InvalidConfig(std::string(what) + " needs an irqchip; create one before the first vCPU, or inject by hand");
}

std::uint32_t KvmInterrupts::most_routes() const {
  return static_cast<std::uint32_t>(vm_.require(KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"));
}

void KvmInterrupts::create_irqchip() {
  const std::lock_guard<std::mutex> lock(mutex_);
  require_none();
  vm_.require(KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP");
  try {
    checked_ioctl(vm_.fd(), KVM_CREATE_IRQCHIP, "KVM_CREATE_IRQCHIP");
  } catch (const PlatformError& error) {
    if (error.code() != EINVAL) throw;
    throw InvalidConfig(error.what() + std::string(needs_no_vcpu));
  }
  kind_ = IrqchipKind::kernel;
#if defined(__x86_64__)
  routes_ = default_x86_routes();
#endif
}

void KvmInterrupts::create_split_irqchip(unsigned pins) {
  const std::lock_guard<std::mutex> lock(mutex_);
  require_none();
  const std::uint32_t most = most_routes();
  if (pins > most) {
    throw InvalidConfig("a split irqchip has a pin per route and at most " + std::to_string(most) + ", got " +
                        std::to_string(pins));
  }
  try {
    vm_.enable(KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP", pins);
  } catch (const PlatformError& error) {
    if (error.code() != EEXIST) throw;
    throw InvalidConfig(error.what() + std::string(needs_no_vcpu));
  }
  kind_ = IrqchipKind::split;
}

LineStatus KvmInterrupts::set_line(std::uint32_t gsi, bool level) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    require_irqchip("an interrupt line");
  }
  kvm_irq_level request{};
  request.irq = gsi;
  request.level = level ? 1 : 0;
  checked_ioctl(vm_.fd(), KVM_IRQ_LINE_STATUS, &request, "KVM_IRQ_LINE_STATUS");
  if (request.status < 0) return LineStatus::ignored;
  return request.status == 0 ? LineStatus::coalesced : LineStatus::delivered;
}

bool KvmInterrupts::signal(const Msi& message) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    require_irqchip("a message");
  }
  vm_.require(KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI");
  kvm_msi request{};
  request.address_lo = static_cast<std::uint32_t>(message.address);
  request.address_hi = static_cast<std::uint32_t>(message.address >> 32);
  request.data = message.data;
  try {
    return checked_ioctl(vm_.fd(), KVM_SIGNAL_MSI, &request, "KVM_SIGNAL_MSI") > 0;
  } catch (const PlatformError& error) {
    if (error.code() == EPERM) return false;  // its "-1" for a message that no local APIC accepts
    throw;
  }
}

std::vector<GsiRoute> KvmInterrupts::routes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return routes_;
}

void KvmInterrupts::set_routes(std::vector<GsiRoute> routes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  check_routes(routes, kind_, most_routes());
  static_assert(sizeof(kvm_irq_routing) % alignof(kvm_irq_routing_entry) == 0);
  const std::size_t bytes = sizeof(kvm_irq_routing) + routes.size() * sizeof(kvm_irq_routing_entry);
  std::vector<std::uint64_t> storage((bytes + 7) / 8);
  auto* table = reinterpret_cast<kvm_irq_routing*>(storage.data());
  table->nr = static_cast<std::uint32_t>(routes.size());
  std::transform(routes.begin(), routes.end(), table->entries, to_kvm);
  checked_ioctl(vm_.fd(), KVM_SET_GSI_ROUTING, table, "KVM_SET_GSI_ROUTING");
  routes_ = std::move(routes);
}

void KvmInterrupts::check_irqfd(const Irqfd& irqfd) const {
  require_irqchip("an event that raises interrupts");
  vm_.require(KVM_CAP_IRQFD, "KVM_CAP_IRQFD");
  if (!irqfd.event) throw InvalidConfig("attaching to GSI " + std::to_string(irqfd.gsi) + " needs an event, got none");
  if (irqfd.gsi >= most_routes())
    throw InvalidConfig("GSI " + std::to_string(irqfd.gsi) + ": GSIs are numbered below " +
                        std::to_string(most_routes()));
  if (!irqfd.resample) return;
  if (kind_ == IrqchipKind::split)
    throw InvalidConfig("a split irqchip tells the end of an interrupt by IoapicEoi, not by a resample event");
  vm_.require(KVM_CAP_IRQFD_RESAMPLE, "KVM_CAP_IRQFD_RESAMPLE");
}

void KvmInterrupts::attach_irqfd(std::shared_ptr<EventFd> event, std::uint32_t gsi, std::shared_ptr<EventFd> resample) {
  Irqfd irqfd{std::move(event), gsi, std::move(resample)};
  const std::lock_guard<std::mutex> lock(mutex_);
  check_irqfd(irqfd);
  irqfds_.reserve(irqfds_.size() + 1);  // after the request nothing may fail
  kvm_irqfd request = request_for(irqfd);
  try {
    checked_ioctl(vm_.fd(), KVM_IRQFD, &request, "KVM_IRQFD");
  } catch (const PlatformError& error) {
    if (error.code() != EBUSY) throw;
    throw InvalidConfig(std::string(error.what()) + "; this event raises a GSI already, detach it first");
  }
  irqfds_.push_back(std::move(irqfd));
}

void KvmInterrupts::detach_irqfd(const EventFd& event) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found =
      std::find_if(irqfds_.begin(), irqfds_.end(), [&](const Irqfd& irqfd) { return irqfd.event.get() == &event; });
  if (found == irqfds_.end()) throw InvalidConfig("this event raises no interrupt of this VM");
  kvm_irqfd request = request_for(*found);
  request.flags = KVM_IRQFD_FLAG_DEASSIGN;
  checked_ioctl(vm_.fd(), KVM_IRQFD, &request, "KVM_IRQFD");
  irqfds_.erase(found);
}

std::vector<Irqfd> KvmInterrupts::irqfds() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return irqfds_;
}

}  // namespace vm::accel::kvm
