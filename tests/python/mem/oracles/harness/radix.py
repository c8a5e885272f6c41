"""Places entries into radix page tables. It knows geometry only: what an entry means is the caller's business."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .memory import FrameAllocator, Ram


@dataclass(frozen=True)
class Level:
    """One level of the tree: which address bits index it."""

    shift: int
    width: int


@dataclass(frozen=True)
class Geometry:
    """Levels from the root down to the last table; `entry` bytes per entry."""

    levels: tuple[Level, ...]
    entry: int

    @property
    def bits(self) -> int:
        """Virtual-address bits that the tree resolves."""
        return self.levels[0].shift + self.levels[0].width

    def table_size(self, depth: int) -> int:
        """Bytes of a table at `depth`."""
        return self.entry << self.levels[depth].width

    @property
    def frame(self) -> int:
        """Bytes of the largest table below the root: the frame size for all of them."""
        return max(self.table_size(depth) for depth in range(1, len(self.levels)))

    def shifts(self) -> tuple[int, ...]:
        """log2 of the page size that a leaf at each depth maps."""
        return tuple(level.shift for level in self.levels)


class RadixTables:
    """A tree of tables in `ram` under `root`, grown on demand.

    `child(entry)` gives the table that an existing entry points to, or None when it is not a pointer (a leaf, or an
    entry that faults). `pointer(depth, frame)` makes the entry that points to a new table.
    """

    def __init__(
        self,
        ram: Ram,
        frames: FrameAllocator,
        geometry: Geometry,
        child: Callable[[int, int], int | None],
        pointer: Callable[[int, int], int],
        root: int | None = None,
    ) -> None:
        self.geometry = geometry
        self.root = frames.take(max(geometry.table_size(0), 64)) if root is None else root
        self._frames = frames
        self._child = child
        self._pointer = pointer
        self._load, self._store = ram.accessor(geometry.entry)

    def slot(self, vaddr: int, depth: int, pointer: Callable[[int, int], int] | None = None) -> int | None:
        """Where the entry for `vaddr` at `depth` lies; tables above it are made when absent.

        None when an entry on the way is something else than a pointer, or when table memory is used up.
        """
        make = pointer or self._pointer
        table = self.root
        for step, level in enumerate(self.geometry.levels):
            place = table + ((vaddr >> level.shift) & ((1 << level.width) - 1)) * self.geometry.entry
            if step == depth:
                return place
            entry = self._load(place)
            if entry == 0:
                if not self._frames.room(self.geometry.frame, 1):
                    return None
                entry = make(step, self._frames.take(self.geometry.frame))
                self._store(place, entry)
            child = self._child(step, entry)
            if child is None:
                return None
            table = child
        return None

    def put(self, vaddr: int, depth: int, entry: int, pointer: Callable[[int, int], int] | None = None) -> int | None:
        """Stores `entry` for `vaddr` at `depth`; returns where. None when the place is taken or cannot be reached."""
        place = self.slot(vaddr, depth, pointer)
        if place is None or self._load(place) != 0:
            return None
        self._store(place, entry)
        return place
