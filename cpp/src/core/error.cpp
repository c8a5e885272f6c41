#include "vm/core/error.hpp"

#include <cinttypes>
#include <cstdio>

namespace vm {

VmError::VmError(const std::string& message) : std::runtime_error(message) {}
PageFault::PageFault(const FaultInfo& info) : VmError(info.message()), info_(info) {}
AccessViolation::AccessViolation(const std::string& message) : VmError(message) {}
OutOfRange::OutOfRange(const std::string& message, std::uint64_t address, std::uint64_t size)
    : VmError(message), address_(address), size_(size) {}
InvalidConfig::InvalidConfig(const std::string& message) : VmError(message) {}
NotSupported::NotSupported(const std::string& message) : VmError(message) {}
ResourceExhausted::ResourceExhausted(const std::string& message) : VmError(message) {}
PlatformError::PlatformError(const std::string& message, int code) : VmError(message), code_(code) {}
DoubleFree::DoubleFree(const std::string& message) : VmError(message) {}
ClosedError::ClosedError(const std::string& message) : VmError(message) {}

// Out of line so that each class has one vtable and one typeinfo per module, with default visibility.
VmError::~VmError() = default;
PageFault::~PageFault() = default;
AccessViolation::~AccessViolation() = default;
OutOfRange::~OutOfRange() = default;
InvalidConfig::~InvalidConfig() = default;
NotSupported::~NotSupported() = default;
ResourceExhausted::~ResourceExhausted() = default;
PlatformError::~PlatformError() = default;
DoubleFree::~DoubleFree() = default;
ClosedError::~ClosedError() = default;

std::string hex(std::uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%" PRIx64, value);
  return text;
}

}  // namespace vm
