#include "vm/accel/backends/backends.hpp"

#include "vm/accel/kvm/hypervisor.hpp"
#include "vm/accel/kvm/probe.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

struct Backend {
  const char* name;
  BackendInfo (*ask)();
  std::shared_ptr<Hypervisor> (*open)();
};

BackendInfo ask_kvm() {
  const KvmInfo info = probe_kvm();
  return {"kvm", info.available, info.reason};
}

constexpr Backend backends[] = {
    {"kvm", &ask_kvm, [] { return open_kvm(); }},
};

}  // namespace

std::vector<BackendInfo> available_backends() {
  std::vector<BackendInfo> result;
  for (const Backend& backend : backends) result.push_back(backend.ask());
  return result;
}

std::shared_ptr<Hypervisor> create_hypervisor(const std::string& name) {
  std::string reasons;
  bool known = false;
  for (const Backend& backend : backends) {
    if (!name.empty() && name != backend.name) continue;
    known = true;
    const BackendInfo info = backend.ask();
    if (info.works) return backend.open();
    reasons += (reasons.empty() ? "" : "; ") + info.name + ": " + info.reason;
  }
  if (known) throw NotSupported("no hypervisor works here: " + reasons);
  std::string names;
  for (const Backend& backend : backends) names += std::string(names.empty() ? "" : ", ") + backend.name;
  throw InvalidConfig("there is no backend called \"" + name + "\"; this build has: " + names);
}

}  // namespace vm::accel
