#pragma once
/// \file
/// A vCPU of this machine's hypervisor for tests of x86 state.

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "vm/accel/backends/backends.hpp"
#include "vm/accel/hypervisor/capabilities.hpp"
#include "vm/accel/hypervisor/hypervisor.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/accel/hypervisor/x86_system.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {

class StateOfX86 : public testing::Test {
 protected:
  void SetUp() override {
    try {
      hypervisor_ = create_hypervisor();
    } catch (const NotSupported& error) {
      GTEST_SKIP() << error.what();
    }
    if (hypervisor_->architecture() != Architecture::x86_64) GTEST_SKIP() << "the state of x86";
    vm_ = hypervisor_->create_vm();
  }

  /// With everything that the hypervisor supports, so that nothing is refused for want of a feature.
  std::shared_ptr<Vcpu> vcpu() {
    auto vcpu = vm_->create_vcpu();
    CpuidTable table = hypervisor_->x86()->supported_cpuid();
    table.place({vcpu->id(), 1, 4});
    vcpu->x86()->set_cpuid(table);
    return vcpu;
  }

  bool can(const char* capability) { return vm_->capabilities()->check(capability) > 0; }

  std::shared_ptr<Hypervisor> hypervisor_;
  std::shared_ptr<Vm> vm_;
};

/// What `refused` throws names `part`.
template <class Error, class Call>
void expect_named(Call refused, const std::string& part) {
  try {
    refused();
    ADD_FAILURE() << "nothing was thrown; expected a message with " << part;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

}  // namespace vm::accel
