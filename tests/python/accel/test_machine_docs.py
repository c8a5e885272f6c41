"""docs/cli.md shows what ``vm-accel`` prints today."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from vm_accel import create_hypervisor
from vm_core import NotSupported

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"


@pytest.mark.skipif(not PAGE.exists(), reason="needs a checkout: the documentation is not here")
def test_the_transcripts_are_what_happens(tmp_path: Path) -> None:
    try:
        with create_hypervisor() as hypervisor:
            if hypervisor.architecture != "x86_64":
                pytest.skip(f"the guests are x86, the hypervisor runs {hypervisor.architecture}")
    except NotSupported as error:
        pytest.skip(str(error))
    page = PAGE.read_text().partition("# The vm-accel command")[2]
    blocks = re.findall(r"^```\n(\$ .*?)^```$", page, re.MULTILINE | re.DOTALL)
    steps = [step for block in blocks for step in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)]
    assert len(steps) == 3
    for command, output in steps:
        script = command.replace("vm-accel", f"{sys.executable} -m vm_accel")
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert done.stdout == output
