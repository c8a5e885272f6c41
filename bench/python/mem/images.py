"""Guest images whose page tables range from what an L2 cache holds to far beyond it: the four cases of every table.

Tables are x86 4-level with 4 KiB pages. A case says how much is mapped and how densely; frames are scattered over the
rest of the physical memory, so that neighbouring pages have nothing in common.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["CASES", "PAGE", "ROOT_TABLE", "Addresses", "Case", "fill_tables"]

PAGE = 4096
ROOT_TABLE = PAGE
_FLAGS = 0x67  # present, writable, user, accessed, dirty
_INDEX_BITS = 9

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Case:
    """One footprint. pages: how many are mapped; every: one page in so many; batch: addresses per call."""

    name: str
    pages: int
    every: int
    batch: int
    smallest_memory: int = 0

    @property
    def tables(self) -> int:
        """Bytes from address 0 to the end of the last table; the frame at 0 stays free."""
        covered = self.pages * self.every
        count = sum(-(-covered // (1 << _INDEX_BITS * level)) for level in (1, 2, 3))
        return ROOT_TABLE + PAGE + count * PAGE

    @property
    def memory(self) -> int:
        """Bytes of physical memory: tables, then every frame that is mapped."""
        return max(self.tables + self.pages * PAGE, self.smallest_memory)


CASES = {
    "A": Case("64 MiB of memory, 32 MiB mapped", 1 << 13, 1, 1 << 20, 64 << 20),
    "B": Case("4 GiB dense, 8 MiB of tables", 1 << 20, 1, 1 << 20),
    "C": Case("4 GiB of pages, one in 8, 64 MiB of tables", 1 << 20, 8, 1 << 22),
    "D": Case("64 GiB dense, 128 MiB of tables", 1 << 24, 1, 1 << 22),
}


@dataclass(frozen=True)
class Addresses:
    """Random virtual addresses in mapped pages, and the physical addresses that they must translate to."""

    virtual: Words
    physical: Words


def fill_tables(case: Case, words: Words, seed: int = 20260101) -> Addresses:
    """Write the tables of `case` into zeroed physical memory and draw addresses.

    words: the memory from address 0, as uint64; `case.tables` bytes are enough.
    """
    random = np.random.default_rng(seed)
    page_numbers = np.arange(case.pages, dtype=np.uint64) * np.uint64(case.every)
    parents, parent_tables = np.zeros(1, np.uint64), np.array([ROOT_TABLE], np.uint64)
    free = ROOT_TABLE + PAGE
    for level in (3, 2, 1):
        spans = np.unique(page_numbers >> np.uint64(_INDEX_BITS * level))
        tables = np.arange(spans.size, dtype=np.uint64) * np.uint64(PAGE) + np.uint64(free)
        free += spans.size * PAGE
        _link(words, parents, parent_tables, spans, tables)
        parents, parent_tables = spans, tables
    first_frame, frame_count = case.tables // PAGE, (case.memory - case.tables) // PAGE
    frames = (random.permutation(frame_count)[: case.pages] + first_frame).astype(np.uint64) * np.uint64(PAGE)
    _link(words, parents, parent_tables, page_numbers, frames)

    chosen = random.integers(0, case.pages, case.batch)
    offsets = random.integers(0, PAGE, case.batch, dtype=np.uint64)
    return Addresses(page_numbers[chosen] * np.uint64(PAGE) | offsets, frames[chosen] | offsets)


def _link(words: Words, parents: Words, parent_tables: Words, children: Words, targets: Words) -> None:
    """Enter `targets` into the parent table of each child; `parents` are the ascending spans of `parent_tables`."""
    holders = parent_tables[np.searchsorted(parents, children >> np.uint64(_INDEX_BITS))]
    index = children & np.uint64((1 << _INDEX_BITS) - 1)
    words[(holders >> np.uint64(3)) + index] = targets | np.uint64(_FLAGS)
