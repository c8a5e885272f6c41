#pragma once
/// \file
/// Between the area that a vCPU shares with the kernel and `Exit`.

#include <cstddef>

#include "abi.hpp"
#include "vm/accel/exits/exit.hpp"

namespace vm::accel::kvm {

/// What the kernel says in `area` of `size` bytes. What does not fit the area is Unknown: the kernel is trusted, but a
/// pointer is checked before it is handed out.
Exit read_exit(kvm_run& area, std::size_t size) noexcept;

/// Whether KVM_RUN that failed with `code` filled in an exit all the same (memory faults).
bool is_exit_with_error(const kvm_run& area, int code) noexcept;

/// Puts the answer, reply_size(exit) bytes, where the kernel reads it on the next entry.
void write_reply(kvm_run& area, std::size_t size, const Exit& exit, const std::byte* data) noexcept;

}  // namespace vm::accel::kvm
