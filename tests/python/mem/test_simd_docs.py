"""The examples of docs/simd.md run as written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "simd.md"


def test_the_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    if not PAGE.exists():
        pytest.skip("docs/simd.md is not here (tests run outside a checkout)")
    namespace: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), namespace)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["0", "[[0, 2], [4, 6], [8, 10]]"]
    assert lines[3] == "64 small"
    assert lines[-1] == "stream True"
