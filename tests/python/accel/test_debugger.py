"""What belongs to Python of debugging guests; the rules themselves are tested in C++."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from accel.guests import FOREVER, kvm_vm, real_mode_vcpu
from accel.long_mode import HIGH, long_mode_vcpu
from vm_accel import Debug, Debugger, IoIn, IoOut, Vm, create_hypervisor
from vm_accel.debug import GuestDebug, HardwareBreakpoint, Stop, probe_debug
from vm_core import InvalidConfig, OutOfRange, PageFault
from vm_mem import GuestMemory

# inc ax; inc ax; mov [0x5000], ax; in al, 0x10; out 0x10, al; hlt
CODE = bytes([0x40, 0x40, 0xA3, 0x00, 0x50, 0xE4, 0x10, 0xE6, 0x10, 0xF4])


@pytest.fixture
def memory() -> GuestMemory:
    return GuestMemory.anonymous(1 << 20)


@pytest.fixture
def vm(memory: GuestMemory) -> Iterator[Vm]:
    with kvm_vm() as vm:
        vm.map(memory)
        yield vm


def needs(debugger: Debugger, *, software: bool = False) -> None:
    """Skip where the machine's KVM does not stop code in real mode."""
    real = debugger.support.real
    if not (real.single_step and real.breakpoint):
        pytest.skip(f"this KVM does not stop code in real mode: {real!r}")
    if software and not (real.int3 or real.int3_fails or real.int1_fails):
        pytest.skip(f"no trap instruction stops code in real mode here: {real!r}")


def test_a_session_from_the_first_breakpoint_to_the_end(vm: Vm, memory: GuestMemory) -> None:
    vcpu = real_mode_vcpu(vm, memory, CODE)
    with Debugger(vm) as debugger:
        needs(debugger, software=True)
        point = debugger.break_at(0x1001)
        assert not point.hardware
        assert memory.read(0x1001, 1) == bytes([debugger.support.trap_instruction])
        assert debugger.read(0x1000, len(CODE)) == CODE
        match debugger.run(timeout=10):
            case Stop("breakpoint", vcpu=0, pc=0x1001, id=point.id):
                pass
            case other:
                pytest.fail(repr(other))
        assert vcpu.regs.rax & 0xFFFF == 1
        assert debugger.breakpoints[0].hits == 1
        watch = debugger.watch(0x5000, 2)
        stop = debugger.run(timeout=10)
        assert (stop.reason, stop.id, stop.address, stop.pc) == ("watchpoint", watch.id, 0x5000, 0x1005)
        debugger.remove(watch)
        read = debugger.step()
        assert read.reason == "exit"
        assert isinstance(read.exit, IoIn)
        read.exit.reply(0x42)
        assert debugger.step().pc == 0x1007
        wrote = debugger.run(timeout=10)
        assert wrote.exit == IoOut(0x10, b"\x42", 1)
    assert memory.read(0x1000, len(CODE)) == CODE
    assert not vcpu.debug


def test_run_until_calls_back_and_passes_errors_on(vm: Vm, memory: GuestMemory) -> None:
    vcpu = real_mode_vcpu(vm, memory, bytes([0x40, 0xEB, 0xFD]))  # inc ax; jmp back
    with Debugger(vm) as debugger:
        needs(debugger)
        stop = debugger.run_until(lambda each: each is vcpu and each.regs.rax & 0xFFFF == 5)
        assert (stop.reason, stop.pc) == ("step", 0x1001)
        assert debugger.run_until(lambda each: False, limit=3).reason == "timeout"

        def broken(each: object) -> bool:
            raise RuntimeError("no")

        with pytest.raises(RuntimeError, match="no"):
            debugger.run_until(broken)
        assert debugger.run_to(0x1001, timeout=10).pc == 0x1001


def test_interrupt_from_another_thread(vm: Vm, memory: GuestMemory) -> None:
    real_mode_vcpu(vm, memory, FOREVER)
    with Debugger(vm) as debugger:
        other = threading.Thread(target=debugger.interrupt)
        other.start()
        assert debugger.run(timeout=10).reason == "interrupted"
        other.join()
        assert debugger.run(timeout=0).reason == "timeout"


def test_long_mode_goes_through_the_page_tables(vm: Vm, memory: GuestMemory) -> None:
    # inc eax; inc eax; jmp back
    vcpu = long_mode_vcpu(vm, memory, bytes([0xFF, 0xC0, 0xFF, 0xC0, 0xEB, 0xFA]))
    space = vm.address_space(vcpu)
    assert space.translate(HIGH + 0x1002).paddr == 0x1002
    with Debugger(vm) as debugger:
        assert debugger.read(HIGH + 0x1000, 2) == b"\xff\xc0"
        with pytest.raises(PageFault):
            debugger.read(0x10_0000_0000, 1)
        kernel = debugger.support.kernel
        if not (kernel.int3 or kernel.int3_fails or kernel.int1_fails):
            pytest.skip(f"no trap instruction stops code in long mode at privilege level 0 here: {kernel!r}")
        point = debugger.break_at(HIGH + 0x1002, vcpu=vcpu)
        assert point.paddr == 0x1002
        stop = debugger.run(timeout=10)
        assert (stop.reason, stop.id, stop.pc) == ("breakpoint", point.id, 0x1002)
        debugger.write(HIGH + 0x1002, bytes([0x90, 0x90]))
        debugger.clear()
    assert memory.read(0x1000, 6) == bytes([0xFF, 0xC0, 0x90, 0x90, 0xEB, 0xFA])


def test_the_facet_is_an_attribute(vm: Vm, memory: GuestMemory) -> None:
    vcpu = real_mode_vcpu(vm, memory, CODE)
    settings = GuestDebug(single_step=True, hardware=[HardwareBreakpoint(0x2000, 4, "write")])
    vcpu.debug = settings
    assert vcpu.debug == settings
    assert repr(settings) == "GuestDebug(single_step=True, hardware=[HardwareBreakpoint(0x2000, 4, 'write')])"
    exit = vcpu.run(timeout=10)
    assert isinstance(exit, Debug)
    assert (exit.exception, exit.pc) == (1, 0x1001)
    vcpu.debug = GuestDebug()
    assert not vcpu.debug


def test_injected_traps_reach_the_guest(vm: Vm, memory: GuestMemory) -> None:
    # The vectors of #DB and #BP lead to out 0x11, al and out 0x13, al.
    memory.write(1 * 4, (0x2000).to_bytes(4, "little"))
    memory.write(3 * 4, (0x3000).to_bytes(4, "little"))
    memory.write(0x2000, bytes([0xE6, 0x11, 0xF4]))
    memory.write(0x3000, bytes([0xE6, 0x13, 0xF4]))
    vcpu = real_mode_vcpu(vm, memory, CODE)
    regs = vcpu.regs
    regs.rsp = 0x8000
    vcpu.regs = regs
    vcpu.inject_debug(dr6=1)
    assert vcpu.run(timeout=10) == IoOut(0x11, bytes([regs.rax & 0xFF]), 1)
    again = vcpu.regs
    again.rip, again.rsp = 0x1000, 0x8000
    vcpu.complete()
    vcpu.regs = again
    vcpu.inject_breakpoint()
    exit = vcpu.run(timeout=10)
    assert isinstance(exit, IoOut)
    assert exit.port == 0x13


def test_what_makes_no_sense_is_refused(vm: Vm, memory: GuestMemory) -> None:
    vcpu = real_mode_vcpu(vm, memory, CODE)
    with pytest.raises(InvalidConfig):
        HardwareBreakpoint(0x1001, 4, "write")
    with pytest.raises(InvalidConfig):
        HardwareBreakpoint(0x1000, 1, "read")  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig):
        GuestDebug(hardware=[HardwareBreakpoint(0)] * 5)
    with Debugger(vm) as debugger:
        with pytest.raises(InvalidConfig):
            debugger.break_at(0x1000, kind="soft")  # type: ignore[arg-type]
        with pytest.raises(InvalidConfig):
            debugger.watch(0x1000, 3)
        with pytest.raises(OutOfRange):
            debugger.remove(99)
        with pytest.raises(InvalidConfig):
            debugger.run(vcpu=5)
        with pytest.raises(OutOfRange):
            debugger.read(1 << 30, 1)
        with pytest.raises(OutOfRange):
            debugger.read(0, 1 << 63)
        with pytest.raises(InvalidConfig):
            vm.address_space(vcpu)


def test_the_probe_says_what_it_tried() -> None:
    with kvm_vm(), create_hypervisor() as hypervisor:
        support = probe_debug(hypervisor)
        assert support.trap_instruction in (0xCC, 0xF1)
        assert repr(support.user).startswith("<DebugAbilities single_step=")
