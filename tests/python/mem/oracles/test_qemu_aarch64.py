"""AArch64 page tables: QEMU's AT instructions and its fetches must agree on address and fault status code."""

from __future__ import annotations

from pathlib import Path

import pytest
from mem.oracles.harness import monitor
from mem.oracles.harness.aarch64_cases import MODES, AArch64Cases, Mode
from mem.oracles.harness.compare import compare, perform
from mem.oracles.harness.plain import PlainAArch64
from mem.oracles.harness.qemu import unsuitable
from mem.oracles.harness.report import Counts

REASON = unsuitable("qemu-system-aarch64")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

SEED = 1
IDS = [mode.name.removeprefix("AArch64 ").replace(", ", "-") for mode in MODES]


@pytest.mark.parametrize("mode", MODES, ids=IDS)
def test_accesses(mode: Mode, ram_path: Path, tmp_path: Path, record_counts: Counts) -> None:
    """AT S1E0R/W, S1E1R/W and S1E1RP/WP, and branches to EL1 and EL0, under random TCR, WXN and PAN."""
    cases = AArch64Cases(ram_path, mode, SEED, 3000)
    try:
        run = perform(cases, mode.name, record_counts)
        compare(run, mode.name, record_counts, tmp_path)
    finally:
        cases.close()


@pytest.mark.parametrize("mode", MODES, ids=IDS)
def test_addresses(mode: Mode, ram_path: Path, tmp_path: Path, record_counts: Counts) -> None:
    """Pages anywhere in the physical address space; gva2gpa finds the same ones."""
    cases = PlainAArch64(ram_path, mode, SEED, 3000)
    try:
        monitor.compare_addresses(cases, mode.name, record_counts, tmp_path, positive=1000, negative=1000)
    finally:
        cases.close()
