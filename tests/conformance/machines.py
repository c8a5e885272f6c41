"""The hypervisors that the suite runs on.

A real one is named by `vm_accel.available_backends`, so a new backend takes part as soon as it is listed there. What a
test needs beyond running code is asked of the machine, and what is missing is named in the skip.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import pytest
from conformance.programs import DATA, ENTRY, RAM, Program
from vm_accel import Hypervisor, Vcpu, Vm, available_backends, create_hypervisor
from vm_accel.testing import ScriptedHypervisor
from vm_mem import GuestMemory


class Guest(NamedTuple):
    """A vCPU about to execute a program, its VM, and the first `RAM` bytes of its memory."""

    vm: Vm
    vcpu: Vcpu
    memory: GuestMemory


def load(vm: Vm, program: Program, memory: GuestMemory) -> Vcpu:
    """A new vCPU of `vm` about to execute the program in `memory`, which is mapped: real mode, all segments at 0."""
    memory.write(ENTRY, program.code or b"\xf4")
    memory.write(DATA, program.data)
    vcpu = vm.create_vcpu()
    sregs = vcpu.sregs
    sregs.cs.base = sregs.cs.selector = 0
    if program.sregs is not None:
        program.sregs(sregs)
    vcpu.sregs = sregs
    regs = vcpu.regs
    regs.rip, regs.rflags = ENTRY, 2
    if program.regs is not None:
        program.regs(regs)
    vcpu.regs = regs
    return vcpu


@dataclass(frozen=True)
class Machine:
    """A backend that executes code.

    kicks: how many a storm has, for a second or two. handovers: the same where each is waited for.
    """

    name: str
    kicks: int = 5_000
    handovers: int = 2_000
    executes: bool = True

    def require(self, program: Program) -> None:
        """Skip unless this machine can do what the program does."""
        if program.code is None:
            pytest.skip("no guest code does this on every hypervisor; needs a scripted backend")

    def open(self, program: Program) -> Hypervisor:
        """The hypervisor, or a skip with the reason."""
        self.require(program)
        backend = next(one for one in available_backends() if one.name == self.name)
        if not backend.works:
            pytest.skip(f"{self.name}: {backend.reason}")
        hypervisor = create_hypervisor(self.name)
        if hypervisor.architecture != "x86_64":
            hypervisor.close()
            pytest.skip(f"the programs are x86 code; {self.name} runs {hypervisor.architecture} here")
        return hypervisor

    @contextmanager
    def vm(self, program: Program) -> Iterator[Vm]:
        """A VM without memory."""
        with self.open(program) as hypervisor, hypervisor.create_vm() as vm:
            yield vm

    @contextmanager
    def guest(self, program: Program) -> Iterator[Guest]:
        """A vCPU about to execute the program."""
        with self.vm(program) as vm:
            memory = GuestMemory.anonymous(RAM)
            vm.map(memory)
            yield Guest(vm, load(vm, program, memory), memory)


@dataclass(frozen=True)
class ScriptedMachine(Machine):
    """The backend that plays scripts."""

    executes: bool = False

    def require(self, program: Program) -> None:
        """Skip unless the program has a script."""
        if program.script is None:
            pytest.skip("what the guest sees depends on its execution; the scripted backend executes nothing")

    def open(self, program: Program) -> Hypervisor:
        """A hypervisor that plays the program."""
        self.require(program)
        assert program.script is not None
        # Without a record: the suite runs some programs for very long.
        return ScriptedHypervisor(program.script, record=False, max_slots=8)


def machines() -> list[Machine]:
    """Every backend of this build, and the scripted one."""
    scripted = ScriptedMachine("scripted", kicks=100_000, handovers=5_000)
    return [*(Machine(backend.name) for backend in available_backends()), scripted]
