#pragma once
/// \file
/// An exit as a Python object: the values, the bytes, and the vCPU that waits for an answer.

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>

#include "vm/accel/exits/exit.hpp"
#include "vm/accel/hypervisor/vcpu.hpp"

template <class T>
struct ExitObject {
  T value;
  pybind11::object data;                  ///< bytes that belong to the exit (IoOut, MmioWrite), or null
  std::shared_ptr<vm::accel::Vcpu> vcpu;  ///< null for an exit that Python code made, or that asks nothing
  std::uint64_t number = 0;               ///< Vcpu::exits() when it happened
};

/// The Python object of the vCPU's last exit. The caller holds the right to use it (Vcpu::Use), as a `close` takes away
/// the bytes that an exit points at.
pybind11::object last_exit_object(const std::shared_ptr<vm::accel::Vcpu>& vcpu);
/// The same of an exit that is a copy; `number`: Vcpu::exits() when it happened.
pybind11::object exit_object(const vm::accel::Exit& exit, const std::shared_ptr<vm::accel::Vcpu>& vcpu,
                             std::uint64_t number);
/// An exit that no vCPU waits on, as if Python code had made it.
pybind11::object exit_object(const vm::accel::Exit& exit);
