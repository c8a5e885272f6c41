#pragma once
// KVM as a C program would use it, without a library: one VM, one vCPU, and ioctl(KVM_RUN) in a loop over the raw
// kvm_run. Failures are exceptions that nobody expects.

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

namespace bare {

/// Guests that both sides run. Code begins at `entry`; `ring3` runs in long mode at privilege 3 with IOPL 3.
struct Program {
  std::vector<std::uint8_t> code;
  bool ring3;
};

inline constexpr std::uint64_t entry = 0x1000;
inline constexpr std::uint64_t tables = 0x2000;
inline constexpr std::size_t ram = 1 << 16;

// mov dx, 0x3f8; again: out dx, al; jmp again
inline Program port_loop() { return {{0xBA, 0xF8, 0x03, 0xEE, 0xEB, 0xFD}, false}; }
// mov edx, 0x3f8; again: out dx, al; jmp again
inline Program user_port_loop() { return {{0xBA, 0xF8, 0x03, 0x00, 0x00, 0xEE, 0xEB, 0xFD}, true}; }
// again: mov ecx, 100000000; count: dec ecx; jnz count; out 0x80, al; jmp again
inline Program user_count() {
  return {{0xB9, 0x00, 0xE1, 0xF5, 0x05, 0xFF, 0xC9, 0x75, 0xFC, 0xE6, 0x80, 0xEB, 0xF3}, true};
}

/// The first 2 MiB mapped to themselves for user code: present, writable, user; bit 7: a large page.
inline void write_tables(std::uint8_t* memory) {
  const std::uint64_t entries[] = {(tables + 0x1000) | 7, (tables + 0x2000) | 7, 0x87};
  for (std::size_t i = 0; i < 3; ++i) std::memcpy(memory + tables + i * 0x1000, &entries[i], sizeof entries[i]);
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {
    if (fd < 0) throw std::runtime_error(std::string("bare KVM: ") + std::strerror(errno));
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { ::close(fd_); }
  int get() const { return fd_; }

 private:
  int fd_;
};

class Pages {
 public:
  Pages(std::size_t size, int flags, int fd)
      : size_(size), at_(::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0)) {
    if (at_ == MAP_FAILED) throw std::runtime_error("bare KVM: mmap failed");
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() { ::munmap(at_, size_); }
  void* get() const { return at_; }

 private:
  std::size_t size_;
  void* at_;
};

class Machine {
 public:
  explicit Machine(const Program& program)
      : kvm_(::open("/dev/kvm", O_RDWR | O_CLOEXEC)),
        vm_(::ioctl(kvm_.get(), KVM_CREATE_VM, 0UL)),
        memory_(ram, MAP_PRIVATE | MAP_ANONYMOUS, -1),
        vcpu_((map_memory(), ::ioctl(vm_.get(), KVM_CREATE_VCPU, 0UL))),
        area_(static_cast<std::size_t>(check(::ioctl(kvm_.get(), KVM_GET_VCPU_MMAP_SIZE, 0UL))), MAP_SHARED,
              vcpu_.get()) {
    auto* bytes = static_cast<std::uint8_t*>(memory_.get());
    std::memcpy(bytes + entry, program.code.data(), program.code.size());
    write_tables(bytes);
    kvm_sregs sregs{};
    check(::ioctl(vcpu_.get(), KVM_GET_SREGS, &sregs));
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    if (program.ring3) user_mode(sregs);
    check(::ioctl(vcpu_.get(), KVM_SET_SREGS, &sregs));
    kvm_regs regs{};
    regs.rip = entry;
    regs.rflags = program.ring3 ? 0x3002 : 2;
    check(::ioctl(vcpu_.get(), KVM_SET_REGS, &regs));
  }

  /// Runs until `exits` port writes have come out; returns the sum of their bytes.
  std::uint64_t run(std::uint64_t exits) {
    auto* area = static_cast<kvm_run*>(area_.get());
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < exits; ++i) {
      check(::ioctl(vcpu_.get(), KVM_RUN, 0UL));
      if (area->exit_reason != KVM_EXIT_IO || area->io.direction != KVM_EXIT_IO_OUT)
        throw std::runtime_error("bare KVM: exit " + std::to_string(area->exit_reason));
      sum += *(reinterpret_cast<const std::uint8_t*>(area) + area->io.data_offset);
    }
    return sum;
  }

 private:
  static int check(int result) {
    if (result < 0) throw std::runtime_error(std::string("bare KVM: ") + std::strerror(errno));
    return result;
  }

  void map_memory() {
    kvm_userspace_memory_region region{};
    region.memory_size = ram;
    region.userspace_addr = reinterpret_cast<std::uintptr_t>(memory_.get());
    check(::ioctl(vm_.get(), KVM_SET_USER_MEMORY_REGION, &region));
  }

  static void user_mode(kvm_sregs& s) {
    s.cr0 |= 0x80000001;
    s.cr3 = tables;
    s.cr4 |= 0x20;
    s.efer = 0x500;
    for (kvm_segment* data : {&s.ds, &s.es, &s.fs, &s.gs, &s.ss}) {
      *data = {};
      data->limit = 0xFFFFFFFF;
      data->selector = 0x2B;
      data->type = 3;
      data->present = data->s = data->db = data->g = 1;
      data->dpl = 3;
    }
    s.cs = s.ss;
    s.cs.selector = 0x33;
    s.cs.type = 0xB;
    s.cs.db = 0;
    s.cs.l = 1;
  }

  Fd kvm_, vm_;
  Pages memory_;
  Fd vcpu_;
  Pages area_;
};

}  // namespace bare
