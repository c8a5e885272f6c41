"""Interrupts and events from Python: what a person writes, and what belongs to the language (files, asyncio)."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import vm_accel
from accel.guests import FOREVER, HALT, kvm_vm, real_mode_vcpu
from vm_accel import (
    EventFd,
    Hlt,
    Interrupted,
    IoOut,
    IrqWindowOpen,
    KernelDeviceKind,
    MmioWrite,
    RdMsr,
    Timeout,
    Vcpu,
    Vm,
    WrMsr,
)
from vm_accel.interrupts import (
    GsiRoute,
    IoapicRedirection,
    IrqController,
    IrqPin,
    LineStatus,
    Msi,
    MsiDelivery,
    PicState,
)
from vm_accel.x86 import MsrRange
from vm_core import ClosedError, InvalidConfig, NotSupported, ResourceExhausted
from vm_mem import GuestMemory

WAIT = bytes([0xFB, 0xF4, 0xEB, 0xFD])  # sti; again: hlt; jmp again
HANDLED = 0x11


def out(port: int, value: int = 0) -> bytes:
    """Code: mov al, value; out port, al."""
    return bytes([0xB0, value, 0xE6, port])


def handler(memory: GuestMemory, vector: int, end: bytes = b"") -> None:
    """Let ``vector`` of the real-mode table tell that it runs."""
    at = 0x2000 + 32 * vector
    memory.write(at, out(HANDLED, vector) + end + bytes([0xCF]))
    memory.write(4 * vector, at.to_bytes(2, "little") + bytes(2))


END_PIC = out(0x20, 0x20)


@contextmanager
def machine() -> Iterator[tuple[Vm, GuestMemory]]:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(1 << 20)
        vm.map(memory)
        yield vm, memory


def with_stack(vcpu: Vcpu) -> Vcpu:
    regs = vcpu.regs
    regs.rsp = 0x8000
    vcpu.regs = regs
    return vcpu


def with_pic(vm: Vm) -> None:
    vm.interrupts.create()
    pic = PicState()
    pic.irq_base = 0x20
    vm.interrupts.pic_master = pic


def test_injection_waits_for_the_window() -> None:
    with machine() as (vm, memory):
        handler(memory, 0x21)
        vcpu = with_stack(real_mode_vcpu(vm, memory, out(0x12) + bytes([0xFB]) + FOREVER))
        assert vcpu.run(timeout=5) == IoOut(0x12, b"\x00")
        assert not vcpu.interrupts_enabled
        with pytest.raises(InvalidConfig, match="window"):
            vcpu.interrupt(0x21)
        vcpu.request_interrupt_window()
        assert vcpu.run(timeout=5) == IrqWindowOpen()
        assert vcpu.interrupt_ready and vcpu.interrupts_enabled
        for wrong in (256, 1 << 40, -1):
            with pytest.raises(InvalidConfig):
                vcpu.interrupt(wrong)
        vcpu.interrupt(0x21)
        assert not vcpu.interrupt_ready
        assert vcpu.run(timeout=5) == IoOut(HANDLED, b"\x21")
        handler(memory, 2)
        vcpu.nmi()
        assert vcpu.run(timeout=5) == IoOut(HANDLED, b"\x02")


def test_the_task_priority_is_shared() -> None:
    with machine() as (vm, memory):
        vcpu = real_mode_vcpu(vm, memory, HALT)
        assert (vcpu.task_priority, vcpu.apic_base) == (0, 0)
        vcpu.task_priority = 3
        assert vcpu.run(timeout=5) == Hlt()
        assert vcpu.task_priority == vcpu.sregs.cr8 == 3
        assert vcpu.apic_base == vcpu.sregs.apic_base
        with pytest.raises(InvalidConfig):
            vcpu.task_priority = 16


def test_smi_names_what_is_missing() -> None:
    with machine() as (vm, memory):
        vcpu = real_mode_vcpu(vm, memory, HALT)
        if vm_accel.probe().has("x86_smm"):
            vcpu.smi()
            return
        with pytest.raises(NotSupported, match="KVM_CAP_X86_SMM"):
            vcpu.smi()


def test_lines_and_states() -> None:
    with machine() as (vm, memory):
        irq = vm.interrupts
        assert irq.irqchip == "none"
        with pytest.raises(InvalidConfig, match="irqchip"):
            irq.set_line(1, True)
        with_pic(vm)
        assert irq.irqchip == "kernel"
        irq.create_pit(speaker=False)
        irq.set_pit_reinjection(False)
        handler(memory, 0x23, END_PIC)
        vcpu = with_stack(real_mode_vcpu(vm, memory, WAIT))
        assert irq.pulse(3) == LineStatus.DELIVERED
        assert vcpu.run(timeout=5) == IoOut(HANDLED, b"\x23")
        assert irq.pic_master.isr == 1 << 3
        assert irq.set_line(4000, True) == LineStatus.IGNORED
        ioapic = irq.ioapic
        rows = ioapic.redirections
        rows[9].vector, rows[9].masked = 0x49, False
        ioapic.redirections = rows
        irq.ioapic = ioapic
        assert (irq.ioapic.redirections[9].vector, irq.ioapic.redirections[9].masked) == (0x49, False)
        pit = irq.pit
        channels = pit.channels
        channels[2].mode, channels[2].count = 3, 1234
        pit.channels = channels
        irq.pit = pit
        assert (irq.pit.channels[2].mode, irq.pit.channels[2].count) == (3, 1234)
        irq.pic_slave = irq.pic_slave
        assert "irqchip kernel" in repr(irq)
        assert "1 of 24 inputs open" in repr(irq.ioapic)
        assert "vectors from 0x20" in repr(irq.pic_master)
        assert "mode=3 count=1234" in repr(irq.pit)


def test_platform_settings_come_before_the_first_vcpu() -> None:
    with machine() as (vm, _):
        vm.interrupts.set_tss_address(0xFFFB_D000)
        vm.interrupts.set_identity_map_address(0xFFFB_C000)
        vm.interrupts.set_boot_vcpu(0)
        with pytest.raises(InvalidConfig, match="4 GiB"):
            vm.interrupts.set_tss_address(1 << 32)
        vm.create_vcpu()
        for late in (vm.interrupts.create, vm.interrupts.create_split, lambda: vm.interrupts.set_boot_vcpu(1)):
            with pytest.raises(InvalidConfig, match="first"):
                late()


def test_routes_are_replaced_as_a_whole() -> None:
    with machine() as (vm, _):
        irq = vm.interrupts
        irq.create()
        assert GsiRoute(9, IrqPin(IrqController.PIC_SLAVE, 1)) in irq.routes
        table = [GsiRoute(40, Msi.x86(0, 0x50)), GsiRoute(41, IrqPin(IrqController.IOAPIC, 23))]
        irq.routes = table
        assert irq.routes == table
        with pytest.raises(InvalidConfig, match="GSI 3: the IOAPIC has 24 pins"):
            irq.routes = [GsiRoute(3, IrqPin(IrqController.IOAPIC, 24))]
        assert irq.routes == table
        assert irq.signal(Msi.x86(0, 0x50)) is False  # nobody listens yet


def test_values_compare_and_print() -> None:
    message = Msi.x86(1, 0x34, MsiDelivery.LOWEST_PRIORITY, logical=True, level=True)
    assert message == Msi(address=0xFEE0_1004, data=0xC134)
    assert repr(message) == "Msi(address=0xfee01004, data=0xc134)"
    assert message != Msi(0, 0) and message != 5
    route = GsiRoute(5, message)
    assert len({route, GsiRoute(5, message), GsiRoute(6, message)}) == 2
    match route:
        case GsiRoute(gsi=5, target=Msi(data=data)):
            assert data == 0xC134
        case _:
            pytest.fail(repr(route))
    assert "pin=3" in repr(GsiRoute(1, IrqPin(IrqController.IOAPIC, 3)))
    row = IoapicRedirection.from_bits(0x0100_0000_0001_8040)
    assert (row.vector, row.level, row.masked, row.destination) == (0x40, True, True, 1)
    assert row.bits == 0x0100_0000_0001_8040
    for wrong in (lambda: Msi.x86(256, 0), lambda: Msi.x86(0, 256), lambda: Msi(0, 1 << 32), lambda: Msi(-1, 0)):
        with pytest.raises(InvalidConfig):
            wrong()


def test_an_event_is_a_file() -> None:
    with EventFd(2) as event:
        assert select.select([event], [], [], 0)[0] == [event]
        assert event.read() == 2
        assert event.read() is None
        assert select.select([event], [], [], 0)[0] == []
        event.write((1 << 64) - 2)
        with pytest.raises(ResourceExhausted):
            event.write()
        with pytest.raises(InvalidConfig):
            event.write(1 << 64)
        other = EventFd.from_fd(event.fileno())
        assert other.read() == (1 << 64) - 2
        assert str(event.fileno()) in repr(event)
    assert event.closed
    event.close()
    assert "closed" in repr(event)
    for call in (event.fileno, event.read, event.write):
        with pytest.raises(ClosedError):
            call()
    other.write()
    assert other.read() == 1
    counting = EventFd(2, semaphore=True)
    assert [counting.read() for _ in range(3)] == [1, 1, None]
    with open(os.devnull) as file, pytest.raises(InvalidConfig, match="not an eventfd"):
        EventFd.from_fd(file.fileno())


def test_an_event_wakes_the_guest() -> None:
    with machine() as (vm, memory), EventFd() as event:
        with_pic(vm)
        handler(memory, 0x24, END_PIC)
        vm.interrupts.attach(event, gsi=4)
        with pytest.raises(InvalidConfig, match="already"):
            vm.interrupts.attach(event, gsi=5)
        ((attached, gsi, resample),) = vm.interrupts.events
        assert (gsi, resample) == (4, None)
        vcpu = with_stack(real_mode_vcpu(vm, memory, WAIT))
        threading.Thread(target=event.write).start()
        assert vcpu.run(timeout=5) == IoOut(HANDLED, b"\x24")
        attached.write()  # another name of the same event
        assert vcpu.run(timeout=5) == IoOut(HANDLED, b"\x24")
        vm.interrupts.detach(event)
        event.write()
        assert vcpu.run(timeout=0.02) == Timeout()
        assert event.read() == 1


def test_resample_tells_the_end_of_a_level() -> None:
    with machine() as (vm, memory), EventFd() as event, EventFd() as resample:
        with_pic(vm)
        pic = vm.interrupts.pic_master
        pic.elcr = 1 << 5
        vm.interrupts.pic_master = pic
        handler(memory, 0x25, END_PIC)
        vm.interrupts.attach(event, 5, resample=resample)
        vcpu = with_stack(real_mode_vcpu(vm, memory, bytes([0xFB, 0xF4]) + out(0x12) + WAIT))
        event.write()
        assert vcpu.run(timeout=5) == IoOut(HANDLED, b"\x25")
        assert resample.read() is None
        assert vcpu.run(timeout=5) == IoOut(0x12, b"\x00")
        assert select.select([resample], [], [], 5)[0] == [resample]


def test_asyncio_hears_the_guest() -> None:
    """A device in asyncio: the guest rings, the loop answers with an interrupt, the guest handles it."""

    async def device(bell: EventFd, line: EventFd) -> int:
        rung: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def ring() -> None:
            count = bell.read()
            if count is not None and not rung.done():
                rung.set_result(count)

        asyncio.get_running_loop().add_reader(bell, ring)
        try:
            count = await asyncio.wait_for(rung, 10)
        finally:
            asyncio.get_running_loop().remove_reader(bell)
        line.write()
        return count

    with machine() as (vm, memory), EventFd() as bell, EventFd() as line:
        with_pic(vm)
        handler(memory, 0x26, END_PIC)
        vm.interrupts.attach(line, gsi=6)
        vm.io_events.attach(bell, port=0x50, size=1, match=7)
        vcpu = with_stack(real_mode_vcpu(vm, memory, out(0x50, 7) + WAIT))

        def run() -> object:
            vcpu.attach()
            return vcpu.run(timeout=10)

        async def main() -> tuple[int, object]:
            guest = asyncio.get_running_loop().run_in_executor(None, run)
            return await device(bell, line), await guest

        assert asyncio.run(main()) == (1, IoOut(HANDLED, b"\x26"))


def test_bells_and_coalesced_writes() -> None:
    store = bytes([0xC7, 0x06, 0x00, 0x00, 0x34, 0x12])  # mov word [0], 0x1234
    with machine() as (vm, memory), EventFd() as bell:
        io = vm.io_events
        ring = io.attach(bell, paddr=0x10_0000, size=2, match=0x1234)
        assert (ring.port, ring.paddr, ring.size, ring.match) == (None, 0x10_0000, 2, 0x1234)
        assert io.attached == [ring]
        assert "a write of 0x1234 in 2 bytes to 0x100000" in repr(ring)
        zone = io.coalesce(port=0x60, size=4)
        assert io.zones == [zone]
        assert (zone.port, zone.paddr, zone.size) == (0x60, None, 4)
        vcpu = real_mode_vcpu(vm, memory, store + out(0x61, 5) + out(0x62, 6) + HALT + store + out(0x61) + HALT)
        sregs = vcpu.sregs
        sregs.ds.base = 0x10_0000
        vcpu.sregs = sregs
        assert vcpu.run(timeout=5) == Hlt()
        assert bell.read() == 1
        assert io.collect() == [IoOut(0x61, b"\x05"), IoOut(0x62, b"\x06")]
        assert io.collect() == []
        io.detach(ring)
        io.stop_coalescing(zone)
        assert vcpu.run(timeout=5) == MmioWrite(0x10_0000, b"\x34\x12")
        assert vcpu.run(timeout=5) == IoOut(0x61, b"\x00")
        for wrong in (
            lambda: io.attach(bell),
            lambda: io.attach(bell, port=1, paddr=1),
            lambda: io.attach(bell, port=0x1_0000, size=1),
            lambda: io.attach(bell, port=1, size=300),
            lambda: io.attach(bell, port=1, match=1),
            lambda: io.coalesce(size=4),
            lambda: io.coalesce(paddr=0, size=0),
            lambda: io.detach(ring),
            lambda: io.stop_coalescing(zone),
        ):
            with pytest.raises(InvalidConfig):
                wrong()
        assert io.coalesce(paddr=0x20_0000, size=0x1000) in {*io.zones}


RDMSR, WRMSR, OUT_AL = bytes([0x0F, 0x32]), bytes([0x0F, 0x30]), bytes([0xE6, 0x12])


def test_registers_are_answered_by_python() -> None:
    with machine() as (vm, memory):
        vm.set_msr_exits(unknown=True, filtered=True)
        vm.set_msr_filter([MsrRange(0x174, [False], writes=False)])
        vcpu = real_mode_vcpu(vm, memory, RDMSR + OUT_AL + WRMSR + HALT)
        regs = vcpu.regs
        regs.rcx = 0x174
        vcpu.regs = regs
        exit_ = vcpu.run(timeout=5)
        assert exit_ == RdMsr(0x174, reason=4)
        assert isinstance(exit_, RdMsr)
        exit_.reply(0x42)
        assert vcpu.run(timeout=5) == IoOut(0x12, b"\x42")
        regs = vcpu.regs
        regs.rcx = 0xC0DE_0001
        vcpu.regs = regs
        assert vcpu.run(timeout=5) == WrMsr(0xC0DE_0001, 0x42, reason=2)
        assert vcpu.run(timeout=5) == Hlt()


def test_policies_that_make_no_sense_are_refused() -> None:
    with machine() as (vm, _):
        for ranges in ([MsrRange(0x800, [True])], [MsrRange(0, [])], [MsrRange(0, [True])] * 17):
            with pytest.raises(InvalidConfig):
                vm.set_msr_filter(ranges)
        with pytest.raises(InvalidConfig):
            vm.set_msr_filter([], deny_others=True)
        with pytest.raises(InvalidConfig):
            MsrRange(1 << 32, [True])
        kept = MsrRange(0x174, [True, False], reads=False)
        assert (kept.base, kept.allowed, kept.reads, kept.writes) == (0x174, [True, False], False, True)
        assert repr(kept) == "<MsrRange 0x174, 1 of 2 allowed, writes>"
        with pytest.raises(NotSupported, match="hypercall 63"):
            vm.set_hypercall_exits({63})
        vm.set_hypercall_exits(vm.possible_hypercall_exits)
        exits = {"mwait": 1, "hlt": 2, "pause": 4, "cstate": 8}
        possible = vm_accel.probe().capabilities["x86_disable_exits"]
        for name, bit in exits.items():
            if not possible & bit:
                with pytest.raises(NotSupported, match="KVM_CAP_X86_DISABLE_EXITS"):
                    vm.disable_exits(**{name: True})
        vm.create_vcpu()
        if possible:
            with pytest.raises(InvalidConfig, match="first vCPU"):
                vm.disable_exits(**{name: True for name, bit in exits.items() if possible & bit})


def test_devices_of_the_kernel() -> None:
    with machine() as (vm, _):
        with pytest.raises(NotSupported):
            vm.create_device(KernelDeviceKind.ARM_VGIC_V3)
        try:
            device = vm.create_device(KernelDeviceKind.VFIO)
        except NotSupported as error:
            pytest.skip(str(error))
        assert os.fstat(device.fileno())
        assert device.has(1, 1) and not device.has(77, 1)
        with pytest.raises(InvalidConfig):
            device.get(1, 1, 4097)
        with pytest.raises((OSError, NotSupported)):
            device.set(77, 1, b"\x00")


def test_a_closed_vm_says_so() -> None:
    with machine() as (vm, _):
        irq, io = vm.interrupts, vm.io_events
        vm.close()
        for call in (lambda: irq.irqchip, lambda: irq.set_line(1, True), lambda: io.attached, vm.set_msr_exits):
            with pytest.raises(ClosedError):
                call()
        assert "closed" in repr(irq)


def test_a_sleeping_guest_can_be_kicked() -> None:
    with machine() as (vm, memory):
        vm.interrupts.create()
        vcpu = real_mode_vcpu(vm, memory, HALT)
        threading.Thread(target=vcpu.kick).start()
        assert vcpu.run(timeout=5) == Interrupted()
