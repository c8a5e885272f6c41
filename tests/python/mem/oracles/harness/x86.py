"""x86 page tables: geometry, and a reference walk written from the SDM (vol. 3, chapter 4) for comparison with QEMU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .radix import Geometry, Level
from .stub import FETCH, SUCCESS, USER, WRITE, Outcome

PRESENT, WRITABLE, USER_PAGE, ACCESSED, DIRTY, LARGE, NO_EXECUTE = 1, 2, 4, 0x20, 0x40, 0x80, 1 << 63
BREAKPOINT, GENERAL_PROTECTION, PAGE_FAULT = 3, 13, 14

PHYSICAL_BITS = 40
"""QEMU's TCG implements this many physical-address bits, whatever the CPU model says."""

GEOMETRY = {
    2: Geometry((Level(22, 10), Level(12, 10)), 4),
    3: Geometry((Level(30, 2), Level(21, 9), Level(12, 9)), 8),
    4: Geometry((Level(39, 9), Level(30, 9), Level(21, 9), Level(12, 9)), 8),
    5: Geometry((Level(48, 9), Level(39, 9), Level(30, 9), Level(21, 9), Level(12, 9)), 8),
}

LARGE_SHIFTS = {2: (22,), 3: (21,), 4: (30, 21), 5: (30, 21)}
"""log2 of the large pages of each mode."""

NAMES = {2: "x86 2-level", 3: "x86 PAE", 4: "x86 4-level", 5: "x86 5-level"}


@dataclass(frozen=True)
class State:
    """The control registers that translation depends on."""

    levels: int
    root: int
    write_protect: bool = True
    no_execute: bool = True
    smep: bool = False
    smap: bool = False
    ac: bool = False
    pse: bool = True
    protection_keys: bool = False
    pkru: int = 0
    supervisor_keys: bool = False
    pkrs: int = 0

    def registers(self) -> tuple[int, ...]:
        """CR3, CR0, CR4, EFER, RFLAGS, PKRU, PKRS: as the stub's batch wants them."""
        cr0 = 0x8000_0011 | self.write_protect << 16
        cr4 = self.pse << 4 | (self.levels > 2) << 5 | (self.levels == 5) << 12 | self.smep << 20 | self.smap << 21
        cr4 |= self.protection_keys << 22 | self.supervisor_keys << 24
        efer = (self.levels > 3) << 8 | self.no_execute << 11
        return self.root, cr0, cr4, efer, 2 | self.ac << 18, self.pkru, self.pkrs


def canonical(levels: int, vaddr: int) -> int:
    """`vaddr` with its upper bits copied from the highest translated one."""
    if levels < 4:
        return vaddr & 0xFFFF_FFFF
    bits = GEOMETRY[levels].bits
    vaddr &= (1 << bits) - 1
    return vaddr | (1 << 64) - (1 << bits) if vaddr >> (bits - 1) else vaddr


def is_leaf(levels: int, pse: bool, shift: int, entry: int) -> bool:
    """True when `entry`, in a table whose entries map `1 << shift` bytes, maps a page."""
    return shift == 12 or (bool(entry & LARGE) and shift in LARGE_SHIFTS[levels] and (levels != 2 or pse))


def reserved_bits(state: State, shift: int, entry: int) -> int:
    """The bits that must be zero in `entry` (SDM vol. 3, figures 4-4 to 4-11)."""
    leaf = is_leaf(state.levels, state.pse, shift, entry)
    if state.levels == 2:
        return 1 << 21 if shift == 22 and leaf else 0
    beyond = (1 << 52) - (1 << PHYSICAL_BITS)
    if state.levels == 3:
        beyond |= 0x7FF << 52
    if not state.no_execute:
        beyond |= NO_EXECUTE
    if state.levels == 3 and shift == 30:
        return beyond | NO_EXECUTE | 0x1E6
    if shift >= 39:
        return beyond | LARGE
    return beyond | ((1 << shift) - (1 << 13) if leaf and shift > 12 else 0)


def page_base(state: State, shift: int, entry: int) -> int:
    """Physical address of the page that the leaf `entry` maps."""
    if state.levels == 2:
        if shift == 22:
            return entry & 0xFFC0_0000 | (entry >> 13 & 0xFF) << 32
        return entry & 0xFFFF_F000
    return entry & ((1 << PHYSICAL_BITS) - (1 << shift))


def key_denies(state: State, entry: int, user_page: bool, kind: int) -> bool:
    """The verdict of the protection keys (SDM vol. 3, 4.6.2).

    A user access to a supervisor page never gets as far as PKRS: QEMU refuses it without the PK flag.
    """
    enabled = state.protection_keys if user_page else state.supervisor_keys and not kind & USER
    if kind & 3 == FETCH or not enabled or state.levels < 4:
        return False
    rights = (state.pkru if user_page else state.pkrs) >> 2 * (entry >> 59 & 15)
    if rights & 1:
        return True
    return kind & 3 == WRITE and bool(rights & 2) and (bool(kind & USER) or state.write_protect)


def denied(state: State, writable: bool, user_page: bool, no_execute: bool, kind: int) -> bool:
    """True when the rights forbid the access (SDM vol. 3, 4.6.1), protection keys aside."""
    access = kind & 3
    if kind & USER:
        if not user_page:
            return True
        return (access == WRITE and not writable) or (access == FETCH and no_execute)
    if access == FETCH:
        return (user_page and state.smep) or no_execute
    if user_page and state.smap and not state.ac:
        return True
    return access == WRITE and not writable and state.write_protect


def walk(load: Callable[[int], int], state: State, vaddr: int, kind: int) -> Outcome:
    """What an access to `vaddr` leads to, A and D flags aside."""
    levels, access = state.levels, kind & 3
    if vaddr != canonical(levels, vaddr):
        return Outcome(None, GENERAL_PROTECTION, 0)
    code = (2 if access == WRITE else 0) | (4 if kind & USER else 0)
    if access == FETCH and (state.smep or (state.no_execute and levels > 2)):
        code |= 16
    geometry = GEOMETRY[levels]
    table = state.root
    writable = user_page = True
    no_execute = False
    for level in geometry.levels:
        entry = load(table + (vaddr >> level.shift & (1 << level.width) - 1) * geometry.entry)
        if not entry & PRESENT:
            return Outcome(None, PAGE_FAULT, code)
        if entry & reserved_bits(state, level.shift, entry):
            return Outcome(None, PAGE_FAULT, code | 9)
        if not (levels == 3 and level.shift == 30):
            writable &= bool(entry & WRITABLE)
            user_page &= bool(entry & USER_PAGE)
            no_execute |= bool(entry & NO_EXECUTE) and levels > 2
        if is_leaf(levels, state.pse, level.shift, entry):
            by_key = key_denies(state, entry, user_page, kind)
            if by_key or denied(state, writable, user_page, no_execute, kind):
                return Outcome(None, PAGE_FAULT, code | 1 | (32 if by_key else 0))
            size = 1 << level.shift
            return Outcome(page_base(state, level.shift, entry) | vaddr & size - 1, SUCCESS, 0, size)
        table = entry & (0xFFFF_F000 if levels == 2 else (1 << PHYSICAL_BITS) - 4096)
    raise AssertionError("the last level is always a leaf")
