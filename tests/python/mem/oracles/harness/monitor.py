"""Comparisons with what QEMU's monitor says about whole tables and about single addresses."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from vm_core import Access
from vm_mem.paging import AddressSpace

from . import library
from .cases import Layout
from .qemu import Qemu, QemuError
from .report import Counts
from .stub import OFFSETS, READ, Outcome

StateT = TypeVar("StateT")


class Plain(Protocol[StateT]):
    """Cases whose machine the monitor can be asked about."""

    random: random.Random
    layout: Layout

    def state(self) -> StateT: ...
    def address(self) -> int: ...
    def tables_content(self) -> bytes: ...
    def walk(self, state: StateT, vaddr: int, kind: int) -> Outcome: ...
    def start(self) -> Qemu: ...


class Run(NamedTuple):
    """Consecutive addresses with equal rights, and, where the monitor tells, consecutive physical addresses."""

    vaddr: int
    paddr: int
    size: int
    rights: str


def merge(runs: Sequence[Run], *, physical: bool) -> list[Run]:
    """Joins neighbours that continue each other; `physical` also asks that of their physical addresses."""
    merged: list[Run] = []
    for run in runs:
        run = run if physical else run._replace(paddr=0)
        last = merged[-1] if merged else None
        if (
            last is not None
            and last.vaddr + last.size == run.vaddr
            and last.rights == run.rights
            and (not physical or last.paddr + last.size == run.paddr)
        ):
            merged[-1] = last._replace(size=last.size + run.size)
        else:
            merged.append(run)
    return merged


def x86_mem(text: str) -> list[Run]:
    """`info mem` of x86: u r w, combined over all levels."""
    pattern = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16}) ([0-9a-f]{16}) ([u-])([r-])([w-])$", re.MULTILINE)
    found = [
        Run(int(first, 16), 0, int(size, 16), user + write) for first, _, size, user, _, write in pattern.findall(text)
    ]
    if len(found) != len(text.strip().splitlines()):
        raise QemuError(f"cannot read info mem: {text[:200]!r}")
    return found


def x86_tlb(text: str) -> list[Run]:
    """`info tlb` of x86: one line per leaf. The sizes are not told; rights are the leaf's own, so they are left out."""
    pattern = re.compile(r"([0-9a-f]{16}): ([0-9a-f]{16}) [XGPDACTUW-]{9}$", re.MULTILINE)
    found = [Run(int(vaddr, 16), int(paddr, 16), 0, "") for vaddr, paddr in pattern.findall(text)]
    if len(found) != len(text.strip().splitlines()):
        raise QemuError(f"cannot read info tlb: {text[:200]!r}")
    return found


def riscv_mem(text: str) -> list[Run]:
    """`info mem` of RISC-V: r w x u of the leaf; A and D, which end a run there, are left out."""
    pattern = re.compile(r"([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+) ([r-][w-][x-][u-])[g-][a-][d-]$", re.MULTILINE)
    found = [
        Run(int(vaddr, 16), int(paddr, 16), int(size, 16), rights)
        for vaddr, paddr, size, rights in pattern.findall(text)
    ]
    if len(found) != len(text.strip().splitlines()) - 2:
        raise QemuError(f"cannot read info mem: {text[:200]!r}")
    return merge(found, physical=True)


def letters(access: int, names: str = "rwx") -> str:
    """Access bits as the monitor writes them."""
    return "".join(name if access >> bit & 1 else "-" for bit, name in enumerate(names))


def run_differences(qemu: Sequence[Run], ours: Sequence[Run]) -> list[str]:
    """Runs that only one side has."""
    theirs, mine = set(qemu), set(ours)
    return [
        *(
            f"only QEMU: {run.vaddr:#018x} -> {run.paddr:#x}, {run.size:#x}, {run.rights}"
            for run in sorted(theirs - mine)
        ),
        *(
            f"only here: {run.vaddr:#018x} -> {run.paddr:#x}, {run.size:#x}, {run.rights}"
            for run in sorted(mine - theirs)
        ),
    ]


def sample(cases: Plain[StateT], positive: int, negative: int) -> list[int]:
    """Addresses of which at least that many translate and at least that many fault, in random order."""
    state = cases.state()
    wanted = {True: positive, False: negative}
    addresses: list[int] = []
    while any(count > 0 for count in wanted.values()):
        vaddr = cases.address() + OFFSETS[READ] + cases.random.randrange(64)
        translates = cases.walk(state, vaddr, READ).paddr is not None
        if wanted[translates] > 0:
            wanted[translates] -= 1
            addresses.append(vaddr)
    return addresses


def compare_addresses(
    cases: Plain[StateT], mode: str, counts: Counts, folder: Path, *, positive: int, negative: int
) -> None:
    """gva2gpa, the manual's walk and this library on the same addresses."""
    state = cases.state()
    vaddrs = sample(cases, positive, negative)
    content = cases.tables_content()
    with cases.start() as qemu:
        answers = qemu.translate(vaddrs)
    reference = [cases.walk(state, vaddr, READ).paddr for vaddr in vaddrs]
    counts.add(
        mode,
        "gva2gpa",
        addresses=len(vaddrs),
        faults=negative,
        mismatches=address_differences(vaddrs, answers, reference),
        manual=True,
    )
    with library.tables(folder, cases.layout.tables, content) as memory:
        space = AddressSpace(memory, library.CONFIGS[type(state)](state))
        found = space.translate(np.array(vaddrs, np.uint64), access=Access.NONE)
        ours = [paddr if ok else None for paddr, ok in zip(found.paddr.tolist(), found.ok.tolist(), strict=True)]
    counts.add(
        mode, "gva2gpa", addresses=len(vaddrs), faults=negative, mismatches=address_differences(vaddrs, answers, ours)
    )


def address_differences(vaddrs: Sequence[int], qemu: Sequence[int | None], ours: Sequence[int | None]) -> list[str]:
    """Addresses on which the two disagree."""

    def say(paddr: int | None) -> str:
        return "unmapped" if paddr is None else hex(paddr)

    return [
        f"{vaddr:#018x}: QEMU {say(theirs)}, here {say(mine)}"
        for vaddr, theirs, mine in zip(vaddrs, qemu, ours, strict=True)
        if theirs != mine
    ]
