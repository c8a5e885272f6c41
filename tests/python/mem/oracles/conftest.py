"""Shows, at the end of a run, how many addresses were compared with QEMU and how many answers differed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mem.oracles.harness.report import Counts, Row

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


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist sends what it counted to the process that prints."""
    if hasattr(session.config, "workeroutput"):
        counts = session.config.stash[COUNTS]
        session.config.workeroutput["qemu"] = [list(map(tuple, rows)) for rows in (counts.rows, counts.manuals)]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes what a worker sent; one that crashed sent nothing, which pytest-xdist reports."""
    counts = node.config.stash[COUNTS]
    sent = getattr(node, "workeroutput", {}).get("qemu", ([], []))
    for rows, found in zip((counts.rows, counts.manuals), sent, strict=True):
        rows += [Row(*row) for row in found]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counts = config.stash[COUNTS]
    if counts.rows or counts.manuals:
        terminalreporter.section("compared with QEMU")
        for line in counts.lines():
            terminalreporter.write_line(line)
