#pragma once
/// \file
/// The exception family of the whole library. A message says what was asked, what was found and what to do.
/// In Python the same names live in `vm_core`; each also derives from the built-in shown on its right.

#include <cstdint>
#include <stdexcept>
#include <string>

#include "vm/core/export.hpp"
#include "vm/core/fault.hpp"

namespace vm {

/// Base of everything that this library throws on purpose.
class VM_API VmError : public std::runtime_error {
 public:
  explicit VmError(const std::string& message);
  ~VmError() override;
};

/// A translation failed (Python: also LookupError).
class VM_API PageFault : public VmError {
 public:
  explicit PageFault(const FaultInfo& info);
  ~PageFault() override;
  const FaultInfo& info() const noexcept { return info_; }

 private:
  FaultInfo info_;
};

/// The target exists but may not be used that way: a write to a read-only image (PermissionError).
class VM_API AccessViolation : public VmError {
 public:
  explicit AccessViolation(const std::string& message);
  ~AccessViolation() override;
};

/// [address, address + size) is not wholly inside the thing addressed (IndexError).
class VM_API OutOfRange : public VmError {
 public:
  OutOfRange(const std::string& message, std::uint64_t address, std::uint64_t size);
  ~OutOfRange() override;
  std::uint64_t address() const noexcept { return address_; }
  std::uint64_t size() const noexcept { return size_; }

 private:
  std::uint64_t address_;
  std::uint64_t size_;
};

/// An argument, option or input file makes no sense (ValueError).
class VM_API InvalidConfig : public VmError {
 public:
  explicit InvalidConfig(const std::string& message);
  ~InvalidConfig() override;
};

/// A correct request that this machine, build or backend cannot serve; names what is missing and on what
/// (NotImplementedError).
class VM_API NotSupported : public VmError {
 public:
  explicit NotSupported(const std::string& message);
  ~NotSupported() override;
};

/// A finite thing ran out: memory, table frames, descriptors (MemoryError).
class VM_API ResourceExhausted : public VmError {
 public:
  explicit ResourceExhausted(const std::string& message);
  ~ResourceExhausted() override;
};

/// The operating system or a hypervisor framework refused (OSError). `code` is errno, or the framework's own code.
class VM_API PlatformError : public VmError {
 public:
  PlatformError(const std::string& message, int code);
  ~PlatformError() override;
  int code() const noexcept { return code_; }

 private:
  int code_;
};

/// The same block was freed twice (RuntimeError).
class VM_API DoubleFree : public VmError {
 public:
  explicit DoubleFree(const std::string& message);
  ~DoubleFree() override;
};

/// The object was closed before this call (ValueError, as for a closed file).
class VM_API ClosedError : public VmError {
 public:
  explicit ClosedError(const std::string& message);
  ~ClosedError() override;
};

/// "0x1f000": addresses in messages always look like this.
std::string hex(std::uint64_t value);

}  // namespace vm
