"""Breakpoints, watchpoints and steps mean the same on every hypervisor that runs code and can be debugged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
from conformance.machines import Guest, Machine
from conformance.programs import ENTRY, Program
from vm_accel import Debugger, Hlt

# inc ax; inc ax; mov [0x5000], ax; hlt
CODE = bytes([0x40, 0x40, 0xA3, 0x00, 0x50, 0xF4])
STORED = ENTRY + 5


@contextmanager
def debugged(machine: Machine, *abilities: str) -> Iterator[tuple[Guest, Debugger]]:
    """A guest under a debugger, or a skip that names what real-mode code does not stop for here."""
    with machine.guest(Program(CODE, None)) as guest, Debugger(guest.vm) as debugger:
        real = debugger.support.real
        missing = [ability for ability in abilities if not getattr(real, ability)]
        if missing:
            pytest.skip(f"{machine.name}: KVM_SET_GUEST_DEBUG does not stop real-mode code for {', '.join(missing)}")
        yield guest, debugger


@pytest.mark.parametrize("kind", ["software", "hardware"])
def test_a_breakpoint_stops_before_its_instruction(machine: Machine, kind: Literal["software", "hardware"]) -> None:
    with debugged(machine, "single_step") as (guest, debugger):
        real = debugger.support.real
        works = real.breakpoint if kind == "hardware" else real.int3 or real.int3_fails or real.int1_fails
        if not works:
            pytest.skip(f"{machine.name}: {kind} breakpoints do not stop real-mode code")
        point = debugger.break_at(ENTRY + 1, kind=kind)
        stop = debugger.run(timeout=10)
        assert (stop.reason, stop.id, stop.pc) == ("breakpoint", point.id, ENTRY + 1)
        assert guest.vcpu.regs.rax & 0xFFFF == 1
        assert debugger.read(ENTRY, len(CODE)) == CODE
        assert debugger.run(timeout=10).exit == Hlt()
        debugger.detach()
        assert guest.memory.read(ENTRY, len(CODE)) == CODE


def test_a_step_is_one_instruction(machine: Machine) -> None:
    with debugged(machine, "single_step") as (guest, debugger):
        for pc in (ENTRY + 1, ENTRY + 2, STORED):
            stop = debugger.step()
            assert (stop.reason, stop.pc) == ("step", pc)
        assert guest.memory.read(0x5000, 2) == b"\x02\x00"


def test_a_watchpoint_stops_after_the_write(machine: Machine) -> None:
    with debugged(machine, "single_step") as (_, debugger):
        point = debugger.watch(0x5000, 2)
        stop = debugger.run(timeout=10)
        assert (stop.reason, stop.id, stop.address, stop.pc) == ("watchpoint", point.id, 0x5000, STORED)
