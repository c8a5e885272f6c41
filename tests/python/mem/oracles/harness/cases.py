"""Random address spaces and accesses: what the three architectures have in common."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from .memory import FrameAllocator, NoMemoryError, Ram
from .radix import Geometry, RadixTables
from .stub import FETCH, GRANULE, OFFSETS, READ, USER, Batch, Operations, Outcome, collect, operations, place

StateT = TypeVar("StateT")
"""The control registers of an architecture that translation depends on."""


class Spot(NamedTuple):
    """A leaf entry that was placed, and the part of its page that tests may touch."""

    vaddr: int
    shift: int
    first: int
    last: int


class Layout(NamedTuple):
    """Guest-physical memory of one machine."""

    base: int
    size: int
    parameters: int
    operations: int
    tables: int
    """First table frame; operations end here."""
    data: int
    """First byte that mapped pages may lie at; tables end here."""
    reserved: int = 0
    """Bytes at the end of the table area that firmware writes to."""


class Cases(ABC, Generic[StateT]):
    """Memory with one random address space in it, and the accesses to try there.

    A subclass knows the architecture: entries, control registers, the stub and how to judge its results.
    """

    breakpoint: bytes
    """The instruction that a fetch finds when it goes where it should."""

    store_width = 8
    """Bytes that a write stores; 0 when the stub does not really write."""

    def __init__(self, path: Path, layout: Layout, geometry: Geometry, seed: int) -> None:
        self.random = random.Random(seed)
        self.layout = layout
        self.geometry = geometry
        self.ram = Ram(path, layout.base, layout.size)
        self.load, self.store = self.ram.accessor(geometry.entry)
        self.frames = FrameAllocator(layout.tables, layout.data - layout.reserved)
        self.spots: list[Spot] = []
        self.leaf_places: dict[int, int] = {}
        """Where the leaf entries lie, and log2 of their pages; every other entry points to a table."""

    def trees(self, count: int) -> list[RadixTables]:
        """`count` empty trees of tables."""
        arguments = (self.ram, self.frames, self.geometry, self.child, self.pointer)
        return [RadixTables(*arguments) for _ in range(count)]

    def chance(self, probability: float, bits: int) -> int:
        """`bits` with the given probability, else 0."""
        return bits if self.random.random() < probability else 0

    def flags_may_differ(self, place: int, surplus: int) -> bool:
        """True when QEMU alone may set the flags `surplus` in the entry at `place`."""
        return False

    def tables_content(self) -> bytes:
        """All page tables, as they lie in memory from `layout.tables` on."""
        return self.ram.read(self.layout.tables, self.frames.next - self.layout.tables)

    def in_data(self, paddr: int) -> bool:
        """True when the granule at `paddr` is memory that mapped pages may lie at."""
        return self.layout.data <= paddr and paddr + GRANULE <= self.layout.base + self.layout.size

    @abstractmethod
    def child(self, depth: int, entry: int) -> int | None:
        """The table that `entry` points to; None for a leaf or an entry that faults."""

    @abstractmethod
    def pointer(self, depth: int, frame: int) -> int:
        """A random entry at `depth` for the table at `frame`."""

    @abstractmethod
    def leaf(self, shift: int, page: int) -> int:
        """A random entry that maps the page at `page`, or faults."""

    @abstractmethod
    def page(self, shift: int) -> int:
        """A random physical address for a page of `1 << shift` bytes."""

    @abstractmethod
    def state(self) -> StateT:
        """Random control registers."""

    @abstractmethod
    def registers(self, state: StateT) -> tuple[int, ...]:
        """`state` as the stub's batch wants it."""

    @abstractmethod
    def walk(self, state: StateT, vaddr: int, kind: int) -> Outcome:
        """The reference walk."""

    @abstractmethod
    def anywhere(self) -> int:
        """A random address, canonical or not."""

    @abstractmethod
    def run_stub(self) -> None:
        """Lets QEMU perform what lies in memory."""

    @abstractmethod
    def matches(self, row: tuple[int, int, int, int, int], outcome: Outcome) -> bool:
        """Compares one result (vaddr, kind, status, value, code) with what it should be."""

    def populate(
        self, tree: RadixTables, shifts: tuple[int, ...], mappings: int, upper: int = 0, spare: int = 0
    ) -> None:
        """Places `mappings` random leaves of the given sizes in `tree`.

        `upper` holds the address bits above the tree's; root indices below `spare` stay untouched.
        """
        pick, levels = self.random, self.geometry.levels
        # A few indices per upper level, so that mappings share tables, and some meet entries that fault.
        choices = [[pick.randrange(1 << level.width) for _ in range(6)] for level in levels]
        roots = range(spare, 1 << levels[0].width)
        # Of a short root use every index.
        choices[0] = list(roots) if levels[0].width <= 5 or len(levels) < 4 else [pick.choice(roots) for _ in range(8)]
        for _ in range(mappings):
            shift = pick.choice(shifts)
            depth = self.geometry.shifts().index(shift)
            vaddr = 0
            for step in range(depth + 1):
                level = levels[step]
                free = step == depth and step > 0
                vaddr |= (pick.randrange(1 << level.width) if free else pick.choice(choices[step])) << level.shift
            page = self.page(shift)
            place = tree.put(vaddr, depth, self.leaf(shift, page))
            if place is not None:
                self.leaf_places[place] = shift
                first = max(0, self.layout.data - page) if self.ram.holds(page) or page < self.ram.base else 0
                last = self.layout.base + self.layout.size - page if first else 1 << shift
                last = min(1 << shift, last)
                if first < last:
                    self.spots.append(Spot(vaddr | upper, shift, first, last))

    def address(self) -> int:
        """A granule-aligned address: in a mapped page, just beside one, or anywhere."""
        pick = self.random
        choice = pick.random()
        if choice > 0.9:
            return self.anywhere() & -GRANULE
        spot = pick.choice(self.spots)
        vaddr = spot.vaddr + pick.randrange(spot.first, spot.last, GRANULE)
        if choice > 0.8:
            vaddr += pick.choice((-1, 1)) << spot.shift
        return vaddr & (1 << 64) - GRANULE

    def usable(self, state: StateT, vaddr: int, kind: int) -> bool:
        """False for an access that must not be tried: it would go to a device, or execute what is not memory.

        NoMemoryError says the same of one that meets a table outside memory.
        """
        target = self.walk(state, vaddr + OFFSETS[kind & 3], kind).paddr
        return target is None or self.in_data(target & -GRANULE)

    def kind(self) -> int:
        """A random kind of access."""
        return self.random.choice((0, 1, 2)) | self.random.choice((0, USER))

    def batch(self, state: StateT, count: int) -> Batch:
        """`count` random accesses."""
        vaddrs: list[int] = []
        kinds: list[int] = []
        while len(vaddrs) < count:
            vaddr, kind = self.address(), self.kind()
            try:
                usable = self.usable(state, vaddr, kind)
            except NoMemoryError:
                continue
            if usable:
                vaddrs.append(vaddr)
                kinds.append(kind)
        return Batch(self.registers(state), operations(vaddrs, kinds))

    def expect(self, state: StateT, done: Operations) -> list[Outcome]:
        """The reference walk's answers, with memory prepared so that the stub can tell where it got."""
        outcomes = []
        for vaddr, kind in zip(done["vaddr"].tolist(), done["kind"].tolist(), strict=True):
            outcome = self.walk(state, vaddr, kind)
            if outcome.paddr is not None and self.in_data(outcome.paddr & -GRANULE):
                if kind & 3 == READ:
                    self.ram.write(outcome.paddr, outcome.paddr.to_bytes(8, "little"))
                elif kind & 3 == FETCH:
                    self.ram.write(outcome.paddr, self.breakpoint)
            outcomes.append(outcome)
        return outcomes

    def run(self, batches: list[Batch]) -> list[int]:
        """Lets QEMU perform the batches. Returns where each batch's operations lie in memory."""
        places = place(self.ram, self.layout.parameters, self.layout.operations, batches)
        end = places[-1] + batches[-1].operations.nbytes
        assert end <= self.layout.tables, "operations reach into the tables"
        self.run_stub()
        collect(self.ram, self.layout.parameters, places, batches)
        return places

    def close(self) -> None:
        """Frees the memory."""
        self.ram.close()
