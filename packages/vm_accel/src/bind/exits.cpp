// The exits: small frozen classes made for `match`.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>

#include "bind.hpp"
#include "exit_object.hpp"
#include "vm/core/error.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;

namespace {

py::bytes bytes_of(const void* data, std::size_t size) { return {static_cast<const char*>(data), size}; }

template <class T>
py::object data_of(const T& exit) {
  if constexpr (std::is_same_v<T, IoOut>) {
    return bytes_of(exit.data, std::size_t{exit.size} * exit.count);
  } else if constexpr (std::is_same_v<T, MmioWrite>) {
    return bytes_of(exit.data.data(), exit.size);
  } else {
    return {};
  }
}

template <class T>
inline constexpr bool may_be_answered =
    std::is_same_v<T, IoIn> || std::is_same_v<T, MmioRead> || std::is_same_v<T, Hypercall> ||
    std::is_same_v<T, RdMsr> || std::is_same_v<T, WrMsr>;

// --- What every exit class has ---------------------------------------------------------------------------------------

/// The values in the order of __match_args__.
py::tuple fields_of(const py::handle& self) {
  const py::tuple names = self.attr("__match_args__");
  py::tuple result(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) result[i] = self.attr(names[i]);
  return result;
}

std::string repr_of(const py::handle& self) {
  static constexpr const char* in_hex[] = {"port", "paddr", "index", "pc", "dr6", "dr7", "value", "instruction"};
  std::string text = py::type::of(self).attr("__name__").cast<std::string>() + "(";
  for (const py::handle name : self.attr("__match_args__").cast<py::tuple>()) {
    const auto key = name.cast<std::string>();
    const py::object value = self.attr(name);
    if (text.back() != '(') text += ", ";
    text += key + "=";
    bool hexadecimal = false;
    for (const char* candidate : in_hex) hexadecimal = hexadecimal || key == candidate;
    text += hexadecimal && py::isinstance<py::int_>(value) ? vm::hex(value.cast<std::uint64_t>())
                                                           : py::repr(value).cast<std::string>();
  }
  return text + ")";
}

template <class T>
class ExitType {
 public:
  ExitType(py::module_& module, const char* name, const char* doc) : type_(module, name, doc) {
    type_.def("__repr__", [](const py::object& self) { return repr_of(self); })
        .def(
            "__eq__",
            [](const py::object& self, const py::object& other) -> py::object {
              if (!py::type::of(self).is(py::type::of(other)))
                return py::reinterpret_borrow<py::object>(Py_NotImplemented);
              return py::bool_(fields_of(self).equal(fields_of(other)));
            },
            py::is_operator())
        .def("__hash__",
             [](const py::object& self) { return py::hash(py::make_tuple(py::type::of(self), fields_of(self))); })
        .def("__reduce__", [](const py::object& self) { return py::make_tuple(py::type::of(self), fields_of(self)); });
  }
  ~ExitType() { type_.attr("__match_args__") = py::tuple(names_); }
  ExitType(const ExitType&) = delete;
  ExitType& operator=(const ExitType&) = delete;

  template <class M>
  ExitType& field(const char* name, M T::*member, const char* doc) {
    return field(
        name, [member](const ExitObject<T>& self) { return self.value.*member; }, doc);
  }
  template <class F>
  ExitType& field(const char* name, F get, const char* doc, std::enable_if_t<!std::is_member_pointer_v<F>>* = nullptr) {
    type_.def_property_readonly(name, std::move(get), doc);
    names_.append(name);
    return *this;
  }
  py::class_<ExitObject<T>>& type() { return type_; }

 private:
  py::class_<ExitObject<T>> type_;
  py::list names_;
};

template <class T>
ExitObject<T> made(T value, py::object data = {}) {
  return {std::move(value), std::move(data), nullptr, 0};
}

template <class T>
void simple(py::module_& module, const char* name, const char* doc) {
  ExitType<T>(module, name, doc).type().def(py::init([] { return made(T{}); }));
}

// --- Answers ---------------------------------------------------------------------------------------------------------

template <class T>
Vcpu& waiting_vcpu(const ExitObject<T>& self) {
  if (!self.vcpu) throw vm::InvalidConfig("no vCPU waits for an answer to this exit: it did not come from run()");
  if (self.vcpu->exits() != self.number) throw vm::InvalidConfig("the guest has gone on since this exit");
  return *self.vcpu;
}

template <class T>
void reply(const ExitObject<T>& self, const py::object& answer) {
  Vcpu& vcpu = waiting_vcpu(self);
  if (PyIndex_Check(answer.ptr()) == 0) {
    const auto data = py::bytes(answer);
    return vcpu.reply(PyBytes_AS_STRING(data.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(data.ptr())));
  }
  const std::uint64_t number = answer.cast<Unsigned>().value;
  const std::size_t size = reply_size(Exit(self.value));
  if (size > sizeof number)
    throw vm::InvalidConfig("this exit wants " + std::to_string(size) + " bytes; answer with bytes, not a number");
  if (size < sizeof number && number >> (8 * size) != 0)
    throw vm::InvalidConfig(vm::hex(number) + " does not fit the " + std::to_string(size) + " bytes that were read");
  vcpu.reply(&number, size);  // little-endian, as every guest that this runs
}

constexpr const char* reply_doc =
    "Answer the guest with a number or with bytes, once, before the next run.\n\n"
    "Raises InvalidConfig when it does not fit, was answered already, or the guest has gone on.";

template <class T>
void add_reply(ExitType<T>& exit) {
  exit.type().def("reply", &reply<T>, "value"_a, reply_doc);
}

template <class T>
void add_refuse(ExitType<T>& exit) {
  exit.type().def(
      "refuse", [](const ExitObject<T>& self) { waiting_vcpu(self).refuse(); },
      "The access fails with a general-protection fault in the guest.");
}

// --- The classes -----------------------------------------------------------------------------------------------------

std::uint8_t item_size(Unsigned size) {
  if (size.value != 1 && size.value != 2 && size.value != 4)
    throw vm::InvalidConfig("a port access has 1, 2 or 4 bytes, not " + std::to_string(size.value));
  return static_cast<std::uint8_t>(size.value);
}

std::uint8_t access_size(std::uint64_t size) {
  if (size < 1 || size > 8) throw vm::InvalidConfig("a memory access has 1 to 8 bytes, not " + std::to_string(size));
  return static_cast<std::uint8_t>(size);
}

void bind_port_exits(py::module_& module) {
  ExitType<IoIn> in(module, "IoIn", "The guest reads a port: answer with ``reply``.");
  in.field("port", &IoIn::port, "Number of the port.")
      .field("size", &IoIn::size, "Bytes of one item: 1, 2 or 4.")
      .field("count", &IoIn::count, "Items: more than 1 for a string instruction, which wants size * count bytes.")
      .type()
      .def(py::init([](std::uint16_t port, Unsigned size, std::uint32_t count) {
             return made(IoIn{port, item_size(size), count});
           }),
           "port"_a, "size"_a = Unsigned{1}, "count"_a = 1);
  add_reply(in);

  ExitType<IoOut> out(module, "IoOut", "The guest writes to a port.");
  out.field("port", &IoOut::port, "Number of the port.")
      .field(
          "data", [](const ExitObject<IoOut>& self) { return self.data; }, "All bytes, size * count of them.")
      .field("size", &IoOut::size, "Bytes of one item: 1, 2 or 4.")
      .type()
      .def(py::init([](std::uint16_t port, const py::bytes& data, Unsigned size) {
             const auto length = static_cast<std::uint64_t>(PyBytes_GET_SIZE(data.ptr()));
             const std::uint8_t item = item_size(size);
             if (length == 0 || length % item != 0)
               throw vm::InvalidConfig(std::to_string(length) + " bytes are no whole number of items of " +
                                       std::to_string(item));
             return made(IoOut{port, item, static_cast<std::uint32_t>(length / item), nullptr}, data);
           }),
           "port"_a, "data"_a, "size"_a = Unsigned{1})
      .def_property_readonly(
          "count", [](const ExitObject<IoOut>& self) { return self.value.count; },
          "Items: more than 1 for a string instruction.")
      .def_property_readonly(
          "value",
          [](const ExitObject<IoOut>& self) {
            return py::int_(0).attr("from_bytes")(self.data, "little").cast<py::object>();
          },
          "``data`` as one little-endian number.");
}

void bind_mmio_exits(py::module_& module) {
  ExitType<MmioRead> read(module, "MmioRead", "The guest reads where no memory is: answer with ``reply``.");
  read.field("paddr", &MmioRead::paddr, "Guest-physical address.")
      .field("size", &MmioRead::size, "Bytes: 1 to 8.")
      .type()
      .def(py::init([](Unsigned paddr, Unsigned size) {
             return made(MmioRead{paddr.value, access_size(size.value)});
           }),
           "paddr"_a, "size"_a = Unsigned{1});
  add_reply(read);

  ExitType<MmioWrite>(module, "MmioWrite", "The guest writes where no memory is, or where it is read-only.")
      .field("paddr", &MmioWrite::paddr, "Guest-physical address.")
      .field(
          "data", [](const ExitObject<MmioWrite>& self) { return self.data; }, "The bytes: 1 to 8.")
      .type()
      .def(py::init([](Unsigned paddr, const py::bytes& data) {
             MmioWrite write{paddr.value, access_size(static_cast<std::uint64_t>(PyBytes_GET_SIZE(data.ptr()))), {}};
             std::memcpy(write.data.data(), PyBytes_AS_STRING(data.ptr()), write.size);
             return made(write, data);
           }),
           "paddr"_a, "data"_a)
      .def_property_readonly(
          "size", [](const ExitObject<MmioWrite>& self) { return self.value.size; }, "Bytes: 1 to 8.")
      .def_property_readonly(
          "value",
          [](const ExitObject<MmioWrite>& self) {
            return py::int_(0).attr("from_bytes")(self.data, "little").cast<py::object>();
          },
          "``data`` as one little-endian number.");
}

template <class T>
py::tuple words_of(const T& exit) {
  py::tuple result(exit.count);
  for (std::size_t i = 0; i < exit.count; ++i) result[i] = exit.data[i];
  return result;
}

template <class T>
T with_words(T exit, const std::vector<std::uint64_t>& data) {
  if (data.size() > exit.data.size())
    throw vm::InvalidConfig("at most " + std::to_string(exit.data.size()) + " words of data");
  exit.count = static_cast<std::uint32_t>(data.size());
  std::copy(data.begin(), data.end(), exit.data.begin());
  return exit;
}

/// The bytes of the instruction that could not be emulated, where the kernel tells (KVM_INTERNAL_ERROR_EMULATION, flag
/// KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES): word 0 are flags, then a length and 15 bytes.
py::object instruction_of(const InternalError& error) {
  if (error.suberror != 1 || error.count < 3 || (error.data[0] & 1) == 0) return py::none();
  std::array<std::uint8_t, 16> raw{};
  std::memcpy(raw.data(), &error.data[1], raw.size());
  return bytes_of(raw.data() + 1, std::min<std::size_t>(raw[0], raw.size() - 1));
}

void bind_failures(py::module_& module) {
  ExitType<InternalError>(module, "InternalError", "The hypervisor gave up on the guest.")
      .field("suberror", &InternalError::suberror, "1: an instruction that it could not emulate; 2: events collided.")
      .field(
          "data", [](const ExitObject<InternalError>& self) { return words_of(self.value); },
          "What else it said, as numbers.")
      .type()
      .def(py::init([](std::uint32_t suberror, const std::vector<std::uint64_t>& data) {
             InternalError error;
             error.suberror = suberror;
             return made(with_words(error, data));
           }),
           "suberror"_a, "data"_a = py::tuple())
      .def_property_readonly(
          "instruction", [](const ExitObject<InternalError>& self) { return instruction_of(self.value); },
          "Bytes of the instruction that could not be emulated, or None.");

  ExitType<FailEntry>(module, "FailEntry", "The processor refused to enter the guest.")
      .field("reason", &FailEntry::reason, "The hardware's own code.")
      .field("cpu", &FailEntry::cpu, "The host CPU.")
      .type()
      .def(py::init([](Unsigned reason, std::uint32_t cpu) {
             return made(FailEntry{reason.value, cpu});
           }),
           "reason"_a, "cpu"_a = 0);

  ExitType<SystemEvent>(module, "SystemEvent", "The guest asks its platform for something.")
      .field("type", &SystemEvent::type, "1 shutdown, 2 reset, 3 crash, 4 wakeup, 5 suspend.")
      .field(
          "data", [](const ExitObject<SystemEvent>& self) { return words_of(self.value); }, "Details, as numbers.")
      .type()
      .def(py::init([](std::uint32_t type, const std::vector<std::uint64_t>& data) {
             SystemEvent event;
             event.type = type;
             return made(with_words(event, data));
           }),
           "type"_a, "data"_a = py::tuple());

  ExitType<MemoryFault>(module, "MemoryFault", "Memory that the guest may not use like this, or that is not there.")
      .field("paddr", &MemoryFault::paddr, "First guest-physical address.")
      .field("size", &MemoryFault::size, "Bytes.")
      .field("flags", &MemoryFault::flags, "Bit 3: a private access.")
      .type()
      .def(py::init([](Unsigned paddr, Unsigned size, Unsigned flags) {
             return made(MemoryFault{paddr.value, size.value, flags.value});
           }),
           "paddr"_a, "size"_a, "flags"_a = Unsigned{0});

  ExitType<Unknown>(module, "Unknown", "A reason that this version has no name for.")
      .field("code", &Unknown::code, "The hypervisor's own number.")
      .field("hardware", &Unknown::hardware, "The processor's own number, where it is told.")
      .type()
      .def(py::init([](std::uint32_t code, Unsigned hardware) {
             return made(Unknown{code, hardware.value});
           }),
           "code"_a, "hardware"_a = Unsigned{0});
}

void bind_processor_exits(py::module_& module) {
  ExitType<Debug>(module, "Debug", "A breakpoint, watchpoint or single step that was asked for.")
      .field("exception", &Debug::exception, "x86 vector: 1 (#DB) or 3 (#BP).")
      .field("pc", &Debug::pc, "Linear address of the instruction.")
      .field("dr6", &Debug::dr6, "Which condition it was.")
      .field("dr7", &Debug::dr7, "Which were enabled.")
      .type()
      .def(py::init([](std::uint32_t exception, Unsigned pc, Unsigned dr6, Unsigned dr7) {
             return made(Debug{exception, pc.value, dr6.value, dr7.value});
           }),
           "exception"_a, "pc"_a, "dr6"_a = Unsigned{0}, "dr7"_a = Unsigned{0});

  ExitType<Exception>(module, "Exception", "An exception of the guest that was not delivered.")
      .field("vector", &Exception::vector, "Its number.")
      .field("error_code", &Exception::error_code, "Its error code.")
      .type()
      .def(py::init([](std::uint32_t vector, std::uint32_t code) {
             return made(Exception{vector, code});
           }),
           "vector"_a, "error_code"_a = 0);

  ExitType<Hypercall> call(module, "Hypercall", "The guest calls its hypervisor: answer with ``reply``.");
  call.field("number", &Hypercall::number, "What it wants.")
      .field(
          "arguments", [](const ExitObject<Hypercall>& self) { return py::tuple(py::cast(self.value.arguments)); },
          "Six numbers.")
      .field("flags", &Hypercall::flags, "The hypervisor's flags.")
      .type()
      .def(py::init([](Unsigned number, const std::array<std::uint64_t, 6>& arguments, Unsigned flags) {
             return made(Hypercall{number.value, arguments, flags.value});
           }),
           "number"_a, "arguments"_a, "flags"_a = Unsigned{0});
  add_reply(call);

  ExitType<RdMsr> read(module, "RdMsr", "The guest reads a model-specific register: ``reply`` or ``refuse``.");
  read.field("index", &RdMsr::index, "Number of the register.")
      .field("reason", &RdMsr::reason, "Why it came here: 1 invalid, 2 unknown, 4 filtered.")
      .type()
      .def(py::init([](std::uint32_t index, std::uint32_t reason) {
             return made(RdMsr{index, reason});
           }),
           "index"_a, "reason"_a = 0);
  add_reply(read);
  add_refuse(read);

  ExitType<WrMsr> write(module, "WrMsr", "The guest writes a model-specific register: go on, or ``refuse``.");
  write.field("index", &WrMsr::index, "Number of the register.")
      .field("value", &WrMsr::value, "What it writes.")
      .field("reason", &WrMsr::reason, "Why it came here: 1 invalid, 2 unknown, 4 filtered.")
      .type()
      .def(py::init([](std::uint32_t index, Unsigned value, std::uint32_t reason) {
             return made(WrMsr{index, value.value, reason});
           }),
           "index"_a, "value"_a, "reason"_a = 0);
  add_refuse(write);

  ExitType<IoapicEoi>(module, "IoapicEoi", "The guest ended an interrupt of a user-space IOAPIC.")
      .field("vector", &IoapicEoi::vector, "Its vector.")
      .type()
      .def(py::init([](std::uint8_t vector) { return made(IoapicEoi{vector}); }), "vector"_a);

  ExitType<Notify>(module, "Notify", "The guest kept events out for longer than allowed.")
      .field("flags", &Notify::flags, "The hypervisor's flags.")
      .type()
      .def(py::init([](std::uint32_t flags) { return made(Notify{flags}); }), "flags"_a = 0);
}

}  // namespace

py::object last_exit_object(const std::shared_ptr<Vcpu>& vcpu) {
  return exit_object(vcpu->last_exit(), vcpu, vcpu->exits());
}

py::object exit_object(const Exit& exit, const std::shared_ptr<Vcpu>& vcpu, std::uint64_t number) {
  return std::visit(
      [&](const auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (may_be_answered<T>) {
          return py::cast(ExitObject<T>{value, data_of(value), vcpu, number});
        } else {
          return py::cast(ExitObject<T>{value, data_of(value), nullptr, 0});
        }
      },
      exit);
}

py::object exit_object(const Exit& exit) {
  return std::visit([](const auto& value) { return py::cast(made(value, data_of(value))); }, exit);
}

void bind_exits(py::module_& module) {
  simple<Hlt>(module, "Hlt", "The guest executed HLT and nothing in the kernel wakes it up.");
  simple<Shutdown>(module, "Shutdown", "The guest cannot go on by itself: on x86 a triple fault.");
  simple<IrqWindowOpen>(module, "IrqWindowOpen", "The guest can take an interrupt, which was asked to be told.");
  simple<SetTpr>(module, "SetTpr", "The guest's task priority crossed the limit that was set.");
  simple<DirtyRingFull>(module, "DirtyRingFull", "The ring of dirty pages has to be collected first.");
  simple<BusLock>(module, "BusLock", "The guest took a bus lock.");
  simple<Interrupted>(module, "Interrupted", "Somebody called ``kick``.");
  simple<Timeout>(module, "Timeout", "The time that ``run`` was given is over.");
  bind_port_exits(module);
  bind_mmio_exits(module);
  bind_failures(module);
  bind_processor_exits(module);
}
