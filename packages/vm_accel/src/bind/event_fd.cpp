// EventFd: a file-like object for asyncio, select and the VMs that it is attached to.

#include "event_fd.hpp"

#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "bind.hpp"
#include "vm/core/error.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using vm::accel::EventFd;

std::shared_ptr<EventFd> PyEvent::get() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!event_) throw vm::ClosedError("this EventFd is closed");
  return event_;
}

void PyEvent::close() noexcept {
  std::shared_ptr<EventFd> last;  // goes after the lock
  const std::lock_guard<std::mutex> lock(mutex_);
  last.swap(event_);
}

bool PyEvent::closed() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return !event_;
}

namespace {

std::string repr(const PyEvent& self) {
  if (self.closed()) return "<EventFd, closed>";
  return "<EventFd, descriptor " + std::to_string(self.get()->descriptor()) + ">";
}

}  // namespace

void bind_event_fd(py::module_& module) {
  EventType(module, "EventFd",
            "A counter behind a descriptor (Linux, eventfd(2)) by which a VM and this process wake each other.\n\n"
            "It works wherever a file does: ``loop.add_reader(event, ...)`` of asyncio, ``select.select([event], [], "
            "[])``. It never blocks. Any thread may call anything at once.")
      .def(py::init([](Unsigned count, bool semaphore) {
             return std::make_unique<PyEvent>(std::make_shared<EventFd>(count.value, semaphore));
           }),
           "count"_a = Unsigned{0}, py::kw_only(), "semaphore"_a = false,
           "``semaphore``: every ``read`` takes 1 instead of the whole count. Raises ResourceExhausted, and "
           "NotSupported "
           "outside Linux.")
      .def_static(
          "from_fd", [](int fd) { return std::make_unique<PyEvent>(EventFd::duplicate_of(fd)); }, "fd"_a,
          "Another name for the eventfd behind ``fd``, which stays the caller's.\n\n"
          "Raises InvalidConfig when it is none, or one that blocks.")
      .def(
          "fileno", [](const PyEvent& self) { return self.get()->descriptor(); },
          "The descriptor, for select and asyncio. Raises ClosedError.")
      .def(
          "read", [](const PyEvent& self) { return self.get()->read(); },
          "Take the count, which is 0 afterwards (a semaphore: 1); None when it is 0 already. Raises ClosedError.")
      .def(
          "write", [](const PyEvent& self, Unsigned count) { self.get()->write(count.value); }, "count"_a = Unsigned{1},
          "Add to the count. Raises ResourceExhausted when it would pass 2**64 - 2, ClosedError.")
      .def("close", &PyEvent::close,
           "Let go of it; twice is fine. VMs that it is attached to keep what they have until they are closed: detach "
           "it there first.")
      .def_property_readonly("closed", &PyEvent::closed, "True after ``close``.")
      .def("__enter__", [](const py::object& self) { return self; })
      .def("__exit__", [](PyEvent& self, const py::args&) { self.close(); })
      .def("__repr__", &repr);
}
