"""Running guests from Python: what belongs to the language (match, GIL, signals, ownership)."""

from __future__ import annotations

import _thread
import copy
import gc
import pickle
import subprocess
import sys
import threading
import weakref

import pytest
import vm_accel
from accel.guests import FOREVER, HALT, PRINT_SUM, kvm_vm, real_mode_vcpu
from vm_accel import Hlt, Interrupted, IoIn, IoOut, MmioRead, RdMsr, Timeout, WrMsr, create_hypervisor
from vm_core import AccessViolation, ClosedError, InvalidConfig, VmError
from vm_mem import GuestMemory


def test_the_first_example() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(1 << 20)
        vm.map(memory)
        vcpu = real_mode_vcpu(vm, memory, PRINT_SUM)
        regs = vcpu.regs
        regs.rax = regs.rbx = 2
        vcpu.regs = regs
        printed = ""
        while True:
            match vcpu.run(timeout=5):
                case IoOut(port=0x3F8, data=data):
                    printed += data.decode()
                case Hlt():
                    break
                case other:
                    pytest.fail(repr(other))
        assert printed == "4"
        assert vcpu.exit_counts == {"Hlt": 1, "IoOut": 1}


def test_ctrl_c_ends_a_run() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(1 << 20)
        vm.map(memory)
        vcpu = real_mode_vcpu(vm, memory, FOREVER)
        threading.Timer(0.05, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt):
            vcpu.run(timeout=30)
        assert vcpu.run(timeout=0.01) == Timeout()


def test_other_threads_go_on_while_the_guest_runs() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(1 << 20)
        vm.map(memory)
        vcpu = real_mode_vcpu(vm, memory, FOREVER)
        threading.Thread(target=vcpu.kick).start()
        assert vcpu.run(timeout=30) == Interrupted()


def test_a_thread_takes_over_with_attach() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(1 << 20)
        vm.map(memory)
        vcpu = real_mode_vcpu(vm, memory, HALT)
        seen: list[object] = []

        def work() -> None:
            try:
                vcpu.run()
            except AccessViolation as error:
                seen.append(error)
            vcpu.attach()
            seen.append(vcpu.run())

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert "attach()" in str(seen[0])
        assert seen[1] == Hlt()
        with pytest.raises(AccessViolation):
            _ = vcpu.regs


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_timeouts_that_make_no_sense_are_refused(timeout: float) -> None:
    with kvm_vm() as vm, pytest.raises(InvalidConfig, match="seconds"):
        vm.create_vcpu().run(timeout=timeout)


def test_answers_are_checked() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(1 << 20)
        vm.map(memory)
        vcpu = real_mode_vcpu(vm, memory, bytes([0xE4, 0x60, 0xE4, 0x60, 0xF4]))  # in al, 0x60; in al, 0x60; hlt
        first = vcpu.run(timeout=5)
        assert first == IoIn(port=0x60)
        assert isinstance(first, IoIn)
        with pytest.raises(InvalidConfig, match="waits for an answer"):
            vcpu.run()
        for wrong in (256, b"ab", -1):
            with pytest.raises(InvalidConfig):
                first.reply(wrong)
        first.reply(7)
        with pytest.raises(InvalidConfig, match="already"):
            first.reply(7)
        second = vcpu.run(timeout=5)
        assert isinstance(second, IoIn)
        with pytest.raises(InvalidConfig, match="gone on"):
            first.reply(8)
        second.reply(b"\x09")
        assert vcpu.run(timeout=5) == Hlt()
        assert vcpu.regs.rax & 0xFF == 9


def test_a_vcpu_keeps_its_machine() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(1 << 20)
        vm.map(memory)
        vcpu = real_mode_vcpu(vm, memory, HALT)
    assert vcpu.closed  # the machine was closed, not forgotten
    hypervisor = create_hypervisor()
    vcpu = hypervisor.create_vm().create_vcpu()
    gc.collect()
    assert vcpu.regs.rflags == 2


def test_closing_is_final_and_safe() -> None:
    with kvm_vm() as vm:
        vcpu = vm.create_vcpu()
        vm.close()
        vm.close()
        assert vm.closed
        assert vcpu.closed
        vcpu.kick()
        for call in (vcpu.run, lambda: vcpu.regs, vm.create_vcpu, lambda: vm.slots, lambda: vm.memory):
            with pytest.raises(ClosedError):
                call()
        assert "closed" in repr(vm)
        assert "closed" in repr(vcpu)


def test_memory_lives_as_long_as_the_vm() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(1 << 20)
        vm.map(memory)
        vcpu = real_mode_vcpu(vm, memory, PRINT_SUM)
        memory.close()
        gone = weakref.ref(memory)
        del memory
        gc.collect()
        assert gone() is None
        assert isinstance(vcpu.run(timeout=5), IoOut)
        assert vm.memory.read(0x1000, len(PRINT_SUM)) == PRINT_SUM


def test_memory_is_shown_where_it_is_asked() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(1 << 20)
        (slot,) = vm.map(memory, at=0x10_0000)
        assert (slot.base, slot.size, slot.read_only) == (0x10_0000, 1 << 20, False)
        with pytest.raises(InvalidConfig, match="overlaps"):
            vm.map(memory, at=0x18_0000)
        vm.map(memory, read_only=True)
        assert [(s.base, s.read_only) for s in vm.slots] == [(0, True), (0x10_0000, False)]
        vm.unmap(0)
        vm.move(0x10_0000, 0)
        assert [s.base for s in vm.slots] == [0]


EXITS: list[vm_accel.Exit] = [
    Hlt(),
    IoIn(port=0x60, size=2, count=3),
    IoOut(0x3F8, b"abcd", size=2),
    MmioRead(paddr=1 << 40, size=8),
    vm_accel.MmioWrite(0xFEE0_0000, b"\x01\x02"),
    vm_accel.InternalError(1, data=(1, 2, 3)),
    vm_accel.FailEntry(0x8000_0021),
    vm_accel.Debug(exception=1, pc=0x1000, dr6=1),
    vm_accel.Exception(14, 2),
    vm_accel.Hypercall(1, (1, 2, 3, 4, 5, 6)),
    RdMsr(0xC000_0080),
    WrMsr(0x10, value=5),
    vm_accel.SystemEvent(2, (7,)),
    vm_accel.MemoryFault(0x1000, 0x1000, 8),
    vm_accel.IoapicEoi(0x30),
    vm_accel.Notify(1),
    vm_accel.Unknown(99, hardware=3),
]


@pytest.mark.parametrize("exit_", EXITS, ids=lambda value: type(value).__name__)
def test_exits_are_frozen_values(exit_: vm_accel.Exit) -> None:
    same = pickle.loads(pickle.dumps(exit_))
    assert same == exit_
    assert hash(same) == hash(exit_)
    assert copy.copy(exit_) == exit_
    assert exit_ != vm_accel.Shutdown()
    assert repr(exit_).startswith(type(exit_).__name__ + "(")
    for name in type(exit_).__match_args__:
        with pytest.raises(AttributeError):
            setattr(exit_, name, 0)


def test_exits_show_numbers_as_people_write_them() -> None:
    assert repr(IoOut(0x3F8, b"abcd", size=2)) == "IoOut(port=0x3f8, data=b'abcd', size=2)"
    assert IoOut(0x3F8, b"abcd", size=2).count == 2
    assert IoOut(0x70, b"\x34\x12").value == 0x1234


def test_exits_that_cannot_be_are_refused() -> None:
    for make in (
        lambda: IoIn(0x60, size=3),
        lambda: IoOut(0x60, b""),
        lambda: IoOut(0x60, b"abc", size=2),
        lambda: MmioRead(0, size=9),
        lambda: vm_accel.MmioWrite(0, b""),
        lambda: vm_accel.InternalError(1, range(17)),
    ):
        with pytest.raises(VmError):
            make()


def test_an_exit_made_by_hand_has_nobody_to_answer() -> None:
    with pytest.raises(InvalidConfig, match="no vCPU"):
        IoIn(0x60).reply(1)


def test_backends_say_why_not() -> None:
    for backend in vm_accel.available_backends():
        assert backend.works == (backend.reason == "")
    with pytest.raises(InvalidConfig, match="kvm"):
        create_hypervisor("bochs")


@pytest.mark.parametrize("run", ["vcpu.run()", "vcpu.run_loop({0x3F8: Port()})"])
def test_the_interpreter_may_end_while_a_daemon_thread_runs_a_guest(run: str) -> None:
    with kvm_vm():  # or the test is skipped
        pass
    script = f"""
import threading
from vm_accel import create_hypervisor
from vm_mem import GuestMemory

class Port:
    def read(self, offset, width): return 0
    def write(self, offset, width, value): begun.set()

vm = create_hypervisor().create_vm()
memory = GuestMemory.anonymous(1 << 20)
memory.write(0x1000, bytes.fromhex("ba f8 03 ee eb fd"))  # mov dx, 0x3f8; out dx, al; jmp to the out
vm.map(memory)
begun = threading.Event()

def work():
    vcpu = vm.create_vcpu()
    sregs, regs = vcpu.sregs, vcpu.regs
    sregs.cs.base = sregs.cs.selector = 0
    regs.rip = 0x1000
    vcpu.sregs, vcpu.regs = sregs, regs
    while True:
        {run}
        begun.set()

threading.Thread(target=work, daemon=True).start()
begun.wait()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
