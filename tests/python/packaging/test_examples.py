"""The Python programs in examples/ run as their README says; test_consumer.py builds those in C++."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

examples = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize("program", sorted(path.name for path in examples.glob("*.py")))
def test_example(program: str) -> None:
    done = subprocess.run([sys.executable, examples / program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "SIMD feature:" in done.stdout
