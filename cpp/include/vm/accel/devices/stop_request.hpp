#pragma once
/// \file
/// How a device, or another thread, ends the run of a machine.

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <string>

namespace vm::accel {

enum class StopKind : std::uint8_t {
  exit,       ///< the guest ended with a status
  power_off,  ///< the guest switched the machine off
  reset,      ///< the guest asked to start again
  cancelled,  ///< somebody outside wants it to end
};

/// "exit", "power_off", "reset", "cancelled".
const char* stop_kind_name(StopKind kind) noexcept;

struct StopReason {
  StopKind kind = StopKind::cancelled;
  std::uint32_t status = 0;  ///< what a process would return; only `exit` sets it
  std::string source;        ///< which device, for people
};

/// Any number of threads may call anything at once.
class StopRequest {
 public:
  StopRequest() = default;
  StopRequest(const StopRequest&) = delete;
  StopRequest& operator=(const StopRequest&) = delete;

  /// The first reason counts until `clear`; later ones are dropped. Wakes whoever waits.
  void request(StopReason reason);
  bool requested() const noexcept {
    return requested_.load(std::memory_order_acquire);  // pairs with the release in request()
  }
  std::optional<StopReason> reason() const;
  void clear();

  /// While it lives, `wake` is called by each `request`, on its thread, and at once when the request is there already.
  /// There may be any number of them. `wake` must not call the StopRequest, nor throw.
  class Subscription {
   public:
    Subscription(StopRequest& stop, std::function<void()> wake);
    Subscription(const Subscription&) = delete;
    Subscription& operator=(const Subscription&) = delete;
    ~Subscription();

   private:
    StopRequest& stop_;
    std::list<std::function<void()>>::iterator wake_;
  };

 private:
  mutable std::mutex mutex_;
  std::optional<StopReason> reason_;        // guarded by mutex_
  std::list<std::function<void()>> wakes_;  // guarded by mutex_
  std::atomic<bool> requested_{false};
};

}  // namespace vm::accel
