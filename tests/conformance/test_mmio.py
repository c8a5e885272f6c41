"""Memory-mapped I/O: every width, and memory that the guest may only read."""

from __future__ import annotations

import pytest
from conformance.machines import Machine, load
from conformance.programs import MMIO_READS, MMIO_WRITES, OUTSIDE, RAM, WRITE_OUTSIDE
from vm_accel import Hlt, IoOut, MmioRead, MmioWrite
from vm_mem import GuestMemory


def test_writes_of_every_width(machine: Machine) -> None:
    with machine.guest(MMIO_WRITES) as guest:
        for size in (1, 2, 4, 8):
            expected = MmioWrite(paddr=OUTSIDE, data=bytes.fromhex("1122334455667788")[:size])
            assert guest.vcpu.run(timeout=10) == expected
        assert guest.vcpu.run(timeout=10) == Hlt()


def test_reads_of_every_width(machine: Machine) -> None:
    answers = {8: 0x1122_3344_5566_7788, 4: 0x99AA_BBCC, 2: 0xDDEE, 1: 0xFF}
    with machine.guest(MMIO_READS) as guest:
        for size, answer in answers.items():
            question = guest.vcpu.run(timeout=10)
            assert question == MmioRead(paddr=OUTSIDE, size=size)
            assert isinstance(question, MmioRead)
            question.reply(answer)
        assert guest.vcpu.run(timeout=10) == Hlt()
        regs = guest.vcpu.regs
        assert [regs.rbx, regs.rcx, regs.rdx, regs.rsi] == list(answers.values())


@pytest.mark.parametrize("how", ["at birth", "later"])
def test_a_write_to_read_only_memory_comes_out(machine: Machine, how: str) -> None:
    with machine.vm(WRITE_OUTSIDE) as vm:
        memory = GuestMemory.anonymous(RAM)
        vm.map(memory)
        rom = GuestMemory.anonymous(4096, base=OUTSIDE)
        rom.write(OUTSIDE, b"\x11")
        vm.map(rom, read_only=how == "at birth")
        if how == "later":
            vm.set_flags(OUTSIDE, read_only=True, log_dirty=False)
        vcpu = load(vm, WRITE_OUTSIDE, memory)
        assert vcpu.run(timeout=10) == MmioWrite(paddr=OUTSIDE, data=b"\x5a")
        assert vcpu.run(timeout=10) == IoOut(port=0x80, data=b"\x11")  # reads come from the memory
        assert vcpu.run(timeout=10) == Hlt()
        assert rom.read(OUTSIDE, 1) == b"\x11"
