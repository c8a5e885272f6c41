// The bare KVM_RUN loop for Python's ctypes. Null and 0 mean that KVM refused.

#include <exception>

#include "bare_kvm.hpp"

extern "C" {

void* kvm_loop_open(int ring3) {
  try {
    return new bare::Machine(ring3 != 0 ? bare::user_port_loop() : bare::port_loop());
  } catch (const std::exception&) {
    return nullptr;
  }
}

int kvm_loop_run(void* machine, unsigned long exits) {
  try {
    static_cast<bare::Machine*>(machine)->run(exits);
    return 1;
  } catch (const std::exception&) {
    return 0;
  }
}

void kvm_loop_close(void* machine) { delete static_cast<bare::Machine*>(machine); }
}
