"""AArch64 page tables of EL1&0, stage 1: geometry, and a reference walk written from the Arm ARM (DDI 0487, D8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from .radix import Geometry, Level
from .stub import ALTERNATIVE, FETCH, SUCCESS, USER, WRITE, Outcome

VALID, TABLE = 1, 2
USER_ACCESS, READ_ONLY = 1 << 6, 1 << 7
ACCESS_FLAG = 1 << 10
DIRTY_MODIFIER = 1 << 51
PXN, UXN = 1 << 53, 1 << 54
PXN_TABLE, UXN_TABLE, NO_USER_TABLE, READ_ONLY_TABLE = 1 << 59, 1 << 60, 1 << 61, 1 << 62

ADDRESS_SIZE, TRANSLATION, ACCESS, PERMISSION = 0, 1, 2, 3
"""Fault kinds: bits 5 to 2 of the fault status code; below them stands the level."""

GRANULES = {4096: (0, 2), 16384: (2, 1), 65536: (1, 3)}
"""TCR.TG0 and TCR.TG1 for each granule."""

PHYSICAL_SIZES = (32, 36, 40, 42, 44, 48, 52)
"""TCR.IPS."""


@dataclass(frozen=True)
class Half:
    """One of the two halves of the address space."""

    root: int
    size_offset: int
    walk_disabled: bool = False
    ignore_top_byte: bool = False
    flat_permissions: bool = False


@dataclass(frozen=True)
class State:
    """The registers that translation depends on."""

    granule: int
    halves: tuple[Half, Half]
    physical_size: int = 5
    large_addresses: bool = False
    wxn: bool = False
    pan: bool = False
    hardware_accessed: bool = False
    hardware_dirty: bool = False

    @property
    def output_bits(self) -> int:
        """Bits of a physical address: 52 only with the 64K granule or TCR.DS."""
        bits = PHYSICAL_SIZES[self.physical_size]
        return bits if self.granule == 65536 or self.large_addresses else min(bits, 48)

    def tcr(self) -> int:
        """TCR_EL1."""
        low, high = self.halves
        tg0, tg1 = GRANULES[self.granule]
        value = low.size_offset | high.size_offset << 16 | tg0 << 14 | tg1 << 30 | self.physical_size << 32
        value |= low.walk_disabled << 7 | high.walk_disabled << 23
        value |= low.ignore_top_byte << 37 | high.ignore_top_byte << 38
        value |= low.flat_permissions << 41 | high.flat_permissions << 42
        value |= self.hardware_accessed << 39 | self.hardware_dirty << 40
        return value | self.large_addresses << 59

    def ttbr(self, which: int) -> int:
        """TTBR0_EL1 or TTBR1_EL1; bits 51 to 48 of the root lie in bits 5 to 2 when addresses have 52 bits."""
        root = self.halves[which].root
        return root & (1 << 48) - 1 | root >> 48 << 2

    def registers(self) -> tuple[int, ...]:
        """TTBR0, TTBR1, TCR, SCTLR (M, and bits that read as one), MAIR, PAN: as the stub's batch wants them."""
        sctlr = 0x30D0_0981 | self.wxn << 19
        return self.ttbr(0), self.ttbr(1), self.tcr(), sctlr, 0xFF, int(self.pan)


def page_bits(granule: int) -> int:
    """log2 of the granule."""
    return granule.bit_length() - 1


@cache
def geometry(granule: int, size_offset: int) -> Geometry:
    """The levels that resolve 64 - `size_offset` address bits."""
    page, bits = page_bits(granule), 64 - size_offset
    stride = page - 3
    levels = [Level(shift, min(stride, bits - shift)) for shift in range(page, bits, stride)]
    return Geometry(tuple(reversed(levels)), 8)


def number(granule: int, shift: int) -> int:
    """The architecture's number of the level whose entries map `1 << shift` bytes: 3 is the last, -1 the first."""
    return 3 - (shift - page_bits(granule)) // (page_bits(granule) - 3)


def fault_code(kind: int, level: int) -> int:
    """The fault status code; level -1 has codes of its own."""
    if level >= 0:
        return kind << 2 | level
    return {ADDRESS_SIZE: 0x29, TRANSLATION: 0x2B}[kind]


def block_allowed(state: State, level: int) -> bool:
    """True when a block descriptor exists at `level` (Arm ARM D8.3.1)."""
    if state.granule == 4096:
        return level in (1, 2) or (level == 0 and state.large_addresses)
    if state.granule == 16384:
        return level == 2 or (level == 1 and state.large_addresses)
    return level == 2 or (level == 1 and state.physical_size == 6)


def output_address(state: State, descriptor: int) -> int:
    """The address in `descriptor`, down to bit 12."""
    if state.large_addresses:
        return descriptor & (1 << 50) - 4096 | (descriptor >> 8 & 3) << 50
    if state.granule == 65536 and state.physical_size == 6:
        return descriptor & (1 << 48) - 65536 | (descriptor >> 12 & 15) << 48
    return descriptor & (1 << 48) - 4096


def permitted(state: State, descriptor: int, kind: int) -> bool:
    """The direct permissions of stage 1 (Arm ARM D8.4), with the tables' already folded into `descriptor`."""
    access = kind & 3
    user_access, read_only = bool(descriptor & USER_ACCESS), bool(descriptor & READ_ONLY)
    if kind & USER:
        if access == FETCH:
            return not descriptor & UXN and not (state.wxn and user_access and not read_only)
        return user_access and not (access == WRITE and read_only)
    if access == FETCH:
        return not descriptor & PXN and not (user_access and not read_only) and not (state.wxn and not read_only)
    if kind & ALTERNATIVE and state.pan and user_access:
        return False
    return not (access == WRITE and read_only)


def fold(descriptor: int, tables: int) -> int:
    """`descriptor` with the restrictions that the table descriptors above it add."""
    if tables & NO_USER_TABLE:
        descriptor &= ~USER_ACCESS
    if tables & READ_ONLY_TABLE:
        descriptor |= READ_ONLY
    return descriptor | (PXN if tables & PXN_TABLE else 0) | (UXN if tables & UXN_TABLE else 0)


def flagged(state: State, descriptor: int, kind: int) -> int:
    """`descriptor` as the processor leaves it after an access, when it manages the flags (Arm ARM D8.5)."""
    if state.hardware_accessed:
        descriptor |= ACCESS_FLAG
    if state.hardware_dirty and kind & 3 == WRITE and descriptor & DIRTY_MODIFIER:
        descriptor &= ~READ_ONLY
    return descriptor


def walk(
    load: Callable[[int], int],
    state: State,
    vaddr: int,
    kind: int,
    store: Callable[[int, int], None] | None = None,
) -> Outcome:
    """What an access to `vaddr` leads to; `store` is given the leaf when the processor changes its flags."""

    def fault(what: int, level: int) -> Outcome:
        code = fault_code(what, level)
        return Outcome(None, code, code)

    upper = vaddr >> 55 & 1
    half = state.halves[upper]
    # Everything above the translated bits must repeat bit 55; with ignored tags, up to bit 55.
    unused = (1 << (55 if half.ignore_top_byte else 64)) - (1 << 64 - half.size_offset)
    if vaddr & unused != upper * unused or half.walk_disabled:
        return fault(TRANSLATION, 0)
    levels = geometry(state.granule, half.size_offset).levels
    table, folded = half.root, 0
    for level in levels:
        place = table + (vaddr >> level.shift & (1 << level.width) - 1) * 8
        descriptor = load(place)
        depth = number(state.granule, level.shift)
        last = depth == 3
        if not descriptor & VALID or (last and not descriptor & TABLE):
            return fault(TRANSLATION, depth)
        leaf = last or not descriptor & TABLE
        if leaf and not last and not block_allowed(state, depth):
            return fault(TRANSLATION, depth)
        address = output_address(state, descriptor)
        if address >> state.output_bits:
            return fault(ADDRESS_SIZE, depth)
        if leaf:
            after = flagged(state, descriptor, kind)
            if not after & ACCESS_FLAG:
                return fault(ACCESS, depth)
            if not permitted(state, fold(after, folded), kind):
                return fault(PERMISSION, depth)
            if store is not None and after != descriptor:
                store(place, after)
            size = 1 << level.shift
            return Outcome(address & -size | vaddr & size - 1, SUCCESS, 0, size)
        if not half.flat_permissions:
            folded |= descriptor
        table = address & -state.granule
    raise AssertionError("the last level is always a leaf")
