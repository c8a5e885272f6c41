"""Shows, at the end of a run, how many addresses were compared with QEMU and how many answers differed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mem.oracles.harness.report import Counts

COUNTS = pytest.StashKey[Counts]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[COUNTS] = Counts()


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counts = config.stash[COUNTS]
    if counts.rows or counts.manuals:
        terminalreporter.section("compared with QEMU")
        for line in counts.lines():
            terminalreporter.write_line(line)
