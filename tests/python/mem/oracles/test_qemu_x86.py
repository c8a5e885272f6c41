"""x86 page tables: every access is also made by QEMU's processor, which must agree on address and error code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mem.oracles.harness import library, monitor, x86
from mem.oracles.harness.compare import compare, perform
from mem.oracles.harness.monitor import Run
from mem.oracles.harness.plain import PlainX86
from mem.oracles.harness.qemu import unsuitable
from mem.oracles.harness.report import Counts
from mem.oracles.harness.x86_cases import X86Cases
from vm_core import Access
from vm_mem.paging import AddressSpace

REASON = unsuitable("qemu-system-x86_64")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

SEED = 1


@pytest.mark.parametrize(
    ("levels", "pse"), [(2, True), (2, False), (3, True), (4, True), (5, True)], ids=["2", "2-nopse", "pae", "4", "5"]
)
def test_accesses(levels: int, pse: bool, ram_path: Path, tmp_path: Path, record_counts: Counts) -> None:
    """Reads, writes and fetches from CPL 0 and 3 under random CR0.WP, NXE, SMEP, SMAP, AC, PKRU and PKRS."""
    mode = x86.NAMES[levels] + ("" if pse else " without PSE")
    cases = X86Cases(ram_path, levels, SEED, 3000, pse=pse)
    try:
        run = perform(cases, mode, record_counts)
        compare(run, mode, record_counts, tmp_path)
    finally:
        cases.close()


@pytest.mark.parametrize("levels", [2, 3, 4, 5])
def test_addresses(levels: int, ram_path: Path, tmp_path: Path, record_counts: Counts) -> None:
    """Pages anywhere in the physical address space; gva2gpa finds the same ones."""
    cases = PlainX86(ram_path, levels, SEED, 3000)
    try:
        monitor.compare_addresses(cases, x86.NAMES[levels], record_counts, tmp_path, positive=2000, negative=2000)
    finally:
        cases.close()


@pytest.mark.parametrize("levels", [2, 3, 4, 5])
def test_enumeration(levels: int, ram_path: Path, tmp_path: Path, record_counts: Counts) -> None:
    """`mappings` lists what `info tlb` and `info mem` list."""
    cases = PlainX86(ram_path, levels, SEED, 3000)
    try:
        with cases.start() as qemu:
            tlb = monitor.x86_tlb(qemu.monitor("info tlb"))
            # QEMU 7.2 never returns from `info mem` with 5-level tables.
            runs = monitor.x86_mem(qemu.monitor("info mem")) if levels < 5 else None
        with library.tables(tmp_path, cases.layout.tables, cases.tables_content()) as memory:
            found = AddressSpace(memory, library.x86_config(cases.state())).mappings(merge=False).array
    finally:
        cases.close()
    # QEMU 7.2 leaves NX in the address of a PAE entry.
    tlb = [run._replace(paddr=run.paddr & (1 << 52) - 1) for run in tlb]
    if levels == 2:
        # QEMU prints the lower half of a PSE-36 entry as it stands.
        found = found.copy()
        large = found["page_size"] > 4096
        found["paddr"][large] &= np.uint64(0xFFFF_FFFF)
        tlb = [run._replace(paddr=run.paddr & ~0x3FFFFF if run.vaddr & 0x3FFFFF == 0 else run.paddr) for run in tlb]
    ours = [Run(record["vaddr"].item(), record["paddr"].item(), 0, "") for record in found]
    wrong = monitor.run_differences(tlb, ours)
    record_counts.add(x86.NAMES[levels], "leaves in info tlb", addresses=len(tlb), faults=0, mismatches=wrong)
    if runs is not None:
        ours = [
            Run(
                record["vaddr"].item(),
                0,
                record["size"].item(),
                ("u" if record["user_access"] else "-") + ("w" if record["access"] & Access.WRITE else "-"),
            )
            for record in found
        ]
        wrong = monitor.run_differences(monitor.merge(runs, physical=False), monitor.merge(ours, physical=False))
        record_counts.add(x86.NAMES[levels], "ranges in info mem", addresses=len(runs), faults=0, mismatches=wrong)
