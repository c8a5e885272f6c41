#include "vm/accel/kvm/probe.hpp"

namespace vm::accel {

KvmInfo probe_kvm(const std::string& path) {
  KvmInfo info;
  info.reason = "KVM is a part of Linux; this system has no " + path;
  return info;
}

}  // namespace vm::accel
