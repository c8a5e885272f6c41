"""Runs random accesses through QEMU and holds the reference walk and this library against what QEMU did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from . import library
from .cases import Cases
from .memory import Ram
from .report import Counts
from .stub import SUCCESS, USER, WRITE, Batch, Outcome

StateT = TypeVar("StateT")

BATCHES = 16
PER_BATCH = 2000
"""Accesses of one batch, all under the same control registers."""


def words(kind: int) -> str:
    """An access, for people."""
    return ("user " if kind & USER else "supervisor ") + ("read", "write", "fetch")[kind & 3]


def say(row: Sequence[int], outcome: Outcome, state: object) -> str:
    """One mismatch with both answers."""
    vaddr, kind, status, value, code = row
    raised = f"exception {outcome.status:#x} code {outcome.code:#x}"
    wanted = raised if outcome.paddr is None else f"{outcome.paddr:#x}"
    return (
        f"{vaddr:#018x} {words(kind)} (kind {kind}): QEMU status {status:#x} value {value:#x} code {code:#x}, "
        f"expected {wanted}; {state}"
    )


def differences(cases: Cases[StateT], state: StateT, batch: Batch, wanted: Sequence[Outcome]) -> list[str]:
    """Every result of the stub that is not as `wanted`."""
    rows = batch.operations.tolist()
    return [
        say(row, outcome, state) for row, outcome in zip(rows, wanted, strict=True) if not cases.matches(row, outcome)
    ]


def lost_stores(
    ram: Ram, width: int, places: Sequence[int], batches: Sequence[Batch], wanted: Sequence[Sequence[Outcome]]
) -> list[str]:
    """Physical addresses where the last store that should have gone there cannot be found."""
    last: dict[int, tuple[int, int]] = {}
    for place, batch, outcomes in zip(places, batches, wanted, strict=True):
        size = batch.operations.itemsize
        for index, (row, outcome) in enumerate(zip(batch.operations.tolist(), outcomes, strict=True)):
            if row[1] & 3 == WRITE and outcome.status == SUCCESS and outcome.paddr is not None:
                last[outcome.paddr] = (place + index * size, row[0])
    lost = []
    for paddr, (mark, vaddr) in last.items():
        if ram.holds(paddr, width) and int.from_bytes(ram.read(paddr, width), "little") != mark:
            lost.append(f"{vaddr:#018x} write: not found at {paddr:#x}")
    return lost


@dataclass
class Run(Generic[StateT]):
    """What was tried, and how memory looked before: enough to hold any other walker against QEMU."""

    cases: Cases[StateT]
    states: list[StateT]
    batches: list[Batch]
    reference: list[list[Outcome]]
    """The reference walk's answers, which QEMU has confirmed."""
    tables: bytes
    """The page tables before QEMU set A and D flags in them."""

    @property
    def faults(self) -> int:
        """How many of them must fault."""
        return sum(outcome.paddr is None for outcomes in self.reference for outcome in outcomes)

    @property
    def base(self) -> int:
        """Physical address of `tables`."""
        return self.cases.layout.tables

    @property
    def addresses(self) -> int:
        """Accesses made."""
        return sum(len(batch.operations) for batch in self.batches)


def perform(cases: Cases[StateT], mode: str, counts: Counts) -> Run[StateT]:
    """Random accesses by QEMU; the reference walk must agree, and stores must be where it says."""
    states = [cases.state() for _ in range(BATCHES)]
    batches, reference = [], []
    for state in states:
        batches.append(cases.batch(state, PER_BATCH))
        reference.append(cases.expect(state, batches[-1].operations))
    tables = cases.tables_content()
    places = cases.run(batches)
    run = Run(cases, states, batches, reference, tables)
    wrong = []
    for state, batch, outcomes in zip(states, batches, reference, strict=True):
        wrong += differences(cases, state, batch, outcomes)
    if cases.store_width:
        wrong += lost_stores(cases.ram, cases.store_width, places, batches, reference)
    counts.add(mode, "accesses", addresses=run.addresses, faults=run.faults, mismatches=wrong, manual=True)
    return run


def flag_differences(run: Run[StateT], ours: bytes) -> tuple[int, list[str]]:
    """Entries that QEMU changed, and those whose A and D flags differ after both sides made the same accesses."""
    width = run.cases.geometry.entry
    theirs_raw = run.cases.ram.read(run.base, len(run.tables))
    old, theirs, mine = (np.frombuffer(data, f"<u{width}") for data in (run.tables, theirs_raw, ours))
    wrong = []
    for index in np.nonzero(theirs != mine)[0].tolist():
        place = run.base + index * width
        before, qemu, this = int(old[index]), int(theirs[index]), int(mine[index])
        surplus = qemu ^ this
        if qemu & surplus == surplus and run.cases.flags_may_differ(place, surplus):
            continue
        wrong.append(f"entry at {place:#x}: was {before:#x}, QEMU left {qemu:#x}, this library {this:#x}")
    return int((old != theirs).sum()), wrong


def compare(run: Run[StateT], mode: str, counts: Counts, folder: Path) -> None:
    """The library makes the same accesses, each batch with another engine, and sets the same flags."""
    wrong = []
    with library.tables(folder, run.base, run.tables) as memory:
        for turn, (state, batch, reference) in enumerate(zip(run.states, run.batches, run.reference, strict=True)):
            answers = library.outcomes(memory, state, batch.operations, turn)
            wrong += differences(run.cases, state, batch, answers)
            # Where a store or a fetch went, and how large the page is, QEMU says only through the reference.
            wrong += [
                f"{vaddr:#018x}: {ours.paddr:#x} in a page of {ours.size:#x}, not {wanted.paddr:#x} of {wanted.size:#x}"
                for vaddr, ours, wanted in zip(batch.operations["vaddr"].tolist(), answers, reference, strict=True)
                if ours.paddr is not None and wanted.paddr is not None and ours != wanted
            ]
        ours = memory.read(run.base, len(run.tables))
    counts.add(mode, "accesses", addresses=run.addresses, faults=run.faults, mismatches=wrong)
    changed, wrong = flag_differences(run, ours)
    counts.add(mode, "entries with A or D set", addresses=changed, faults=0, mismatches=wrong)
