#pragma once
/// \file
/// Devices between Python and C++.

#include <pybind11/pybind11.h>

#include <memory>

#include "vm/accel/devices/bus.hpp"
#include "vm/accel/devices/serial.hpp"

/// A device of this library as it is, or any Python object with read(offset, width) and write(offset, width, value).
/// With the GIL. Throws TypeError.
std::shared_ptr<vm::accel::Device> device_from(const pybind11::object& device);

/// What a serial port's output goes to: a BufferSink, a descriptor or a file object with one, or a function that takes
/// bytes. Null for None. With the GIL. Throws TypeError.
std::shared_ptr<vm::accel::ByteSink> sink_from(const pybind11::object& sink);

/// A DeviceBus as it is; or a new one from a mapping of ports, each an int or a range, to devices. With the GIL.
std::shared_ptr<vm::accel::DeviceBus> bus_from(const pybind11::object& handlers);

void bind_device_types(pybind11::module_& module);
