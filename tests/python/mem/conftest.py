"""Fixtures of the tests of vm_mem."""

from __future__ import annotations

import pytest
from mem.cli_support import Result, Run
from vm_mem.cli import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("maps", image)`` runs the vm-mem command in this process."""

    def run_command(*arguments: object) -> Result:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return run_command
