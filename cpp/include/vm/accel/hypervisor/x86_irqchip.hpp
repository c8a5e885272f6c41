#pragma once
/// \file
/// The interrupt controllers and the timer of a PC, and what x86 processors want to know before they run.

#include <array>
#include <cstdint>

#include "vm/accel/hypervisor/irq_routing.hpp"

namespace vm::accel {

/// One Intel 8259A (datasheet, order number 231468), bit i of a mask being input i.
struct PicState {
  std::uint8_t last_irr = 0;  ///< the inputs as they were last seen, to find edges
  std::uint8_t irr = 0;       ///< requested
  std::uint8_t imr = 0;       ///< masked
  std::uint8_t isr = 0;       ///< in service
  std::uint8_t priority_add = 0;
  std::uint8_t irq_base = 0;  ///< vector of input 0
  std::uint8_t read_reg_select = 0;
  std::uint8_t poll = 0;
  std::uint8_t special_mask = 0;
  std::uint8_t init_state = 0;  ///< the initialization word that is awaited; 0: none
  std::uint8_t auto_eoi = 0;
  std::uint8_t rotate_on_auto_eoi = 0;
  std::uint8_t special_fully_nested_mode = 0;
  std::uint8_t init4 = 0;
  std::uint8_t elcr = 0;  ///< level-triggered inputs
  std::uint8_t elcr_mask = 0;
};

/// One row of an IOAPIC (Intel 82093AA datasheet, §3.2.4).
struct IoapicRedirection {
  std::uint8_t vector = 0;
  std::uint8_t delivery_mode = 0;  ///< 3 bits, as MsiDelivery
  bool logical = false;            ///< `destination` is a set, not an APIC ID
  bool pending = false;            ///< delivery status
  bool active_low = false;
  bool remote_irr = false;  ///< a level-triggered interrupt is with a processor
  bool level = false;
  bool masked = true;
  std::uint8_t destination = 0;

  std::uint64_t bits() const noexcept;
  /// Bits that mean nothing (17-55) are dropped.
  static IoapicRedirection from_bits(std::uint64_t bits) noexcept;
};

struct IoapicState {
  std::uint64_t base = 0;      ///< guest-physical address
  std::uint32_t selected = 0;  ///< register that IOWIN shows
  std::uint32_t id = 0;
  std::uint32_t irr = 0;  ///< requested inputs
  std::array<IoapicRedirection, 24> redirections{};
};

/// One counter of an Intel 8254 (datasheet, order number 231164).
struct PitChannel {
  std::uint32_t count = 0;  ///< 1 to 65536
  std::uint16_t latched_count = 0;
  std::uint8_t count_latched = 0;
  std::uint8_t status_latched = 0;
  std::uint8_t status = 0;
  std::uint8_t read_state = 0;
  std::uint8_t write_state = 0;
  std::uint8_t write_latch = 0;
  std::uint8_t rw_mode = 0;
  std::uint8_t mode = 0;  ///< 0 to 5
  std::uint8_t bcd = 0;
  std::uint8_t gate = 0;
  std::int64_t loaded_ns = 0;  ///< when the count was loaded, on the hypervisor's clock
};

struct PitState {
  std::array<PitChannel, 3> channels{};
  bool hpet_legacy = false;  ///< an HPET has taken over its interrupt
  bool speaker_on = false;
};

/// Implemented by backends. Any thread may call anything at once. Every call throws PlatformError when the hypervisor
/// refuses, NotSupported naming the capability that is missing; then nothing has changed.
class X86Irqchip {
 public:
  virtual ~X86Irqchip() = default;

  /// Both throw InvalidConfig unless the whole irqchip is the hypervisor's, and for the IOAPIC as `controller`.
  virtual PicState pic(IrqController controller) = 0;
  virtual void set_pic(IrqController controller, const PicState& state) = 0;
  virtual IoapicState ioapic() = 0;
  virtual void set_ioapic(const IoapicState& state) = 0;

  /// A timer at ports 0x40-0x43 that raises GSI 0; with `speaker` it answers at port 0x61 too. Throws InvalidConfig
  /// when there is one, or unless the whole irqchip is the hypervisor's.
  virtual void create_pit(bool speaker) = 0;
  /// These throw InvalidConfig without a timer.
  virtual PitState pit() = 0;
  virtual void set_pit(const PitState& state) = 0;
  /// Whether ticks that the guest was too slow to take are delivered later.
  virtual void set_pit_reinjection(bool on) = 0;

  /// Three pages below 4 GiB that no slot covers; Intel processors that cannot run real mode need them (api.rst §4.36).
  virtual void set_tss_address(std::uint64_t paddr) = 0;
  /// One page likewise (api.rst §4.40); before the first vCPU.
  virtual void set_identity_map_address(std::uint64_t paddr) = 0;
  /// The vCPU that starts; the others wait for its messages. 0 unless set; before the first vCPU.
  virtual void set_boot_vcpu(unsigned id) = 0;
};

}  // namespace vm::accel
