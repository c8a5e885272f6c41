"""RISC-V page tables: geometry, and a reference walk written from the Privileged Architecture (chapters 10 and 11)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .radix import Geometry, Level
from .stub import FETCH, READ, SUCCESS, USER, WRITE, Outcome

VALID, READABLE, WRITABLE, EXECUTABLE, USER_PAGE, GLOBAL, ACCESSED, DIRTY = (1 << bit for bit in range(8))
PBMT_SHIFT, NAPOT = 61, 1 << 63
RESERVED = 0x7F << 54

BREAKPOINT = 3
PAGE_FAULTS = {READ: 13, WRITE: 15, FETCH: 12}

Mode = Literal["sv32", "sv39", "sv48", "sv57"]

MODES: dict[Mode, int] = {"sv32": 1, "sv39": 8, "sv48": 9, "sv57": 10}
"""satp.MODE."""

GEOMETRY: dict[Mode, Geometry] = {
    "sv32": Geometry((Level(22, 10), Level(12, 10)), 4),
    "sv39": Geometry(tuple(Level(shift, 9) for shift in (30, 21, 12)), 8),
    "sv48": Geometry(tuple(Level(shift, 9) for shift in (39, 30, 21, 12)), 8),
    "sv57": Geometry(tuple(Level(shift, 9) for shift in (48, 39, 30, 21, 12)), 8),
}


@dataclass(frozen=True)
class State:
    """The registers and extensions that translation depends on."""

    mode: Mode
    root: int
    sum: bool = False
    mxr: bool = False
    svnapot: bool = False
    svpbmt: bool = False

    def satp(self) -> int:
        """The register that turns translation on."""
        return MODES[self.mode] << (31 if self.mode == "sv32" else 60) | self.root >> 12

    def registers(self) -> tuple[int, ...]:
        """satp, mstatus bits, menvcfg, and whether to write menvcfg: as the stub's batch wants them."""
        menvcfg = self.svpbmt << 62 | 1 << 61  # PBMTE, ADUE
        return self.satp(), self.sum << 18 | self.mxr << 19, menvcfg, int(self.mode != "sv32")


def canonical(mode: Mode, vaddr: int) -> int:
    """`vaddr` with its upper bits copied from the highest translated one."""
    if mode == "sv32":
        return vaddr & 0xFFFF_FFFF
    bits = GEOMETRY[mode].bits
    vaddr &= (1 << bits) - 1
    return vaddr | (1 << 64) - (1 << bits) if vaddr >> (bits - 1) else vaddr


def frame_of(mode: Mode, entry: int) -> int:
    """The physical address in `entry`."""
    return (entry >> 10) << 12 if mode == "sv32" else (entry >> 10 & (1 << 44) - 1) << 12


def permitted(state: State, entry: int, kind: int) -> bool:
    """Step 5 of the translation: R, W, X, U against the mode, SUM and MXR."""
    access = kind & 3
    if kind & USER:
        if not entry & USER_PAGE:
            return False
    elif entry & USER_PAGE and (access == FETCH or not state.sum):
        return False
    if access == FETCH:
        return bool(entry & EXECUTABLE)
    if access == WRITE:
        return bool(entry & WRITABLE)
    return bool(entry & READABLE) or (state.mxr and bool(entry & EXECUTABLE))


def malformed(state: State, entry: int) -> bool:
    """Reserved bits and encodings, for leaves and pointers alike."""
    if not entry & VALID or entry & (READABLE | WRITABLE) == WRITABLE:
        return True
    leaf = entry & (READABLE | EXECUTABLE)
    if not leaf and entry & (ACCESSED | DIRTY | USER_PAGE):
        return True
    if state.mode == "sv32":
        return False
    memory_type = entry >> PBMT_SHIFT & 3
    if entry & RESERVED or (memory_type and not (state.svpbmt and leaf)) or memory_type == 3:
        return True
    return bool(entry & NAPOT) and not (state.svnapot and leaf)


def walk(load: Callable[[int], int], state: State, vaddr: int, kind: int) -> Outcome:
    """What an access to `vaddr` leads to when hardware sets A and D."""
    cause = PAGE_FAULTS[kind & 3]
    fault = Outcome(None, cause, cause)
    if vaddr != canonical(state.mode, vaddr):
        return fault
    geometry = GEOMETRY[state.mode]
    table = state.root
    for level in geometry.levels:
        entry = load(table + (vaddr >> level.shift & (1 << level.width) - 1) * geometry.entry)
        if malformed(state, entry):
            return fault
        page = frame_of(state.mode, entry)
        if not entry & (READABLE | EXECUTABLE):
            table = page
            continue
        if not permitted(state, entry, kind):
            return fault
        size = 1 << level.shift
        if entry & NAPOT and state.mode != "sv32":
            if level.shift != 12 or page >> 12 & 15 != 8:
                return fault
            size = 1 << 16
            page &= -size
        if page & (size - 1):
            return fault
        return Outcome(page | vaddr & (size - 1), SUCCESS, 0, size)
    return fault
