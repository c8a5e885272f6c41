#include "python_source.hpp"

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <utility>

#include "vm/core/error.hpp"

namespace py = pybind11;

namespace {

/// Lets threads of C++ into the interpreter until it ends: a thread that asks for the GIL afterwards would be killed
/// with all that is on its stack.
class Gate {
 public:
  /// False when the interpreter is ending.
  bool enter() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return false;
    ++inside_;
    return true;
  }
  void leave() {
    const std::lock_guard<std::mutex> lock(mutex_);
    --inside_;
    empty_.notify_all();
  }
  /// With the GIL, in the thread that ends the interpreter.
  void close() {
    const py::gil_scoped_release release;
    std::unique_lock<std::mutex> lock(mutex_);
    closed_ = true;
    empty_.wait(lock, [this] { return inside_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable empty_;
  bool closed_ = false;
  int inside_ = 0;
};

class Entered {
 public:
  explicit Entered(Gate& gate) : gate_(gate), inside_(gate.enter()) {}
  Entered(const Entered&) = delete;
  Entered& operator=(const Entered&) = delete;
  ~Entered() {
    if (inside_) gate_.leave();
  }
  explicit operator bool() const noexcept { return inside_; }

 private:
  Gate& gate_;
  bool inside_;
};

/// Python objects that threads of C++ share, with the gate they go through.
class SharedObjects {
 public:
  SharedObjects(py::object first, py::object second) : first_(std::move(first)), second_(std::move(second)) {
    hook_ = py::cpp_function([gate = gate_] { gate->close(); });
    py::module_::import("atexit").attr("register")(hook_);
  }
  SharedObjects(const SharedObjects&) = delete;
  SharedObjects& operator=(const SharedObjects&) = delete;
  ~SharedObjects() {
    const Entered entered(*gate_);
    if (!entered && PyGILState_Check() == 0) {
      // The interpreter is going, and takes its objects along.
      first_.release();
      second_.release();
      hook_.release();
      return;
    }
    const py::gil_scoped_acquire acquire;
    const py::error_scope keep;  // the destructor may run while an exception is on its way
    if (entered) py::module_::import("atexit").attr("unregister")(hook_);
    first_ = py::object();
    second_ = py::object();
    hook_ = py::object();
  }

  Gate& gate() const noexcept { return *gate_; }
  const py::object& first() const noexcept { return first_; }
  const py::object& second() const noexcept { return second_; }

 private:
  py::object first_;
  py::object second_;
  py::object hook_;
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
};

std::string message_of(const py::error_already_set& error) {
  return py::str(error.type().attr("__name__")).cast<std::string>() + ": " + py::str(error.value()).cast<std::string>();
}

void copy_bytes(const py::object& bytes, std::uint64_t offset, std::byte* out, std::size_t size) {
  Py_buffer buffer;
  if (PyObject_GetBuffer(bytes.ptr(), &buffer, PyBUF_SIMPLE) != 0) throw py::error_already_set();
  const auto got = static_cast<std::size_t>(buffer.len);
  if (got == size) std::memcpy(out, buffer.buf, size);
  PyBuffer_Release(&buffer);
  if (got != size) {
    throw vm::InvalidConfig("the page source gave " + std::to_string(got) + " bytes for the " + std::to_string(size) +
                            " at offset " + std::to_string(offset));
  }
}

class PythonSource : public vm::mem::PageSource {
 public:
  PythonSource(py::object source, py::object check) : objects_(std::move(source), std::move(check)) {}

  void fill(std::uint64_t offset, std::byte* out, std::size_t size) override {
    const Entered entered(objects_.gate());
    if (!entered) throw vm::ClosedError("the interpreter of this page source is ending");
    const bool callers_thread = PyGILState_GetThisThreadState() != nullptr;
    const py::gil_scoped_acquire acquire;
    try {
      copy_bytes(objects_.first()(offset, size), offset, out, size);
    } catch (py::error_already_set& error) {
      if (callers_thread) throw;
      // A handler thread only needs the message, and must be able to drop the exception without the GIL.
      throw vm::VmError(message_of(error));
    }
  }

  bool needs_caller_lock() const noexcept override { return true; }

  std::shared_ptr<void> before_wait() const override {
    if (!objects_.second().is_none()) {
      const py::gil_scoped_acquire acquire;
      objects_.second()();
    }
    if (PyGILState_Check() == 0) return nullptr;
    return std::make_shared<py::gil_scoped_release>();
  }

  void check_interrupt() const override {
    const py::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }

 private:
  const SharedObjects objects_;
};

}  // namespace

std::shared_ptr<vm::mem::PageSource> python_source(py::object source, py::object check) {
  return std::make_shared<PythonSource>(std::move(source), std::move(check));
}

std::function<void(std::uint64_t, const std::string&)> python_on_error(py::object callback) {
  return [objects = std::make_shared<SharedObjects>(std::move(callback), py::none())](std::uint64_t offset,
                                                                                      const std::string& message) {
    const Entered entered(objects->gate());
    if (!entered) return;
    const py::gil_scoped_acquire acquire;
    try {
      objects->first()(offset, message);
    } catch (py::error_already_set& error) {
      error.discard_as_unraisable(objects->first());
    }
  };
}
