#include "vm/accel/devices/stop_request.hpp"

#include <array>
#include <cstddef>
#include <utility>

namespace vm::accel {

const char* stop_kind_name(StopKind kind) noexcept {
  constexpr std::array<const char*, 4> names = {"exit", "power_off", "reset", "cancelled"};
  return names[static_cast<std::size_t>(kind)];
}

void StopRequest::request(StopReason reason) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (reason_) return;
  reason_ = std::move(reason);
  requested_.store(true, std::memory_order_release);
  for (const std::function<void()>& wake : wakes_) wake();
}

std::optional<StopReason> StopRequest::reason() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return reason_;
}

void StopRequest::clear() {
  const std::lock_guard<std::mutex> lock(mutex_);
  reason_.reset();
  requested_.store(false, std::memory_order_release);
}

StopRequest::Subscription::Subscription(StopRequest& stop, std::function<void()> wake) : stop_(stop) {
  const std::lock_guard<std::mutex> lock(stop.mutex_);
  wake_ = stop.wakes_.insert(stop.wakes_.end(), std::move(wake));
  if (stop.reason_) (*wake_)();
}

StopRequest::Subscription::~Subscription() {
  const std::lock_guard<std::mutex> lock(stop_.mutex_);
  stop_.wakes_.erase(wake_);
}

}  // namespace vm::accel
