// Uses every library of the package, so that a missing header, symbol or dependency fails the link.

#include <cstdio>

#include "vm/accel/kvm/probe.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/region.hpp"

int main() {
  try {
    vm::mem::RegionTable table({{0x1000, 0, nullptr, true, "empty", nullptr}});
  } catch (const vm::InvalidConfig& refused) {
    const vm::accel::KvmInfo info = vm::accel::probe_kvm("/nonexistent");
    std::printf("consumer works: %s; %s\n", refused.what(), info.reason.c_str());
    return info.available ? 1 : 0;
  }
  return 1;
}
