#pragma once
/// \file
/// What all VMs of one scripted hypervisor share: the plan, the record and the failures to come.

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "vm/accel/scripted/call.hpp"
#include "vm/accel/scripted/script.hpp"

namespace vm::accel::scripted {

using NudgeCount = std::atomic<std::uint64_t>;

/// Any thread.
class Stage {
 public:
  /// Throws InvalidConfig; see check.
  explicit Stage(Plan plan);

  const Plan& plan() const noexcept { return plan_; }

  /// Writes the call down; when it is its turn to fail, with the error, which is then thrown.
  void take(Call call);
  /// The two halves of `take`, for a call whose outcome is known only at its end. Calls may be left out while there is
  /// nobody to watch them.
  bool watching() const noexcept { return watching_.load(std::memory_order_relaxed); }
  void fail_if_due(Call call);
  void record(Call call);

  std::vector<Call> calls() const;
  void forget_calls();
  void fail(CallKind kind, int code, std::uint64_t nth);

  unsigned next_vm() noexcept { return vms_.fetch_add(1, std::memory_order_relaxed); }
  std::shared_ptr<NudgeCount> nudges(unsigned vm, unsigned vcpu);

 private:
  struct Failure {
    CallKind kind;
    int code;
    std::uint64_t left;  // calls until it is due
  };

  int due(CallKind kind);

  const Plan plan_;
  std::atomic<bool> watching_;
  std::atomic<unsigned> vms_{0};
  mutable std::mutex mutex_;
  std::vector<Call> calls_;        // guarded by mutex_
  std::vector<Failure> failures_;  // guarded by mutex_
  // guarded by mutex_, the map; the counts are added to in signal handlers
  std::map<std::pair<unsigned, unsigned>, std::shared_ptr<NudgeCount>> nudges_;
};

/// Throws what a backend over an operating system would for this errno.
[[noreturn]] void throw_failure(const char* what, int code);

}  // namespace vm::accel::scripted
