#include "vm/accel/hypervisor/vcpu_state.hpp"

namespace vm::accel {

const char* mp_state_name(MpState state) noexcept {
  switch (state) {
    case MpState::runnable: return "runnable";
    case MpState::uninitialized: return "uninitialized";
    case MpState::init_received: return "init_received";
    case MpState::halted: return "halted";
    case MpState::sipi_received: return "sipi_received";
    case MpState::stopped: return "stopped";
    case MpState::check_stop: return "check_stop";
    case MpState::operating: return "operating";
    case MpState::load: return "load";
    case MpState::ap_reset_hold: return "ap_reset_hold";
    case MpState::suspended: return "suspended";
  }
  return "unknown";
}

}  // namespace vm::accel
