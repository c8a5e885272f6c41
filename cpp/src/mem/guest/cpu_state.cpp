#include "vm/mem/guest/cpu_state.hpp"

namespace vm::mem {

namespace {

std::optional<std::uint64_t> first_of(const CpuState& state, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    if (const auto value = state.get(name)) return value;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> CpuState::get(std::string_view name) const {
  for (const Register& reg : registers) {
    if (reg.name == name) return reg.value;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> CpuState::program_counter() const { return first_of(*this, {"rip", "eip", "pc"}); }

std::optional<std::uint64_t> CpuState::stack_pointer() const { return first_of(*this, {"rsp", "esp", "sp"}); }

}  // namespace vm::mem
