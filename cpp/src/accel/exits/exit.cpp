#include "vm/accel/exits/exit.hpp"

namespace vm::accel {
namespace {

constexpr std::array<const char*, exit_reasons> names = {
    "Hlt",       "IoIn",      "IoOut",         "MmioRead", "MmioWrite", "Shutdown",    "InternalError", "FailEntry",
    "Debug",     "Exception", "Hypercall",     "RdMsr",    "WrMsr",     "SystemEvent", "MemoryFault",   "IrqWindowOpen",
    "IoapicEoi", "SetTpr",    "DirtyRingFull", "BusLock",  "Notify",    "Interrupted", "Timeout",       "Unknown"};

template <class T>
constexpr bool is(const Exit& exit) noexcept {
  return std::holds_alternative<T>(exit);
}

}  // namespace

const char* exit_name(const Exit& exit) noexcept { return exit_name(exit.index()); }

const char* exit_name(std::size_t index) noexcept { return names[index]; }

std::size_t reply_size(const Exit& exit) noexcept {
  if (const auto* in = std::get_if<IoIn>(&exit)) return std::size_t{in->size} * in->count;
  if (const auto* read = std::get_if<MmioRead>(&exit)) return read->size;
  return is<Hypercall>(exit) || is<RdMsr>(exit) ? sizeof(std::uint64_t) : 0;
}

}  // namespace vm::accel
