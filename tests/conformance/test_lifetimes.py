"""Who may use what, until when; and that nothing is left behind."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import pytest
from conformance.machines import Machine, load
from conformance.programs import FOREVER, HALT, PORT_LOOP, RAM
from vm_accel import Hlt, Hypervisor, IoOut
from vm_core import AccessViolation, ClosedError, InvalidConfig, PlatformError
from vm_mem import GuestMemory


def in_a_thread(work: object) -> None:
    """Run `work` in another thread, to its end."""
    assert callable(work)
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()


def test_use_after_close(machine: Machine) -> None:
    with machine.open(HALT) as hypervisor:
        vm = hypervisor.create_vm()
        vcpu = vm.create_vcpu()
        other = vm.create_vcpu()
        other.close()
        other.close()
        for call in (other.run, other.complete, other.attach, lambda: other.regs):
            with pytest.raises(ClosedError):
                call()
        assert [one.id for one in vm.vcpus] == [vcpu.id]
        hypervisor.close()
        hypervisor.close()
        assert vm.closed
        assert vcpu.closed
        vcpu.kick()
        calls = (vcpu.run, vm.create_vcpu, lambda: vm.slots, lambda: vm.memory, lambda: vm.unmap(0))
        for call in (*calls, hypervisor.create_vm):
            with pytest.raises(ClosedError):
                call()


def test_a_vcpu_belongs_to_a_thread(machine: Machine) -> None:
    with machine.guest(PORT_LOOP) as guest:
        vcpu = guest.vcpu
        seen: list[object] = []

        def intrude() -> None:
            for call in (vcpu.run, vcpu.complete, lambda: vcpu.regs, lambda: setattr(vcpu, "regs", vcpu.regs)):
                try:
                    call()
                except AccessViolation as error:
                    seen.append(error)
            vcpu.kick()
            seen.append(vcpu.id)

        in_a_thread(intrude)
        assert [type(one) for one in seen] == [AccessViolation] * 4 + [int]
        vcpu.run(timeout=10)  # the kick
        in_a_thread(lambda: (vcpu.attach(), seen.append(vcpu.run(timeout=10))))
        assert isinstance(seen[-1], IoOut)
        with pytest.raises(AccessViolation, match="attach"):
            vcpu.run()
        vcpu.attach()
        assert isinstance(vcpu.run(timeout=10), IoOut)


def test_a_running_vcpu_cannot_be_taken_but_can_be_closed(machine: Machine) -> None:
    with machine.guest(FOREVER) as guest:
        entered, raised = threading.Event(), []

        def run() -> None:
            guest.vcpu.attach()
            entered.set()
            try:
                guest.vcpu.run(timeout=30)
            except ClosedError as error:
                raised.append(error)

        worker = threading.Thread(target=run)
        worker.start()
        entered.wait()
        guest.vm.close()
        worker.join()
        assert len(raised) == 1


def test_numbers_of_vcpus(machine: Machine) -> None:
    with machine.open(HALT) as hypervisor, hypervisor.create_vm() as vm:
        assert [vm.create_vcpu().id, vm.create_vcpu(id=3).id, vm.create_vcpu().id] == [0, 3, 1]
        with pytest.raises(InvalidConfig, match="3"):
            vm.create_vcpu(id=3)
        with pytest.raises((PlatformError, InvalidConfig)):
            vm.create_vcpu(id=1 << 20)


def test_registers_are_kept(machine: Machine) -> None:
    with machine.guest(HALT) as guest:
        regs, sregs = guest.vcpu.regs, guest.vcpu.sregs
        names = [name for name in dir(regs) if not name.startswith("_") and name not in ("rip", "rflags")]
        for i, name in enumerate(names):
            setattr(regs, name, 0x0123_4567_89AB_0000 + i)
        guest.vcpu.regs = regs
        assert [getattr(guest.vcpu.regs, name) for name in names] == [getattr(regs, name) for name in names]
        sregs.fs.base, sregs.gdt.base, sregs.cr2 = 0x1000, 0x7000, 0xDEAD_B000
        guest.vcpu.sregs = sregs
        after = guest.vcpu.sregs
        assert (after.fs.base, after.gdt.base, after.cr2) == (0x1000, 0x7000, 0xDEAD_B000)
        assert guest.vcpu.run(timeout=10) == Hlt()


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count("\n")


def create_and_close(hypervisor: Hypervisor, memory: GuestMemory, count: int) -> None:
    for _ in range(count):
        with hypervisor.create_vm() as vm:
            vm.map(memory)
            vcpu = load(vm, HALT, memory)
            assert vcpu.run(timeout=10) == Hlt()


def nothing_is_left(machine: Machine, count: int) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("descriptors and resident memory are counted in /proc")
    with machine.open(HALT) as hypervisor:
        memory = GuestMemory.anonymous(RAM)
        create_and_close(hypervisor, memory, 100)  # the allocator's pools
        gc.collect()
        before = descriptors(), mappings(), resident()
        create_and_close(hypervisor, memory, count)
        gc.collect()
        assert descriptors() == before[0]
        assert mappings() <= before[1] + 8
        if "ASAN_OPTIONS" not in os.environ:  # AddressSanitizer keeps what was freed
            assert resident() - before[2] < 8 << 20


def test_a_thousand_vms_leave_nothing_behind(machine: Machine) -> None:
    nothing_is_left(machine, 1_000)


@pytest.mark.slow
def test_ten_thousand_vms_leave_nothing_behind(machine: Machine) -> None:
    nothing_is_left(machine, 10_000)
