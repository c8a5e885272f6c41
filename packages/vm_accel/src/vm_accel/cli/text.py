"""Sizes between people and the library."""

from __future__ import annotations

import re

import typer


def memory_size(text: str | int) -> int:
    """Bytes, from a number with K, M or G behind it; M without one, as QEMU reads it."""
    if isinstance(text, int):  # a default
        return text
    match = re.fullmatch(r"(\d+)([KMG]?)i?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise typer.BadParameter(f"'{text}' is not a size; write 128M or 2G")
    return int(match[1]) << {"K": 10, "M": 20, "G": 30}[match[2].upper() or "M"]
