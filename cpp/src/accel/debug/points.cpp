#include "points.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

HardwareBreakpoint use_of(const Breakpoint& point) noexcept {
  return {point.vaddr, 1, HardwareBreakpoint::Kind::execute};
}

HardwareBreakpoint use_of(const Watchpoint& point) noexcept {
  return {point.vaddr, point.size, point.read ? HardwareBreakpoint::Kind::read_write : HardwareBreakpoint::Kind::write};
}

/// Every use once, however many points share it.
template <class Breakpoints, class Watched>
std::vector<HardwareBreakpoint> uses(const Breakpoints& breakpoints, const Watched& watched,
                                     std::optional<std::uint64_t> except) {
  std::vector<HardwareBreakpoint> result;
  const auto add = [&result](const HardwareBreakpoint& use) {
    if (std::find(result.begin(), result.end(), use) == result.end()) result.push_back(use);
  };
  for (const Breakpoint& point : breakpoints) {
    if (point.hardware && except != point.vaddr) add(use_of(point));
  }
  for (const auto& entry : watched) {
    if (entry.point.hardware) add(use_of(entry.point));
  }
  return result;
}

}  // namespace

GuestDebugSettings Points::settings(std::optional<std::uint64_t> except) const {
  GuestDebugSettings settings;
  settings.software_breakpoints =
      std::any_of(breakpoints_.begin(), breakpoints_.end(), [](const Breakpoint& point) { return !point.hardware; });
  std::size_t slot = 0;
  for (const HardwareBreakpoint& use : uses(breakpoints_, watched_, except)) settings.hardware[slot++] = use;
  return settings;
}

bool Points::stepping() const noexcept {
  return std::any_of(watched_.begin(), watched_.end(), [](const Watched& entry) { return !entry.point.hardware; });
}

void Points::check_registers() const {
  const std::size_t needed = uses(breakpoints_, watched_, {}).size();
  if (needed <= GuestDebugSettings::registers) return;
  throw ResourceExhausted("all " + std::to_string(GuestDebugSettings::registers) +
                          " debug registers are in use by hardware breakpoints and watchpoints; remove one of them, or "
                          "use a software breakpoint or a stepping watchpoint");
}

const Breakpoint& Points::add(Breakpoint point) {
  point.id = next_id_;
  breakpoints_.push_back(point);
  try {
    check_registers();
  } catch (...) {
    breakpoints_.pop_back();
    throw;
  }
  ++next_id_;
  return breakpoints_.back();
}

const Watchpoint& Points::add(Watched entry) {
  entry.point.id = next_id_;
  if (!entry.point.hardware) std::memcpy(entry.value.data(), entry.bytes.host, entry.point.size);
  watched_.push_back(std::move(entry));
  try {
    check_registers();
  } catch (...) {
    watched_.pop_back();
    throw;
  }
  ++next_id_;
  return watched_.back().point;
}

std::optional<Breakpoint> Points::remove(unsigned id) {
  const auto breakpoint =
      std::find_if(breakpoints_.begin(), breakpoints_.end(), [id](const Breakpoint& point) { return point.id == id; });
  if (breakpoint != breakpoints_.end()) {
    const Breakpoint removed = *breakpoint;
    breakpoints_.erase(breakpoint);
    return removed;
  }
  const auto watchpoint =
      std::find_if(watched_.begin(), watched_.end(), [id](const Watched& entry) { return entry.point.id == id; });
  if (watchpoint == watched_.end())
    throw OutOfRange("no breakpoint and no watchpoint has the id " + std::to_string(id), id, 1);
  watched_.erase(watchpoint);
  return std::nullopt;
}

void Points::clear() noexcept {
  breakpoints_.clear();
  watched_.clear();
}

Breakpoint* Points::at(std::uint64_t pc, std::optional<std::uint64_t> paddr) noexcept {
  for (Breakpoint& point : breakpoints_) {
    if (point.hardware ? point.vaddr == pc : paddr && point.paddr == *paddr) return &point;
  }
  return nullptr;
}

Breakpoint* Points::breakpoint_of(const HardwareBreakpoint& used) noexcept {
  for (Breakpoint& point : breakpoints_) {
    if (point.hardware && use_of(point) == used) return &point;
  }
  return nullptr;
}

Watchpoint* Points::watchpoint_of(const HardwareBreakpoint& used) noexcept {
  for (Watched& entry : watched_) {
    if (entry.point.hardware && use_of(entry.point) == used) return &entry.point;
  }
  return nullptr;
}

Watchpoint* Points::changed() noexcept {
  Watchpoint* first = nullptr;
  for (Watched& entry : watched_) {
    if (entry.point.hardware || std::memcmp(entry.value.data(), entry.bytes.host, entry.point.size) == 0) continue;
    std::memcpy(entry.value.data(), entry.bytes.host, entry.point.size);
    if (first == nullptr) first = &entry.point;
  }
  return first;
}

}  // namespace vm::accel
