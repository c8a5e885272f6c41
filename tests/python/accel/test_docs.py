"""The examples of docs/accel.md run as written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from accel.guests import kvm_vm

PAGE = Path(__file__).parents[3] / "docs" / "accel.md"


@pytest.mark.skipif(not PAGE.exists(), reason="needs a checkout: the documentation is not here")
def test_the_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    with kvm_vm():
        pass
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        namespace: dict[str, Any] = {}
        exec(compile(block, str(PAGE), "exec"), namespace)
    printed = capsys.readouterr().out
    assert printed.startswith("4\n")
    assert printed.endswith("IoOut(port=0x3f8, data=b'hi', size=1) IoIn(port=0x60, size=1, count=1)\n")
