"""Numbers, sizes and rights between people and the library."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import typer
from vm_core import Access, FaultReason, describe
from vm_core.command import CliError

from .. import GuestMemory

_UNITS = ((40, "T"), (30, "G"), (20, "M"), (10, "K"))


def parse_number(text: str) -> int:
    """A whole number of 64 bits, hexadecimal with 0x or decimal; raises ValueError that says what is wrong."""
    try:
        value = int(text, 0)
    except ValueError:
        try:
            int(text, 16)
        except ValueError:
            raise ValueError(f"'{text}' is not a number; write 0x1000 or 4096") from None
        raise ValueError(f"'{text}' is not a decimal number; write 0x{text} for hexadecimal") from None
    if not 0 <= value < 1 << 64:
        raise ValueError(f"{text} is not in the range 0 to 2**64 - 1")
    return value


def number(text: str | int) -> int:
    """As ``parse_number``, for the parser of the command line."""
    if isinstance(text, int):  # a default
        return text
    try:
        return parse_number(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def parse_access(text: str) -> Access:
    """Rights from letters, ``rw`` or ``r-x`` or ``none``."""
    if text == "none":
        return Access.NONE
    letters = text.replace("-", "")
    rights = {"r": Access.READ, "w": Access.WRITE, "x": Access.EXECUTE}
    if not letters or set(letters) - rights.keys() or len(set(letters)) != len(letters):
        raise CliError(f"--access '{text}' is not made of the letters r, w and x, each at most once, nor is it 'none'")
    access = Access.NONE
    for letter in letters:
        access |= rights[letter]
    return access


RIGHTS = tuple("".join(c if bits >> i & 1 else "-" for i, c in enumerate("rwx")) for bits in range(8))
"""``RIGHTS[access]`` is ``"r-x"`` and the like."""


def size_text(size: int) -> str:
    """Bytes exactly, in the largest unit without a fraction: ``2M``, ``612K``."""
    for shift, unit in _UNITS:
        if size and size % (1 << shift) == 0:
            return f"{size >> shift}{unit}"
    return str(size)


def round_size(size: float) -> str:
    """Bytes to about three digits: ``3.17G``."""
    for shift, unit in _UNITS:
        if size >= 1 << shift:
            value = size / (1 << shift)
            return f"{value:.3g}{unit}" if value < 999.5 else f"{value:.0f}{unit}"
    return f"{size:.0f}"


def format_name(memory: GuestMemory) -> str:
    """The image's format as its documents write it."""
    return {"elf": "ELF core", "lime": "LiME"}.get(memory.format, memory.format)


def fault_text(reason: int) -> str:
    """A fault reason in plain words."""
    return describe(FaultReason(reason))


def fault_counts(faults: npt.NDArray[np.uint8]) -> dict[str, int]:
    """How often each reason occurs, most frequent first; successes are left out."""
    counts = np.bincount(faults.ravel(), minlength=1)
    found = [(int(counts[i]), FaultReason(i)) for i in np.flatnonzero(counts).tolist() if i != FaultReason.NONE]
    return {reason.name: count for count, reason in sorted(found, key=lambda pair: (-pair[0], pair[1]))}


def count_text(counts: dict[str, int]) -> str:
    """``fault_counts`` in one line."""
    return join(f"{count:,} {describe(FaultReason[name])}" for name, count in counts.items())


def plural(count: int, noun: str) -> str:
    """``1 page``, ``2 pages``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def join(parts: Iterable[str]) -> str:
    """Parts of a sentence."""
    return ", ".join(parts)
