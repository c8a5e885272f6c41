"""docs/cli.md shows what the commands print today."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mem.cli_support import DATA

PAGE = DATA.parents[1] / "docs" / "cli.md"
IMAGE = "tests/data/linux_guest.elf.xz"


def transcripts() -> list[tuple[str, str]]:
    """Commands about the image of the repository, with the output that the page shows."""
    if not PAGE.exists():
        return []
    blocks = re.findall(r"^```\n(\$ .*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    steps = [step for block in blocks for step in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)]
    return [(command, output) for command, output in steps if IMAGE in command and "vaddrs.npy" not in command]


@pytest.mark.skipif(not PAGE.exists(), reason="needs a checkout: the documentation is not here")
def test_the_page_has_transcripts() -> None:
    assert len(transcripts()) >= 4


@pytest.mark.parametrize(("command", "output"), transcripts())
def test_a_transcript_is_what_happens(command: str, output: str) -> None:
    script = command.replace("vm-mem", f"{sys.executable} -m vm_mem").replace(IMAGE, str(DATA / Path(IMAGE).name))
    done = subprocess.run(["bash", "-c", f"({script}) 2>&1"], capture_output=True, text=True, check=True)
    assert done.stdout == output
