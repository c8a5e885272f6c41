#pragma once
/// \file
/// A hypervisor without guests: it plays scripts, keeps registers and slots as a real one does, writes down what was
/// asked of it, and fails where told. For testing what is built on `Hypervisor`, on any machine.

#include <cstdint>
#include <memory>
#include <vector>

#include "vm/accel/hypervisor/hypervisor.hpp"
#include "vm/accel/scripted/call.hpp"
#include "vm/accel/scripted/script.hpp"

namespace vm::accel {

namespace scripted {
class Stage;
}

/// Any thread may call anything at once.
class ScriptedHypervisor : public Hypervisor {
 public:
  /// Throws InvalidConfig for a script that cannot be played; see scripted::check.
  explicit ScriptedHypervisor(scripted::Plan plan);

  /// In the order in which they happened. A run stands where it ended.
  std::vector<scripted::Call> calls() const;
  void forget_calls();

  /// The `nth` call of this kind from now on, counted over all VMs and vCPUs, fails as if the operating system had
  /// refused with `code`, an errno: ENOMEM, EMFILE and ENFILE are ResourceExhausted, ENOTTY and EOPNOTSUPP
  /// NotSupported, all others PlatformError. Throws InvalidConfig when `code` or `nth` is 0.
  void fail(scripted::CallKind kind, int code, std::uint64_t nth = 1);

  /// How often a vCPU was asked to come back: kicks, timeouts, and its end while it ran, together.
  std::uint64_t nudges(unsigned vcpu = 0, unsigned vm = 0) const;

 private:
  explicit ScriptedHypervisor(std::shared_ptr<scripted::Stage> stage);

  const std::shared_ptr<scripted::Stage> stage_;
};

}  // namespace vm::accel
