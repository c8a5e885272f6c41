#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "vm/accel/kvm/probe.hpp"

namespace vm::accel {
namespace {

// Linux, include/uapi/linux/kvm.h: KVMIO and the three questions that need no VM.
constexpr unsigned kvm_io = 0xAE;
constexpr unsigned long get_api_version = _IO(kvm_io, 0x00);
constexpr unsigned long check_extension = _IO(kvm_io, 0x03);
constexpr unsigned long get_vcpu_mmap_size = _IO(kvm_io, 0x04);

class Device {
 public:
  // Read-write, as creating a VM later needs it; O_NONBLOCK so that a path that names a pipe cannot hang the probe.
  explicit Device(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK)) {}
  ~Device() {
    if (fd_ >= 0) ::close(fd_);
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  bool is_open() const noexcept { return fd_ >= 0; }
  int ask(unsigned long request, unsigned long argument = 0) const noexcept { return ::ioctl(fd_, request, argument); }

 private:
  int fd_;
};

std::string why_not_open(const std::string& path, int code) {
  const std::string found = path + ": " + std::strerror(code);
  switch (code) {
    case ENOENT:
      return found +
             "; the kernel has no KVM module loaded, or this is a virtual machine without nested virtualization"
             " (try: modprobe kvm_intel, or modprobe kvm_amd)";
    case EACCES:
    case EPERM: return found + "; add the user to the group that owns the device (usually kvm)";
    case ENODEV:
    case ENXIO:
      return found + "; the device node exists, but no driver is behind it (try: modprobe kvm_intel or kvm_amd)";
    default: return found;
  }
}

}  // namespace

KvmInfo probe_kvm(const std::string& path) {
  KvmInfo info;
  const Device device(path);
  if (!device.is_open()) {
    info.reason = why_not_open(path, errno);
    return info;
  }
  info.api_version = device.ask(get_api_version);
  if (info.api_version < 0) {
    info.reason = path + " is not a KVM device: it does not answer KVM_GET_API_VERSION (" + std::strerror(errno) + ")";
    return info;
  }
  if (info.api_version != kvm_api_version) {
    info.reason = path + " speaks KVM API version " + std::to_string(info.api_version) + ", this library version " +
                  std::to_string(kvm_api_version);
    return info;
  }
  const int size = device.ask(get_vcpu_mmap_size);
  if (size <= 0) {
    info.reason = path + " does not tell the size of a vCPU's shared area (KVM_GET_VCPU_MMAP_SIZE)";
    return info;
  }
  info.vcpu_mmap_size = static_cast<std::size_t>(size);
  for (const KvmCapability& capability : kvm_capabilities()) {
    const int value = device.ask(check_extension, capability.number);
    info.capabilities.push_back({capability, value < 0 ? 0 : value});
  }
  info.available = true;
  return info;
}

}  // namespace vm::accel
