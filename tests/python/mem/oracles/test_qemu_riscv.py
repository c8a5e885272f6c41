"""RISC-V page tables: every access is also made by QEMU's hart, which must agree on address and cause."""

from __future__ import annotations

from pathlib import Path

import pytest
from mem.oracles.harness import library, monitor
from mem.oracles.harness.compare import compare, perform
from mem.oracles.harness.monitor import Run
from mem.oracles.harness.plain import PlainRiscV
from mem.oracles.harness.qemu import unsuitable
from mem.oracles.harness.report import Counts
from mem.oracles.harness.riscv import Mode
from mem.oracles.harness.riscv_cases import RiscVCases
from vm_core import Access
from vm_mem.paging import AddressSpace

REASON = unsuitable("qemu-system-riscv32", "qemu-system-riscv64")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

SEED = 1
MODES: list[Mode] = ["sv32", "sv39", "sv48", "sv57"]


def name_of(mode: Mode) -> str:
    return f"RISC-V {mode.capitalize()}"


@pytest.mark.parametrize("mode", MODES)
def test_accesses(mode: Mode, ram_path: Path, tmp_path: Path, record_counts: Counts) -> None:
    """Loads, stores and fetches from S and U under random SUM and MXR; QEMU sets A and D itself, as Svadu does."""
    cases = RiscVCases(ram_path, mode, SEED, 3000)
    try:
        run = perform(cases, name_of(mode), record_counts)
        compare(run, name_of(mode), record_counts, tmp_path)
    finally:
        cases.close()


@pytest.mark.parametrize("mode", MODES[1:])
def test_extensions(mode: Mode, ram_path: Path, tmp_path: Path, record_counts: Counts) -> None:
    """The same with Svnapot and Svpbmt."""
    name = f"{name_of(mode)}, Svnapot, Svpbmt"
    cases = RiscVCases(ram_path, mode, SEED, 3000, extensions=True)
    try:
        run = perform(cases, name, record_counts)
        compare(run, name, record_counts, tmp_path)
    finally:
        cases.close()


@pytest.mark.parametrize("mode", MODES)
def test_addresses(mode: Mode, ram_path: Path, tmp_path: Path, record_counts: Counts) -> None:
    """Pages anywhere in the physical address space; gva2gpa finds the same ones."""
    cases = PlainRiscV(ram_path, mode, SEED, 3000)
    try:
        monitor.compare_addresses(cases, name_of(mode), record_counts, tmp_path, positive=2000, negative=2000)
    finally:
        cases.close()


@pytest.mark.parametrize("mode", MODES)
def test_enumeration(mode: Mode, ram_path: Path, tmp_path: Path, record_counts: Counts) -> None:
    """`mappings` lists what `info mem` lists."""
    cases = PlainRiscV(ram_path, mode, SEED, 3000)
    try:
        with cases.start() as qemu:
            runs = monitor.riscv_mem(qemu.monitor("info mem"))
        with library.tables(tmp_path, cases.layout.tables, cases.tables_content()) as memory:
            found = AddressSpace(memory, library.riscv_config(cases.state())).mappings(merge=False).array
    finally:
        cases.close()
    ours = []
    for record in found:
        user = bool(record["user_access"])
        rights = monitor.letters(
            int(record["user_access"] | record["access"] & ~Access.EXECUTE if user else record["access"])
        )
        ours.append(
            Run(
                record["vaddr"].item(),
                record["paddr"].item(),
                record["size"].item(),
                rights + ("u" if user else "-"),
            )
        )
    wrong = monitor.run_differences(runs, monitor.merge(ours, physical=True))
    record_counts.add(name_of(mode), "ranges in info mem", addresses=len(runs), faults=0, mismatches=wrong)
