"""The examples of docs/pages.md run as written."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "pages.md"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="the page has code for x86-64 and AArch64")
def test_the_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    if not PAGE.exists():
        pytest.skip("docs/pages.md is not here (tests run outside a checkout)")
    namespace: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), namespace)
    census, violation, figures = capsys.readouterr().out.splitlines()
    assert census.startswith("PageCensus(mapped=67108864, resident=67108864, huge=")
    assert "has rw-, wanted rwx" in violation
    assert re.fullmatch(r"0 (\d+|None) 8388608", figures)
