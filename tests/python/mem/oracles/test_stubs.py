"""The shipped stubs are what their sources assemble to."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from mem.oracles.harness.qemu import missing
from mem.oracles.harness.stub import STUBS

MADE_WITH = "2.40"
"""Binutils of Debian 12; another version may choose other encodings of the same instructions."""


def assembler() -> ModuleType:
    spec = importlib.util.spec_from_file_location("assemble", STUBS / "assemble.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["x86_boot", "x86_32", "x86_64", "riscv64", "riscv32", "aarch64"])
def test_binary_is_what_the_source_says(name: str, tmp_path: Path) -> None:
    module = assembler()
    program = module.STUBS[name].prefix + "as"
    reason = missing(program)
    if reason is not None:
        pytest.skip(reason)
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    if MADE_WITH not in version:
        pytest.skip(f"{version}; the stubs were made with {MADE_WITH}")
    assert module.assemble(name, tmp_path).read_bytes() == (STUBS / f"{name}.bin").read_bytes()
