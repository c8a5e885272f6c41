"""docs/kvm.md names what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import vm_accel

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "kvm.md"
SOURCES = ROOT / "cpp" / "src" / "accel"


@pytest.mark.skipif(not PAGE.exists(), reason="needs a checkout: the documentation is not here")
def test_every_name_of_the_table_exists() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line.startswith("| KVM_")]
    assert len(rows) > 30
    code = "\n".join(file.read_text() for file in SOURCES.rglob("*.cpp"))
    for requests, names, _ in rows:
        found = re.findall(r"`([\w.]+)`", names)
        assert found or names.strip() == "none"
        for name in found:
            value: object = vm_accel
            for part in name.split("."):
                value = getattr(value, part)
        for request in re.findall(r"KVM_\w+", requests) if found else ():
            word = request.removeprefix("KVM_").lower()
            assert re.search(rf"\b{request}\b", code) or re.search(rf"\b{word}\b", code), request
