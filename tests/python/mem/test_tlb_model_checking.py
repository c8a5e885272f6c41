"""The protocols of the TLBs and allocators, every interleaving of them: tests/models/*.pml, checked by spin.

A model that cannot fail proves nothing, so each is also checked with a piece of the protocol taken away.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[2] / "models"

pytestmark = [
    pytest.mark.skipif(not shutil.which("spin"), reason="spin is missing; on Debian: apt-get install spin"),
    pytest.mark.skipif(not shutil.which("gcc"), reason="spin needs gcc to compile its verifier; it is missing"),
]


def errors(folder: Path, model: str, *macros: str) -> int:
    """Explore all states of a model; how many errors spin reports (it stops at the first)."""
    shutil.copy(MODELS / model, folder)
    defines = [f"-D{macro}" for macro in macros]
    # The verifier is generated, compiled and run in the working folder.
    command = ["spin", *defines, "-run", "-O2", "-safety", model]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    report = done.stdout + done.stderr
    found = re.search(r"errors: (\d+)", report)
    assert found is not None, f"spin gave no verdict:\n{report}"
    assert "max search depth too small" not in report, report
    assert "out of memory" not in report, report
    return int(found[1])


@pytest.mark.parametrize(
    "macros",
    [("CHANGERS=2", "FILLERS=1"), ("CHANGERS=1", "FILLERS=2"), ("CHANGERS=2", "FILLERS=1", "PRIVATE")],
    ids=" ".join,
)
def test_no_stale_and_no_mixed_answer(tmp_path: Path, macros: tuple[str, ...]) -> None:
    assert errors(tmp_path, "sharded_tlb.pml", *macros) == 0


@pytest.mark.parametrize(
    "macros",
    [
        ("CHANGERS=1", "FILLERS=1", "NO_TICKET"),
        ("CHANGERS=1", "FILLERS=1", "LOG_LATE"),
        ("CHANGERS=1", "FILLERS=1", "NO_RECHECK"),
        ("CHANGERS=2", "FILLERS=1", "PRIVATE", "FILL_UNSETTLED"),
    ],
    ids=" ".join,
)
def test_what_is_taken_away_is_missed(tmp_path: Path, macros: tuple[str, ...]) -> None:
    assert errors(tmp_path, "sharded_tlb.pml", *macros) == 1


def test_page_sizes_that_come_and_go(tmp_path: Path) -> None:
    assert errors(tmp_path, "page_sizes.pml") == 0


@pytest.mark.parametrize("mutation", ["ONE_WORD", "ANNOUNCE_LATE"])
def test_page_sizes_mutated(tmp_path: Path, mutation: str) -> None:
    assert errors(tmp_path, "page_sizes.pml", mutation) == 1


def test_the_stack_of_magazines_loses_none_and_gives_none_twice(tmp_path: Path) -> None:
    assert errors(tmp_path, "magazine_stack.pml", "THREADS=2") == 0


def test_the_stack_of_magazines_needs_its_tag(tmp_path: Path) -> None:
    assert errors(tmp_path, "magazine_stack.pml", "THREADS=2", "NO_TAG=true") == 1
