"""What the comparisons with QEMU share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mem.oracles.harness.report import COUNTS, Counts


@pytest.fixture(scope="session")
def record_counts(pytestconfig: pytest.Config) -> Counts:
    """Where a test says what it has compared."""
    return pytestconfig.stash[COUNTS]


@pytest.fixture
def ram_path(tmp_path: Path) -> Iterator[Path]:
    """A file for a machine's memory: gigabytes of address space, few of them used, gone after the test."""
    path = tmp_path / "ram"
    yield path
    path.unlink(missing_ok=True)
