// The bytes of saved states: a version, then records of tag, size and content. Each content is a structure of the
// kernel's interface, or several; its size is a part of the format.

#include "x86_saved.hpp"

#include <cstring>
#include <string>
#include <type_traits>
#include <utility>

#include "vm/core/error.hpp"

namespace vm::accel::kvm {
namespace {

constexpr std::uint32_t version = 1;
// Far above what a processor has; a damaged size must not allocate the machine's memory.
constexpr std::size_t most_bytes = std::size_t{1} << 24;

enum class Tag : std::uint32_t {
  regs = 1,
  sregs,
  sregs2,
  events,
  mp_state,
  debug,
  xcrs,
  xsave,
  lapic,
  msrs,
  cpuid,
  tsc_khz,
  irqchips = 0x100,
  pit,
  clock,
  split_irqchip,
  needs,
};

const char* name_of(Tag tag) noexcept {
  switch (tag) {
    case Tag::regs: return "general registers";
    case Tag::sregs: return "special registers";
    case Tag::sregs2: return "special registers with page-directory pointers";
    case Tag::events: return "pending events";
    case Tag::mp_state: return "activity state";
    case Tag::debug: return "debug registers";
    case Tag::xcrs: return "extended control registers";
    case Tag::xsave: return "XSAVE area";
    case Tag::lapic: return "local APIC";
    case Tag::msrs: return "MSRs";
    case Tag::cpuid: return "CPUID";
    case Tag::tsc_khz: return "TSC frequency";
    case Tag::irqchips: return "interrupt controllers";
    case Tag::pit: return "PIT";
    case Tag::clock: return "clock";
    case Tag::split_irqchip: return "split irqchip";
    case Tag::needs: return "processor features";
  }
  return "record";
}

class Writer {
 public:
  Writer() { put(&version, sizeof version); }

  template <class T>
  void record(Tag tag, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    record(tag, &value, sizeof value);
  }
  template <class T>
  void record(Tag tag, const std::optional<T>& value) {
    if (value) record(tag, *value);
  }
  template <class T>
  void record(Tag tag, const std::vector<T>& values) {
    record(tag, values.data(), values.size() * sizeof(T));
  }

  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  void record(Tag tag, const void* data, std::size_t size) {
    const std::uint32_t head[2] = {static_cast<std::uint32_t>(tag), static_cast<std::uint32_t>(size)};
    put(head, sizeof head);
    put(data, size);
  }
  void put(const void* data, std::size_t size) {
    const auto* from = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), from, from + size);
  }

  std::vector<std::byte> bytes_;
};

class Reader {
 public:
  explicit Reader(const std::vector<std::byte>& bytes) : bytes_(bytes) {
    std::uint32_t found = 0;
    if (bytes.size() < sizeof found || bytes.size() > most_bytes)
      throw InvalidConfig("a saved state of KVM has " + std::to_string(bytes.size()) + " bytes, which cannot be");
    std::memcpy(&found, bytes.data(), sizeof found);
    if (found != version)
      throw InvalidConfig("a saved state of KVM has version " + std::to_string(found) +
                          "; this library reads version " + std::to_string(version));
  }

  template <class T>
  void required(Tag tag, T& value) {
    if (!optional(tag, value)) throw InvalidConfig(std::string("a saved state of KVM lacks its ") + name_of(tag));
  }
  template <class T>
  bool optional(Tag tag, T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto [data, size] = find(tag);
    if (data == nullptr) return false;
    if (size != sizeof(T))
      throw InvalidConfig(std::string("the ") + name_of(tag) + " of a saved state have " + std::to_string(size) +
                          " bytes; this machine's have " + std::to_string(sizeof(T)));
    std::memcpy(&value, data, size);
    return true;
  }
  template <class T>
  void optional(Tag tag, std::optional<T>& value) {
    T found{};
    if (optional(tag, found)) value = found;
  }
  template <class T>
  void optional(Tag tag, std::vector<T>& values) {
    const auto [data, size] = find(tag);
    if (data == nullptr) return;
    if (size % sizeof(T) != 0)
      throw InvalidConfig(std::string("the ") + name_of(tag) + " of a saved state have " + std::to_string(size) +
                          " bytes, not a multiple of " + std::to_string(sizeof(T)));
    values.resize(size / sizeof(T));
    if (size != 0) std::memcpy(values.data(), data, size);
  }

 private:
  struct Found {
    const std::byte* data;
    std::size_t size;
  };

  Found find(Tag tag) const {
    std::size_t at = sizeof version;
    while (at < bytes_.size()) {
      std::uint32_t head[2];
      if (bytes_.size() - at < sizeof head) throw InvalidConfig("a saved state of KVM ends inside a record");
      std::memcpy(head, bytes_.data() + at, sizeof head);
      at += sizeof head;
      if (bytes_.size() - at < head[1]) throw InvalidConfig("a saved state of KVM ends inside a record");
      if (head[0] == static_cast<std::uint32_t>(tag)) return {bytes_.data() + at, head[1]};
      at += head[1];
    }
    return {nullptr, 0};
  }

  const std::vector<std::byte>& bytes_;
};

}  // namespace

std::vector<std::byte> SavedX86Vcpu::bytes() const {
  Writer writer;
  writer.record(Tag::regs, regs);
  writer.record(Tag::sregs, sregs);
  writer.record(Tag::sregs2, sregs2);
  writer.record(Tag::events, events);
  writer.record(Tag::mp_state, mp_state);
  writer.record(Tag::debug, debug);
  writer.record(Tag::xcrs, xcrs);
  writer.record(Tag::xsave, xsave);
  writer.record(Tag::lapic, lapic);
  writer.record(Tag::msrs, msrs);
  writer.record(Tag::cpuid, cpuid);
  writer.record(Tag::tsc_khz, tsc_khz);
  return writer.take();
}

SavedX86Vcpu::SavedX86Vcpu(const std::vector<std::byte>& bytes) {
  Reader reader(bytes);
  reader.required(Tag::regs, regs);
  reader.required(Tag::sregs, sregs);
  reader.optional(Tag::sregs2, sregs2);
  reader.required(Tag::events, events);
  reader.required(Tag::mp_state, mp_state);
  reader.required(Tag::debug, debug);
  reader.required(Tag::xcrs, xcrs);
  reader.optional(Tag::xsave, xsave);
  if (xsave.size() < sizeof(kvm_xsave))
    throw InvalidConfig("the XSAVE area of a saved state has " + std::to_string(xsave.size()) +
                        " bytes; the smallest has " + std::to_string(sizeof(kvm_xsave)));
  reader.optional(Tag::lapic, lapic);
  reader.optional(Tag::msrs, msrs);
  reader.optional(Tag::cpuid, cpuid);
  reader.required(Tag::tsc_khz, tsc_khz);
}

std::vector<std::byte> SavedX86Vm::bytes() const {
  Writer writer;
  writer.record(Tag::irqchips, irqchips);
  writer.record(Tag::pit, pit);
  writer.record(Tag::clock, clock);
  writer.record(Tag::split_irqchip, static_cast<std::uint8_t>(split_irqchip ? 1 : 0));
  writer.record(Tag::needs, needs);
  return writer.take();
}

SavedX86Vm::SavedX86Vm(const std::vector<std::byte>& bytes) {
  Reader reader(bytes);
  reader.optional(Tag::irqchips, irqchips);
  reader.optional(Tag::pit, pit);
  reader.optional(Tag::clock, clock);
  std::uint8_t split = 0;
  reader.required(Tag::split_irqchip, split);
  split_irqchip = split != 0;
  reader.optional(Tag::needs, needs);
}

}  // namespace vm::accel::kvm
