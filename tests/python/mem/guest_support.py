"""Image files made by hand, from the formats' own documents and nothing of vm_mem."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PT_LOAD = 1
PT_NOTE = 4


def lime_range(first: int, content: bytes, *, last: int | None = None, version: int = 1) -> bytes:
    """One LiME range; `last` only to lie."""
    if last is None:
        last = first + len(content) - 1
    return b"EMiL" + struct.pack("<IQQQ", version, first, last, 0) + content


@dataclass(frozen=True)
class Segment:
    """One program header and what it points to."""

    paddr: int
    content: bytes
    memory_size: int | None = None
    kind: int = PT_LOAD


def elf_core(segments: Sequence[Segment], *, machine: int = 62, bits: int = 64, padding: int = 0) -> bytes:
    """An ELF core; contents follow the headers, each after `padding` bytes."""
    ident = b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9)
    header, entry = (64, 56) if bits == 64 else (52, 32)
    address = "Q" if bits == 64 else "I"
    fields = (4, machine, 1, 0, header, 0, 0, header, entry, len(segments), 0, 0, 0)
    out = ident + struct.pack(f"<HHI{address}{address}{address}IHHHHHH", *fields)
    offset = header + entry * len(segments)
    for segment in segments:
        offset += padding
        size = len(segment.content)
        memory_size = size if segment.memory_size is None else segment.memory_size
        if bits == 64:
            out += struct.pack("<IIQQQQQQ", segment.kind, 0, offset, 0, segment.paddr, size, memory_size, 0)
        else:
            out += struct.pack("<IIIIIIII", segment.kind, offset, 0, segment.paddr, size, memory_size, 0, 0)
        offset += size
    for segment in segments:
        out += bytes(padding) + segment.content
    return out


def note(name: bytes, kind: int, content: bytes) -> bytes:
    """One ELF note."""
    name += b"\0"
    out = struct.pack("<III", len(name), len(content), kind) + name + bytes(-len(name) % 4)
    return out + content + bytes(-len(content) % 4)


def qemu_cpu_state(values: Iterable[tuple[int, int]] = (), *, version: int = 1, size: int = 440) -> bytes:
    """QEMU's CPU note content with 64-bit values at byte offsets."""
    state = bytearray(size)
    struct.pack_into("<II", state, 0, version, size)
    for offset, value in values:
        struct.pack_into("<Q", state, offset, value)
    return bytes(state)
