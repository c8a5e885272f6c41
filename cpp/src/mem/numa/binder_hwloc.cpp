#include "mem/numa/binder.hpp"

#if defined(VM_HAVE_HWLOC)

#include <hwloc.h>

#include <cerrno>
#include <cstring>

namespace vm::mem::numa {

namespace {

struct Destroy {
  void operator()(hwloc_topology_t topology) const { hwloc_topology_destroy(topology); }
  void operator()(hwloc_bitmap_t set) const { hwloc_bitmap_free(set); }
};
using Topology = std::unique_ptr<hwloc_topology, Destroy>;
using Bitmap = std::unique_ptr<hwloc_bitmap_s, Destroy>;

class HwlocBinder final : public Binder {
 public:
  explicit HwlocBinder(Topology topology) : topology_(std::move(topology)) {}

  const std::string& name() const noexcept override { return name_; }

  int bind(void* start, std::uint64_t size, const Decision& decision) noexcept override {
    hwloc_membind_policy_t policy = HWLOC_MEMBIND_BIND;
    int flags = HWLOC_MEMBIND_BYNODESET;
    switch (decision.mode) {
      case Mode::bind: flags |= HWLOC_MEMBIND_STRICT; break;
      case Mode::preferred: break;  // a binding that is not strict
      case Mode::interleave: policy = HWLOC_MEMBIND_INTERLEAVE; break;
      case Mode::preferred_many: return ENOSYS;  // hwloc 2.9 has no word for it
    }
    const Bitmap nodes(hwloc_bitmap_alloc());
    if (nodes == nullptr) return ENOMEM;
    for (const int node : decision.nodes) {
      if (hwloc_bitmap_set(nodes.get(), static_cast<unsigned>(node)) != 0) return ENOMEM;
    }
    if (hwloc_set_area_membind(topology_.get(), start, size, nodes.get(), policy, flags) == 0) return 0;
    return errno == 0 ? ENOSYS : errno;
  }

 private:
  const std::string name_ = std::string("hwloc ") + HWLOC_VERSION;
  Topology topology_;
};

}  // namespace

std::unique_ptr<Binder> make_hwloc_binder(std::string& reason) {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) {
    reason = "hwloc has no memory for a topology";
    return nullptr;
  }
  Topology topology(raw);
  // Only nodes matter: caches, cores and devices would cost time for nothing.
  hwloc_topology_set_all_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_NONE);
  if (hwloc_topology_load(raw) != 0) {
    reason = std::string("hwloc cannot read this machine: ") + std::strerror(errno);
    return nullptr;
  }
  if (hwloc_topology_is_thissystem(raw) == 0) {
    reason = "hwloc describes another machine (HWLOC_SYNTHETIC, HWLOC_XMLFILE), on which it binds nothing";
    return nullptr;
  }
  const hwloc_topology_membind_support& support = *hwloc_topology_get_support(raw)->membind;
  if (support.set_area_membind == 0 || support.bind_membind == 0 || support.interleave_membind == 0) {
    reason = "hwloc says that it cannot bind memory here";
    return nullptr;
  }
  return std::make_unique<HwlocBinder>(std::move(topology));
}

}  // namespace vm::mem::numa

#else

namespace vm::mem::numa {

std::unique_ptr<Binder> make_hwloc_binder(std::string& reason) {
  reason = "this build has no hwloc; install libhwloc-dev and pkg-config, and build it again";
  return nullptr;
}

}  // namespace vm::mem::numa

#endif
