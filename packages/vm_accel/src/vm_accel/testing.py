"""A hypervisor that plays a script instead of running guests: for testing what is built on `vm_accel`, anywhere.

A script is a list of steps. An exit is a step, and `run` returns it; `Do` acts for the guest, `Block` keeps the
processor busy until a kick or a timeout, `Fail` lets `run` fail, and a `Loop` at the end never ends::

    >>> from vm_accel import Hlt, IoIn, IoOut
    >>> from vm_accel.testing import Do, ScriptedHypervisor
    >>> def add(guest):
    ...     guest.regs.rax += guest.reply[0]
    >>> script = [IoOut(port=0x3F8, data=b"hi"), IoIn(port=0x60, size=1), Do(add), Hlt()]
    >>> with ScriptedHypervisor(script) as hypervisor, hypervisor.create_vm() as vm:
    ...     vcpu = vm.create_vcpu()
    ...     while True:
    ...         match vcpu.run(timeout=5):
    ...             case IoOut(port=0x3F8, data=data):
    ...                 print(data.decode())
    ...             case IoIn() as question:
    ...                 question.reply(65)
    ...             case Hlt():
    ...                 break
    ...     vcpu.regs.rax
    hi
    65
    >>> [call.value for call in hypervisor.calls if call.name == "reply"]
    [b'A']
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vm_core import InvalidConfig

from ._accel import ScriptedGuest
from ._accel import ScriptedHypervisor as _ScriptedHypervisor
from .exits import Exit

__all__ = ["Block", "Call", "Do", "Fail", "Loop", "ScriptedGuest", "ScriptedHypervisor", "Step"]


@dataclass(frozen=True)
class Do:
    """The guest does something and goes on: ``action(guest)`` with a `ScriptedGuest`.

    It is called on the thread that called ``run``, which raises what it raises; the step counts as done then.
    """

    action: Callable[[ScriptedGuest], object]


@dataclass(frozen=True)
class Block:
    """The guest keeps its processor until a run ends as ``Interrupted()`` or ``Timeout()``.

    Also when that run ended before the guest came this far, so that it does not matter when a kick comes.
    """


@dataclass(frozen=True)
class Fail:
    """``run`` fails as if the operating system had refused with this errno; see `ScriptedHypervisor.fail`."""

    errno: int


@dataclass(frozen=True)
class Loop:
    """These steps again and again, for ever: the last step of a script."""

    steps: Sequence[Step]


Step: TypeAlias = "Exit | Do | Block | Fail | Loop"


@dataclass(frozen=True)
class Call:
    """Something that was asked of the hypervisor.

    name: "create_vm", "create_vcpu", "add_slot" (`Vm.map`, once for each region), "remove_slot" (`Vm.unmap`),
    "change_slot" (`Vm.move`, `Vm.set_flags`), "run", "reply", "refuse", "complete", "set_regs", "set_sregs",
    "set_state".
    vm, vcpu: which one, from 0; ``vcpu`` is None for what concerns the whole VM.
    error: the errno that it was made to fail with, or 0.
    value: the MemorySlot, (before, after) of a change, the exit that ``run`` returned, the bytes of a reply, the
    registers, the name of other state that was set; None for the others and for what failed.
    """

    name: str
    vm: int
    vcpu: int | None
    error: int
    value: object


def _plain(step: object) -> object:
    """The step as the compiled part takes it."""
    match step:
        case Do():
            return step.action
        case Block():
            return None
        case Fail():
            return step.errno
        case Loop():
            raise InvalidConfig("a Loop never ends, so it can only be the last step of a script")
        case _ if step is None or isinstance(step, int) or callable(step):
            raise InvalidConfig(f"a script is made of exits, Do, Block, Fail and Loop; got {step!r}")
        case _:
            return step


def _script(steps: Sequence[Step]) -> tuple[list[object], int | None]:
    """All steps in one list, and the number of the first that is repeated."""
    if not steps or not isinstance(steps[-1], Loop):
        return [_plain(step) for step in steps], None
    once, last = steps[:-1], steps[-1]
    return [_plain(step) for step in (*once, *last.steps)], len(once)


class ScriptedHypervisor(_ScriptedHypervisor):
    """A `vm_accel.Hypervisor` whose guests follow a script.

    script: steps for vCPU 0 of every VM, or a mapping from vCPU numbers to steps. When a script is over, ``run`` raises
    InvalidConfig.
    record: keep the `calls`. max_slots, max_vcpus: what a VM can have.

    Registers and memory slots are kept as a real hypervisor keeps them; vCPUs begin in the state after a reset. Any
    thread may call anything at once. Raises InvalidConfig for a step that cannot be played.
    """

    def __init__(
        self,
        script: Sequence[Step] | Mapping[int, Sequence[Step]] = (),
        *,
        record: bool = True,
        max_slots: int = 509,
        max_vcpus: int = 64,
    ) -> None:
        scripts = script if isinstance(script, Mapping) else {0: script}
        super().__init__({vcpu: _script(steps) for vcpu, steps in scripts.items()}, record, max_slots, max_vcpus)

    @property
    def calls(self) -> list[Call]:
        """What was asked so far, in order; a run stands where it ended."""
        return [Call(*call) for call in self.recorded_calls()]
