#include "vm/accel/devices/test_device.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "vm/core/error.hpp"

namespace vm::accel {

std::uint64_t EchoPort::read(std::uint64_t /*offset*/, unsigned /*width*/) {
  return value_.load(std::memory_order_relaxed);
}

void EchoPort::write(std::uint64_t /*offset*/, unsigned width, std::uint64_t value) {
  const std::uint32_t mask = width >= 4 ? ~0U : (1U << (8 * width)) - 1;
  value_.store(static_cast<std::uint32_t>(value) & mask, std::memory_order_relaxed);
}

std::uint64_t PageFlushPort::read(std::uint64_t /*offset*/, unsigned /*width*/) { return ~std::uint64_t{0}; }

void PageFlushPort::write(std::uint64_t /*offset*/, unsigned /*width*/, std::uint64_t value) {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t paddr = value / page * page;
  const auto table = memory_->table();
  std::byte* host = table->writable_at(paddr, page);
  if (host == nullptr || reinterpret_cast<std::uintptr_t>(host) % page != 0) return;
  // Each change of the host's page tables makes the hypervisor forget what it derived from them.
  for (const int protection : {PROT_READ, PROT_READ | PROT_WRITE}) {
    if (::mprotect(host, page, protection) != 0)
      throw PlatformError("mprotect of a guest page: " + std::string(std::strerror(errno)), errno);
  }
}

std::uint64_t IrqLinePorts::read(std::uint64_t /*offset*/, unsigned /*width*/) { return ~std::uint64_t{0}; }

void IrqLinePorts::write(std::uint64_t offset, unsigned /*width*/, std::uint64_t value) {
  set_(static_cast<unsigned>(offset), value != 0);
}

MemoryDevice::MemoryDevice(std::uint64_t bytes) : bytes_(bytes) {}

namespace {

void check(std::uint64_t offset, unsigned width, std::uint64_t size) {
  if (width > size || offset > size - width)
    throw OutOfRange("a memory device of " + hex(size) + " bytes has no " + hex(offset), offset, width);
}

}  // namespace

std::uint64_t MemoryDevice::read(std::uint64_t offset, unsigned width) {
  check(offset, width, bytes_.size());
  const std::lock_guard<std::mutex> lock(mutex_);
  std::uint64_t value = 0;
  for (unsigned i = 0; i < width; ++i) value |= std::to_integer<std::uint64_t>(bytes_[offset + i]) << (8 * i);
  return value;
}

void MemoryDevice::write(std::uint64_t offset, unsigned width, std::uint64_t value) {
  check(offset, width, bytes_.size());
  const std::lock_guard<std::mutex> lock(mutex_);
  for (unsigned i = 0; i < width; ++i) bytes_[offset + i] = static_cast<std::byte>(value >> (8 * i));
}

}  // namespace vm::accel
