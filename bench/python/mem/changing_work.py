"""Work on a guest's memory that changes its nature, for bench/python/mem/optimizer.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from vm_mem import GuestMemory, Mmu
from vm_mem.optimizer import Setting
from vm_mem.paging import X86

from bench.python.mem.images import CASES, PAGE, ROOT_TABLE, Addresses, fill_tables

__all__ = ["ARRAY", "PIECE", "Guest", "Work", "works"]

ARRAY, PIECE = 2000, 2  # addresses of an array, arrays between two steps
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Work:
    """One kind of work: page numbers, and how many translations of them one turn lasts."""

    name: str
    addresses: Words
    length: int


def works(shape: Sequence[tuple[str, int, int]], scale: float) -> list[Work]:
    """shape: a name, a number of pages (0: a sweep; below 0: a stride of so many) and a length each."""
    random = np.random.default_rng(20260101)
    every = CASES["B"].pages

    def pages(count: int, length: int) -> Words:
        if count > 0:
            # Hot pages are three apart, so that none is another's neighbour.
            spread = 3 if count < every else 1
            return (random.integers(0, count, length) * spread).astype(np.uint64)
        steps = np.arange(length) * max(-count, 1)
        return ((steps + steps // every) % every).astype(np.uint64)

    lengths = [max(round(length * scale) // (ARRAY * PIECE), 2) * ARRAY * PIECE for _, _, length in shape]
    return [
        Work(name, pages(count, min(length, 1 << 20)) * np.uint64(PAGE), length)
        for (name, count, _), length in zip(shape, lengths, strict=True)
    ]


class Guest:
    """Page tables, and MMUs over them."""

    def __init__(self) -> None:
        case = CASES["B"]
        self.memory = GuestMemory.anonymous(-(-case.tables // (2 << 20)) * (2 << 20))
        self.addresses: Addresses = fill_tables(case, self.memory.view(0, self.memory.size, "u8"))

    def mmu(self, setting: Setting) -> Mmu:
        """A fresh one."""
        return Mmu(self.memory, X86(levels=4, root=ROOT_TABLE), tlb=setting.tlb, walk_cache=setting.walk_cache)

    def check(self, mmu: Mmu) -> None:
        """Whether it still translates right, whatever it is now."""
        some = slice(0, ARRAY)
        answers = mmu.translate(self.addresses.virtual[some])
        singly = [mmu.translate(address).paddr for address in self.addresses.virtual[some].tolist()]
        for found in (answers.paddr, np.asarray(singly, np.uint64)):
            np.testing.assert_array_equal(found, self.addresses.physical[some])
