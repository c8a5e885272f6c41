"""The README's Python examples run as written, one after the other in one namespace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

readme = Path(__file__).parents[2] / "README.md"


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if not readme.exists():
        pytest.skip("README.md is not here (tests run outside a checkout)")
    monkeypatch.chdir(tmp_path)
    text = readme.read_text()
    blocks = list(re.finditer(r"```python\n(.*?)```", text, re.DOTALL))
    assert len(blocks) >= 5
    namespace: dict[str, Any] = {}
    for block in blocks:
        line = text.count("\n", 0, block.start()) + 1
        code = "\n" * line + block.group(1)  # tracebacks show the README's own line numbers
        exec(compile(code, str(readme), "exec"), namespace)
    assert "0x10123" in capsys.readouterr().out
