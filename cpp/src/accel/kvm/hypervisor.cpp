#include "vm/accel/kvm/hypervisor.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <utility>

#include "abi.hpp"
#include "capability_set.hpp"
#include "ioctl.hpp"
#include "vm.hpp"
#include "vm/accel/kvm/probe.hpp"
#include "vm/core/error.hpp"
#include "x86_system.hpp"

namespace vm::accel {
namespace kvm {

System::System(const std::string& path) {
  const KvmInfo info = probe_kvm(path);
  if (!info.available) throw NotSupported("KVM: " + info.reason);
  fd_ = mem::UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd_) throw_errno(path.c_str(), errno);
  vcpu_area_size_ = info.vcpu_mmap_size;
}

int System::capability(unsigned number) const noexcept {
  return ::ioctl(fd_.get(), KVM_CHECK_EXTENSION, static_cast<unsigned long>(number));
}

namespace {

class KvmHypervisor final : public HypervisorBackend {
 public:
  explicit KvmHypervisor(const std::string& path)
      : system_(std::make_shared<System>(path)),
#if defined(__x86_64__)
        x86_(system_->fd()),
#endif
        capabilities_(system_->fd(), -1) {
  }

  std::string name() const override { return "kvm"; }
  Architecture architecture() const noexcept override {
#if defined(__x86_64__)
    return Architecture::x86_64;
#elif defined(__aarch64__)
    return Architecture::aarch64;
#else
    return Architecture::riscv64;
#endif
  }
#if defined(__x86_64__)
  X86System* x86() noexcept override { return &x86_; }
#endif
  Capabilities* capabilities() noexcept override { return &capabilities_; }
  std::shared_ptr<VmBackend> create_vm() override { return std::make_shared<KvmVm>(system_); }
  unsigned max_vcpus() const noexcept override {
    const int most = system_->capability(KVM_CAP_MAX_VCPUS);
    return most > 0 ? static_cast<unsigned>(most) : 4;  // 4 where the kernel does not tell (api.rst §4.7)
  }

 private:
  const std::shared_ptr<const System> system_;
#if defined(__x86_64__)
  KvmX86System x86_;
#endif
  CapabilitySet capabilities_;
};

}  // namespace
}  // namespace kvm

std::shared_ptr<Hypervisor> open_kvm(const std::string& path) {
  return std::make_shared<Hypervisor>(std::make_shared<kvm::KvmHypervisor>(path));
}

}  // namespace vm::accel
