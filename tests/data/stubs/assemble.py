#!/usr/bin/env python3
"""Assembles the stubs that the QEMU comparisons run, with GNU binutils 2.40 (Debian 12).

    apt-get install binutils binutils-aarch64-linux-gnu binutils-riscv64-linux-gnu
    tests/data/stubs/assemble.py [FOLDER]

Writes NAME.bin for every stub into FOLDER (default: beside the sources).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent


class Stub(NamedTuple):
    """How one binary is made."""

    source: str
    prefix: str
    assembler: tuple[str, ...]
    linker: tuple[str, ...]
    address: int


STUBS = {
    "x86_boot": Stub("x86_boot.S", "x86_64-linux-gnu-", ("--32",), ("-m", "elf_i386"), 0xFFFF0000),
    "x86_32": Stub("x86_32.S", "x86_64-linux-gnu-", ("--32",), ("-m", "elf_i386"), 0x10000),
    "x86_64": Stub("x86_64.S", "x86_64-linux-gnu-", ("--64",), ("-m", "elf_x86_64"), 0x10000),
    "riscv64": Stub(
        "riscv.S",
        "riscv64-linux-gnu-",
        ("-march=rv64ima_zicsr", "-mabi=lp64", "--defsym", "XLEN=64"),
        ("-m", "elf64lriscv"),
        0x80000000,
    ),
    "riscv32": Stub(
        "riscv.S",
        "riscv64-linux-gnu-",
        ("-march=rv32ima_zicsr", "-mabi=ilp32", "--defsym", "XLEN=32"),
        ("-m", "elf32lriscv"),
        0x80000000,
    ),
    "aarch64": Stub("aarch64.S", "aarch64-linux-gnu-", ("-march=armv8.2-a",), ("-m", "aarch64linux"), 0x40200000),
}


def assemble(name: str, folder: Path) -> Path:
    """Makes `folder`/NAME.bin and returns its path. Raises CalledProcessError when a tool refuses."""
    stub = STUBS[name]
    target = folder / f"{name}.bin"
    with tempfile.TemporaryDirectory() as scratch:
        made, linked = Path(scratch) / "stub.o", Path(scratch) / "stub.elf"
        steps = (
            ("as", *stub.assembler, "-o", str(made), str(HERE / stub.source)),
            ("ld", *stub.linker, f"-Ttext={stub.address:#x}", "--entry=0", "-o", str(linked), str(made)),
            ("objcopy", "-O", "binary", "-j", ".text", str(linked), str(target)),
        )
        for tool, *arguments in steps:
            subprocess.run([stub.prefix + tool, *arguments], check=True)
    target.chmod(0o644)
    return target


if __name__ == "__main__":
    destination = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for stub_name in STUBS:
        print(assemble(stub_name, destination))
