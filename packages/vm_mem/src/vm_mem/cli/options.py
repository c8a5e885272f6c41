"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from .text import number

_TABLES = "Page tables"


class ArchName(str, Enum):
    """Page-table formats, as ``machine.ARCHITECTURES``."""

    x86 = "x86"
    x86_pae = "x86_pae"
    x86_64 = "x86_64"
    x86_64_la57 = "x86_64_la57"
    sv32 = "sv32"
    sv39 = "sv39"
    sv48 = "sv48"
    sv57 = "sv57"
    aarch64 = "aarch64"


class FormatName(str, Enum):
    """Image formats."""

    raw = "raw"
    lime = "lime"
    elf = "elf"


Image = Annotated[
    Path, typer.Argument(metavar="IMAGE", help="Memory image: raw, LiME or ELF core; packed with xz if you like.")
]
ImageFormat = Annotated[
    FormatName | None, typer.Option("--format", help="Format of the image (default: told by its content).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _number(name: str, help_text: str) -> Any:
    return typer.Option(name, metavar="NUMBER", parser=number, help=help_text, rich_help_panel=_TABLES)


Arch = Annotated[
    ArchName | None,
    typer.Option(
        "--arch", help="Page-table format (default: what the image's registers select).", rich_help_panel=_TABLES
    ),
]
Root = Annotated[
    int | None,
    _number("--root", "Physical address of the top table; aarch64: of the upper half's (default: the image's CR3)."),
]
Cpu = Annotated[
    int | None,
    typer.Option("--cpu", min=0, help="CPU whose registers count (default: the first).", rich_help_panel=_TABLES),
]
Efer = Annotated[
    int | None, _number("--efer", "x86: EFER, which dumps of QEMU lack (default: NXE is assumed to be set).")
]
Granule = Annotated[int | None, _number("--granule", "aarch64: 4096, 16384 or 65536 (default: as --tcr, or 4096).")]
Ttbr0 = Annotated[int | None, _number("--ttbr0", "aarch64: TTBR0_EL1; without it the lower half is not walked.")]
Ttbr1 = Annotated[int | None, _number("--ttbr1", "aarch64: TTBR1_EL1; without it the upper half is not walked.")]
Tcr = Annotated[int | None, _number("--tcr", "aarch64: TCR_EL1 (default: 48-bit halves, 48-bit output).")]
