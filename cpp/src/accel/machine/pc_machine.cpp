#include "vm/accel/machine/pc_machine.hpp"

#include <algorithm>
#include <string>

#include "vm/accel/boot/memory_map.hpp"
#include "vm/accel/devices/cmos.hpp"
#include "vm/accel/devices/fw_cfg.hpp"
#include "vm/accel/devices/ports.hpp"
#include "vm/accel/devices/test_device.hpp"
#include "vm/accel/hypervisor/interrupts.hpp"
#include "vm/accel/hypervisor/x86_irqchip.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/accel/hypervisor/x86_system.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

// Below 4 GiB, where firmware would lie: no RAM, no device (Linux, Documentation/virt/kvm/api.rst §4.36, §4.40).
constexpr std::uint64_t identity_map_address = 0xFFFBC000, tss_address = 0xFFFBD000;

/// What firmware leaves in the two 8259A: initialized, nothing masked, vectors where real mode has them (IBM PC/AT
/// Technical Reference, "System BIOS"). A guest that wants others initializes them anew.
void initialize_pics(X86Irqchip& chips) {
  constexpr std::uint8_t master_base = 0x08, slave_base = 0x70;
  for (const IrqController pic : {IrqController::pic_master, IrqController::pic_slave}) {
    PicState state = chips.pic(pic);
    state.irq_base = pic == IrqController::pic_master ? master_base : slave_base;
    state.imr = 0;
    chips.set_pic(pic, state);
  }
}

/// What firmware leaves in the first processor (Intel MultiProcessor Specification 1.4, §3.6.2.3 "Virtual Wire Mode"):
/// the PIC's output at LINT0, NMI at LINT1.
void wire_pic(Vcpu& vcpu) {
  constexpr std::uint32_t lint0 = 0x350, lint1 = 0x360, external = 0x700, nmi = 0x400;
  X86Lapic lapic = vcpu.x86()->lapic();
  lapic.write(lint0, external);
  lapic.write(lint1, nmi);
  vcpu.x86()->set_lapic(lapic);
}

/// And in all of them: memory without a range register of its own is cached (SDM vol. 3 §12.11.2.1).
void cache_memory(Vcpu& vcpu) {
  constexpr std::uint32_t mtrr_def_type = 0x2FF;
  constexpr std::uint64_t enabled_write_back = 1 << 11 | 6;
  vcpu.x86()->set_msrs({{mtrr_def_type, enabled_write_back}});
}

}  // namespace

PcMachine::PcMachine(const std::shared_ptr<Hypervisor>& hypervisor, const PcOptions& options) {
  if (hypervisor->architecture() != Architecture::x86_64)
    throw NotSupported(std::string("a PC needs an x86 hypervisor; this one runs ") +
                       architecture_name(hypervisor->architecture()));
  const unsigned most = std::min(hypervisor->max_vcpus(), 255U);  // one byte is the APIC ID in CPUID leaf 1
  if (options.cpus < 1 || options.cpus > most)
    throw InvalidConfig("a machine has 1 to " + std::to_string(most) + " processors here, not " +
                        std::to_string(options.cpus));
  memory_ = boot::pc_memory(options.memory);
  vm_ = hypervisor->create_vm();
  vm_->map(*memory_);
  const auto chips = vm_->x86_irqchip();
  chips->set_identity_map_address(identity_map_address);
  chips->set_tss_address(tss_address);
  vm_->interrupts()->create_irqchip();
  initialize_pics(*chips);
  chips->create_pit(true);
  add_devices(options);
  add_vcpus(*hypervisor, options.cpus);
}

PcMachine::~PcMachine() { close(); }

void PcMachine::add_devices(const PcOptions& options) {
  const std::shared_ptr<Interrupts> interrupts = vm_->interrupts();
  serial_ = std::make_shared<Serial>(options.serial,
                                     [interrupts](bool high) { interrupts->set_line(Serial::com1_irq, high); });
  constexpr std::uint64_t four_gib = std::uint64_t{4} << 30;
  std::uint64_t high = 0;
  for (const mem::Region& region : memory_->table()->regions())
    if (region.base >= four_gib) high += region.size;
  bus_->add_ports(Serial::com1, Serial::ports, serial_, "serial");
  bus_->add_ports(DebugExit::port, DebugExit::ports, std::make_shared<DebugExit>(stop_), "debug-exit");
  bus_->add_ports(PowerOffPort::port, 1, std::make_shared<PowerOffPort>(stop_), "power-off");
  bus_->add_ports(KeyboardController::port, KeyboardController::ports, std::make_shared<KeyboardController>(stop_),
                  "keyboard controller");
  bus_->add_ports(EmptyPci::port, EmptyPci::ports, std::make_shared<EmptyPci>(stop_), "pci");
  bus_->add_ports(IgnoredPort::post, 1, std::make_shared<IgnoredPort>(), "progress codes");
  bus_->add_ports(Cmos::port, Cmos::ports, std::make_shared<Cmos>(memory_->size() - high, high, options.cpus), "clock");
  bus_->add_ports(FwCfg::port, FwCfg::ports,
                  std::make_shared<FwCfg>(memory_->size(), static_cast<std::uint16_t>(options.cpus)), "fw_cfg");
  if (options.test_device) add_test_devices();
}

void PcMachine::add_test_devices() {
  const std::shared_ptr<Interrupts> interrupts = vm_->interrupts();
  bus_->add_ports(EchoPort::port, EchoPort::ports, std::make_shared<EchoPort>(), "test echo");
  bus_->add_ports(PageFlushPort::port, PageFlushPort::ports, std::make_shared<PageFlushPort>(memory_),
                  "test page flush");
  bus_->add_ports(
      IrqLinePorts::port, IrqLinePorts::ports,
      std::make_shared<IrqLinePorts>([interrupts](unsigned line, bool level) { interrupts->set_line(line, level); }),
      "test interrupts");
  bus_->add_memory(MemoryDevice::base, MemoryDevice::size, std::make_shared<MemoryDevice>(), "test memory");
}

void PcMachine::add_vcpus(const Hypervisor& hypervisor, unsigned count) {
  CpuidTable table = hypervisor.x86()->supported_cpuid();
  table.set_feature("hypervisor", true);
  // The kernel's list leaves it out, because it works only together with the kernel's interrupt controllers.
  table.set_feature("tsc_deadline_timer", true);
  for (unsigned id = 0; id < count; ++id) {
    const auto vcpu = vm_->create_vcpu(id);
    table.place({id, 1, count});
    vcpu->x86()->set_cpuid(table);
    if (table.has("mtrr")) cache_memory(*vcpu);
    vcpus_.push_back(vcpu);
  }
  wire_pic(*vcpus_.front());
}

boot::LoadedImage PcMachine::load(const boot::Image& image, const boot::LoadOptions& options) {
  const boot::LoadedImage loaded = boot::load(memory_, image, options);
  boot::enter(memory_, *vcpus_.front(), loaded);
  return loaded;
}

LoopResult PcMachine::run(const LoopOptions& options) { return run_vm(*vm_, *bus_, *stop_, options); }

void PcMachine::close() noexcept { vm_->close(); }

}  // namespace vm::accel
