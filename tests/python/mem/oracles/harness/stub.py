"""The contract between the host and the bare-metal stubs: operations, batches, results.

A stub performs each operation with the processor's own page-table walk and records what happened. The layouts are
described in the stubs' sources, `tests/data/stubs/*.S`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .memory import Ram

STUBS = Path(__file__).resolve().parents[4] / "data" / "stubs"

OPERATION = np.dtype([("vaddr", "<u8"), ("kind", "<u4"), ("status", "<u4"), ("value", "<u8"), ("code", "<u8")])
"""One access and its result."""

Operations = npt.NDArray[np.void]
"""A structured array of `OPERATION`."""

READ, WRITE, FETCH = 0, 1, 2
USER = 4
ALTERNATIVE = 8
"""AArch64: the access as AT S1E1RP and AT S1E1WP make it, which heed PSTATE.PAN."""

SUCCESS = 0x100
"""Status of an access that went through."""

NOT_RUN = 0xFFFF_FFFF

GRANULE = 64
"""Reads, writes and fetches of one address use three slots of this many bytes, so that they never disturb each other:
a read finds its own physical address, a write leaves the address of its operation, a fetch finds a breakpoint."""

OFFSETS = {READ: 0, WRITE: 8, FETCH: 16}

BATCH = struct.Struct("<16Q")


class Outcome(NamedTuple):
    """What one access must lead to."""

    paddr: int | None
    """Where it goes; None when it faults."""
    status: int
    """`SUCCESS`, or the exception that it raises."""
    code: int
    """The architecture's error code: x86 #PF code, RISC-V cause, AArch64 fault status code."""
    size: int = 0
    """Bytes of the page; 0 when it faults."""


@dataclass
class Batch:
    """Operations under one set of control registers; `registers` go to the stub as they are."""

    registers: tuple[int, ...]
    operations: Operations


def operations(vaddrs: Sequence[int], kinds: Sequence[int]) -> Operations:
    """Operations that have not run yet. Addresses are granule-aligned; each kind goes to its slot."""
    result = np.zeros(len(vaddrs), OPERATION)
    result["vaddr"] = np.array(vaddrs, np.uint64)
    result["kind"] = kinds
    result["vaddr"] += np.array([OFFSETS[kind & 3] for kind in kinds], np.uint64)
    result["status"] = NOT_RUN
    return result


def place(ram: Ram, parameters: int, area: int, batches: Sequence[Batch]) -> list[int]:
    """Writes parameters, batches and operations. Returns where each batch's operations lie."""
    at = area + (len(batches) * BATCH.size + 63 & ~63)
    places = []
    for index, batch in enumerate(batches):
        registers = (*batch.registers, *[0] * (14 - len(batch.registers)))
        ram.write(area + index * BATCH.size, BATCH.pack(at, len(batch.operations), *registers))
        ram.write(at, batch.operations.tobytes())
        places.append(at)
        at += batch.operations.nbytes
    ram.write(parameters, struct.pack("<3Q", 0, area, len(batches)))
    return places


def collect(ram: Ram, parameters: int, places: Sequence[int], batches: Sequence[Batch]) -> None:
    """Replaces every batch's operations by what the stub recorded."""
    (done,) = struct.unpack("<Q", ram.read(parameters, 8))
    if done != len(batches):
        raise AssertionError(f"the stub finished {done} of {len(batches)} batches")
    for where, batch in zip(places, batches, strict=True):
        data = ram.read(where, batch.operations.nbytes)
        batch.operations = np.frombuffer(data, OPERATION).copy()
