"""Exits of every kind are values, also those that nobody expects."""

from __future__ import annotations

import pytest
from conformance.machines import Machine
from conformance.programs import HALT, OUTSIDE, TRIPLE_FAULT, Program
from vm_accel import (
    BusLock,
    Debug,
    DirtyRingFull,
    FailEntry,
    Hlt,
    Hypercall,
    InternalError,
    IoapicEoi,
    IrqWindowOpen,
    MemoryFault,
    Notify,
    RdMsr,
    SetTpr,
    Shutdown,
    SystemEvent,
    Unknown,
    WrMsr,
)
from vm_accel.exits import Exit
from vm_core import InvalidConfig

RARE: list[Exit] = [
    BusLock(),
    Debug(exception=1, pc=0x1000, dr6=0x4000, dr7=0x400),
    DirtyRingFull(),
    FailEntry(reason=0x8000_0021, cpu=3),
    InternalError(suberror=3, data=[1, 2, 3]),
    IoapicEoi(vector=0x31),
    IrqWindowOpen(),
    MemoryFault(paddr=0x5000, size=0x1000, flags=8),
    Notify(flags=1),
    SetTpr(),
    SystemEvent(type=2, data=[7]),
    Unknown(code=99, hardware=12),
    WrMsr(index=0x1B, value=0xFEE0_0900, reason=4),
]


@pytest.mark.parametrize("expected", RARE, ids=lambda exit: type(exit).__name__)
def test_every_exit_arrives_whole(machine: Machine, expected: Exit) -> None:
    with machine.guest(Program(None, [expected, Hlt()])) as guest:
        assert guest.vcpu.run(timeout=10) == expected
        assert guest.vcpu.run(timeout=10) == Hlt()
        assert guest.vcpu.exit_counts == {type(expected).__name__: 1, "Hlt": 1}


def test_questions_are_answered_or_refused(machine: Machine) -> None:
    call = Hypercall(number=5, arguments=(1, 2, 3, 4, 5, 6))
    script: list[Exit] = [call, RdMsr(index=0x10), RdMsr(index=0x11), Hlt()]
    with machine.guest(Program(None, script)) as guest:
        question = guest.vcpu.run(timeout=10)
        assert question == call
        assert isinstance(question, Hypercall)
        with pytest.raises(InvalidConfig, match="waits for an answer"):
            guest.vcpu.complete()
        question.reply((1 << 64) - 1)
        read = guest.vcpu.run(timeout=10)
        assert isinstance(read, RdMsr)
        read.reply(12)
        refused = guest.vcpu.run(timeout=10)
        assert isinstance(refused, RdMsr)
        refused.refuse()
        assert guest.vcpu.run(timeout=10) == Hlt()


def test_a_triple_fault_shuts_down(machine: Machine) -> None:
    with machine.guest(TRIPLE_FAULT) as guest:
        assert guest.vcpu.run(timeout=10) == Shutdown()


def test_code_outside_memory_is_an_internal_error(machine: Machine) -> None:
    def jump(sregs: object) -> None:
        sregs.cs.base = OUTSIDE  # type: ignore[attr-defined]

    program = Program(HALT.code, [InternalError(suberror=1)], sregs=jump)
    with machine.guest(program) as guest:
        exit = guest.vcpu.run(timeout=10)
        assert isinstance(exit, InternalError)
        assert exit.suberror == 1
