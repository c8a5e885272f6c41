"""Random AArch64 address spaces and accesses, and the machine that performs them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from . import aarch64
from .cases import Cases, Layout
from .qemu import QemuError, memory_arguments, run_to_exit
from .stub import ALTERNATIVE, FETCH, OFFSETS, STUBS, SUCCESS, USER, Operations, Outcome

STUB = 0x4020_0000
VECTORS = 0x4030_0000
VECTORS_VADDR = (1 << 64) - 65536
LAYOUT = Layout(1 << 30, 3 << 30, 0x4021_0000, 0x4040_0000, 0x4400_0000, 0x8000_0000)

HYPERCALL = 0xD400_0022
"""hvc #1."""

BRK_CLASS = 0x3C
ABORT_CLASSES = {0: 0x21, 4: 0x20}
"""Exception class of an instruction abort, from EL1 and from EL0."""


class Mode(NamedTuple):
    """A granule, TnSZ of both halves, and the widest physical address that descriptors hold.

    Above 48 bits that needs FEAT_LPA (64K) or FEAT_LPA2 and TCR.DS (4K and 16K).
    """

    granule: int
    size_offset: int
    address_bits: int = 48

    @property
    def name(self) -> str:
        """For people."""
        feature = "" if not self.wide else ", LPA" if self.granule == 65536 else ", LPA2"
        return f"AArch64 {self.granule >> 10}K, {64 - self.size_offset}-bit{feature}"

    @property
    def wide(self) -> bool:
        """True when physical addresses may exceed 48 bits."""
        return self.address_bits > 48

    @property
    def large_addresses(self) -> bool:
        """TCR.DS."""
        return self.wide and self.granule != 65536

    def physical_sizes(self) -> tuple[int, ...]:
        """Values of TCR.IPS to try.

        With the 64K granule the architecture does not say what bits 15 to 12 of a descriptor do when the size is below
        52 bits; with TCR.DS, QEMU 7.2 then ignores bits 9 and 8, where the Arm ARM has an address size fault.
        """
        return (6,) if self.address_bits == 52 else (0, 1, 2, 3, 4, 5, 5, 5, 6, 6)

    def shape(self) -> aarch64.State:
        """A state with the widest addresses of this mode and no tables."""
        half = aarch64.Half(0, self.size_offset)
        return aarch64.State(self.granule, (half, half), 6 if self.wide else 5, self.large_addresses)

    def leaf_shifts(self) -> tuple[int, ...]:
        """log2 of every page and block size."""
        state = self.shape()

        def legal(shift: int) -> bool:
            level = aarch64.number(self.granule, shift)
            return level == 3 or aarch64.block_allowed(state, level)

        return tuple(filter(legal, aarch64.geometry(self.granule, self.size_offset).shifts()))


MODES = (
    *(Mode(4096, size_offset) for size_offset in (16, 20, 25)),
    *(Mode(16384, size_offset) for size_offset in (16, 28)),
    *(Mode(65536, size_offset) for size_offset in (16, 22)),
    *(Mode(65536, size_offset, 52) for size_offset in (12, 16)),
    *(Mode(granule, 12, 52) for granule in (4096, 16384)),
    *(Mode(granule, 17, 50) for granule in (4096, 16384)),
)
"""Every granule, with different numbers of levels and sizes of the root table."""


class AArch64Cases(Cases[aarch64.State]):
    """Two trees, one for each half.

    QEMU 7.2 takes block descriptors at levels that have none; the tables hold no such blocks.
    """

    store_width = 0
    breakpoint = (0xD420_0EE0).to_bytes(4, "little")

    def __init__(self, path: Path, mode: Mode, seed: int, mappings: int) -> None:
        super().__init__(path, LAYOUT, aarch64.geometry(mode.granule, mode.size_offset), seed)
        self.mode = mode
        self._changed: dict[int, int] = {}
        self.low, self.high = self.trees(2)
        self._map_vectors()
        shifts = (*mode.leaf_shifts(), mode.leaf_shifts()[-1])
        upper = (1 << 64) - (1 << self.geometry.bits)
        for tree, beyond in ((self.low, 0), (self.high, upper)):
            self.populate(tree, shifts, mappings // 2, beyond)

    def _map_vectors(self) -> None:
        def pointer(depth: int, frame: int) -> int:
            return frame | aarch64.VALID | aarch64.TABLE

        vaddr = VECTORS_VADDR & (1 << self.geometry.bits) - 1
        rights = aarch64.READ_ONLY | aarch64.ACCESS_FLAG | aarch64.UXN
        entry = VECTORS | aarch64.VALID | aarch64.TABLE | rights
        assert self.high.put(vaddr, len(self.geometry.levels) - 1, entry, pointer) is not None
        for offset in (0x200, 0x400):
            self.ram.write(VECTORS + offset, HYPERCALL.to_bytes(4, "little"))

    def child(self, depth: int, entry: int) -> int | None:
        """Table descriptors; an address too large for the machine cannot be followed."""
        if depth == len(self.geometry.levels) - 1 or entry & 3 != 3:
            return None
        table = aarch64.output_address(self.mode.shape(), entry) & -self.mode.granule
        return table if self.ram.holds(table, self.mode.granule) else None

    def encode(self, address: int) -> int:
        """`address` as a descriptor holds it."""
        if self.mode.large_addresses:
            return address & (1 << 50) - 1 | address >> 50 << 8
        return address & (1 << 48) - 1 | address >> 48 << 12

    def pointer(self, depth: int, frame: int) -> int:
        """Hierarchical restrictions, seldom; an address too large for the smaller sizes, hardly ever."""
        far = self.chance(0.02, 1 << self.random.randrange(33, self.mode.address_bits))
        table = aarch64.TABLE
        if self.geometry.levels[depth].shift in self.mode.leaf_shifts():
            table = self.chance(0.99, table)
        entry = self.encode(frame | far) | self.chance(0.98, aarch64.VALID) | table
        entry |= self.chance(0.08, aarch64.PXN_TABLE) | self.chance(0.08, aarch64.UXN_TABLE)
        entry |= self.chance(0.08, aarch64.NO_USER_TABLE) | self.chance(0.08, aarch64.READ_ONLY_TABLE)
        return entry | self.chance(0.3, 1 << 63) | self.chance(0.3, 0x7F << 52) | self.chance(0.3, 3 << 2)

    def page(self, shift: int) -> int:
        """Half of them memory; the largest blocks start at 0 and hold all of it."""
        pick, layout = self.random, self.layout
        if pick.random() < 0.5:
            return pick.getrandbits(pick.choice((34, 38, 44, self.mode.address_bits))) >> shift << shift
        if shift > 30:
            return 0
        return pick.randrange(layout.data >> shift, (layout.base + layout.size) >> shift) << shift

    def leaf(self, shift: int, page: int) -> int:
        """All bits at random."""
        last = shift == aarch64.page_bits(self.mode.granule)
        entry = self.encode(page) | (0 if self.mode.large_addresses else self.chance(0.7, 3 << 8))
        entry |= self.chance(0.97, aarch64.VALID) | (self.chance(0.98, aarch64.TABLE) if last else 0)
        entry |= self.chance(0.6, aarch64.USER_ACCESS) | self.chance(0.4, aarch64.READ_ONLY)
        entry |= self.chance(0.93, aarch64.ACCESS_FLAG) | self.chance(0.5, 1 << 11)
        entry |= self.chance(0.3, aarch64.PXN) | self.chance(0.3, aarch64.UXN)
        return entry | self.chance(0.2, 1 << 51) | self.chance(0.3, 0xF << 55) | self.chance(0.1, 1 << 50)

    def state(self) -> aarch64.State:
        """Physical sizes, disabled walks, ignored tags, flat permissions, WXN and PAN at random."""
        pick = self.random
        disabled = pick.choice((0, 1)) if pick.random() < 0.15 else None

        # The library refuses halves that differ in this.
        flat = pick.random() < 0.3

        def half(which: int, root: int) -> aarch64.Half:
            return aarch64.Half(
                root,
                self.mode.size_offset,
                walk_disabled=which == disabled,
                ignore_top_byte=pick.random() < 0.3,
                flat_permissions=flat,
            )

        physical_size = pick.choice(self.mode.physical_sizes())
        halves = half(0, self.low.root), half(1, self.high.root)
        accessed = pick.random() < 0.3
        return aarch64.State(
            self.mode.granule,
            halves,
            physical_size,
            self.mode.large_addresses,
            wxn=pick.random() < 0.3,
            pan=pick.random() < 0.4,
            hardware_accessed=accessed,
            hardware_dirty=accessed and pick.random() < 0.6,
        )

    def registers(self, state: aarch64.State) -> tuple[int, ...]:
        """TTBR0, TTBR1, TCR, SCTLR, MAIR, PAN."""
        return state.registers()

    def _load(self, place: int) -> int:
        return self._changed[place] if place in self._changed else self.load(place)

    def walk(self, state: aarch64.State, vaddr: int, kind: int) -> Outcome:
        """The Arm ARM's walk."""
        return aarch64.walk(self._load, state, vaddr, kind)

    def expect(self, state: aarch64.State, done: Operations) -> list[Outcome]:
        """Flags that the processor sets are there for the batches that follow."""
        outcomes = super().expect(state, done)
        for vaddr, kind in zip(done["vaddr"].tolist(), done["kind"].tolist(), strict=True):
            aarch64.walk(self._load, state, vaddr, kind, self._changed.__setitem__)
        return outcomes

    def anywhere(self) -> int:
        """Half of them between the two halves, or with a tag in the top byte."""
        pick = self.random
        vaddr = pick.getrandbits(self.geometry.bits)
        if pick.random() < 0.5:
            vaddr |= (1 << 64) - (1 << self.geometry.bits)
        return vaddr ^ self.chance(0.5, pick.randrange(1, 1 << 64 - self.geometry.bits) << self.geometry.bits)

    def address(self) -> int:
        """Now and then a mapped address with a tag."""
        return super().address() ^ self.chance(0.05, self.random.getrandbits(8) << 56)

    def kind(self) -> int:
        """Some accesses from EL1 heed PAN."""
        kind = super().kind()
        return kind | self.chance(0.5, ALTERNATIVE) if kind < FETCH else kind

    def usable(self, state: aarch64.State, vaddr: int, kind: int) -> bool:
        """Looking does no harm; a fetch needs memory, vectors to fault to, and an address that is not rewritten."""
        if kind & 3 != FETCH:
            self.walk(state, vaddr + OFFSETS[kind & 3], kind)
            return True
        if state.hardware_dirty:
            # Whether a writable-clean page counts as writable for fetches (WXN, user-writable) is not compared here.
            return False
        tagged = vaddr >> 55 not in (0, 511) and state.halves[vaddr >> 55 & 1].ignore_top_byte
        return not tagged and not state.halves[1].walk_disabled and super().usable(state, vaddr, kind)

    def write_stub(self, stop: int) -> None:
        """The stub in memory; it ends by going to `stop` in EL1, or, when that is 0, by switching the machine off."""
        self.ram.write(STUB, (STUBS / "aarch64.bin").read_bytes())
        self.ram.write(self.layout.parameters + 24, struct.pack("<2Q", VECTORS_VADDR, stop))

    def run_stub(self) -> None:
        """The stub switches the machine off."""
        self.write_stub(0)
        start = ("-cpu", "max", "-device", f"loader,addr={STUB:#x},cpu-num=0")
        code = run_to_exit("qemu-system-aarch64", [*memory_arguments(self.ram, "virt,virtualization=on"), *start])
        if code != 0:
            raise QemuError(f"the stub ended the machine with {code}")

    def matches(self, row: tuple[int, int, int, int, int], outcome: Outcome) -> bool:
        """Fault status codes and addresses must be exact."""
        vaddr, kind, status, value, code = row
        if kind & 3 == FETCH:
            if outcome.paddr is not None:
                return (status, value) == (BRK_CLASS, vaddr)
            return (status, value, code & 63) == (ABORT_CLASSES[kind & USER], vaddr, outcome.code)
        if status != SUCCESS:
            return False
        if outcome.paddr is not None:
            return not value & 1 and value & (1 << 52) - 4096 == outcome.paddr & -4096
        return value & 1 == 1 and value >> 1 & 63 == outcome.code
