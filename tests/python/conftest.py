"""What every Python test needs: Ctrl-C that works, however the run was started, and one summary of all oracles.

The hooks are here because pytest-xdist's own process, which prints, collects no tests and so reads no other conftest.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest
from mem.oracles.harness.report import COUNTS, Counts, Row

# A shell that starts a run in the background has it ignore SIGINT, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[COUNTS] = Counts()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker sends what it counted."""
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
    """How many addresses were compared with QEMU, and how many answers differed."""
    counts = config.stash[COUNTS]
    if counts.rows or counts.manuals:
        terminalreporter.section("compared with QEMU")
        for line in counts.lines():
            terminalreporter.write_line(line)
