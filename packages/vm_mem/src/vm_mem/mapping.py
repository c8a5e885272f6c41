"""What an address space maps, as a structured array and as objects.

Not the operations on page tables: those are methods of ``vm_mem.paging.AddressSpace``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt
from vm_core import Access

MAPPING_DTYPE = np.dtype(
    {
        "names": ["vaddr", "paddr", "size", "page_size", "access", "user_access"],
        "formats": ["<u8", "<u8", "<u8", "<u8", "u1", "u1"],
        "offsets": [0, 8, 16, 24, 32, 33],
        "itemsize": 40,
    }
)
"""One record per mapping; sizes in bytes, rights as ``vm_core.Access`` values."""


def _letters(access: Access) -> str:
    return "".join(
        letter if access & right else "-"
        for letter, right in (("r", Access.READ), ("w", Access.WRITE), ("x", Access.EXECUTE))
    )


@dataclass(frozen=True)
class Mapping:
    """A run of virtual addresses that translates to a run of physical ones with equal rights and page size.

    ``size`` and ``page_size`` are bytes; ``access`` is what the tables give the supervisor, ``user_access`` what they
    give user code (``Access.NONE`` for a supervisor page).
    """

    vaddr: int
    paddr: int
    size: int
    page_size: int
    access: Access
    user_access: Access

    def __str__(self) -> str:
        last = self.vaddr + self.size - 1
        return (
            f"{self.vaddr:#018x}-{last:#018x} -> {self.paddr:#014x} {_letters(self.access)} "
            f"user {_letters(self.user_access)} {self.size // self.page_size} x {self.page_size:#x}"
        )


class Mappings:
    """The mappings of an address space in ascending order of virtual address: a sequence of ``Mapping``.

    ``array`` holds the same as a NumPy structured array of dtype ``MAPPING_DTYPE``; a snapshot, not a view of the
    tables.
    """

    __slots__ = ("array",)

    def __init__(self, array: npt.NDArray[np.void]) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[Mapping]:
        return (self._mapping(record) for record in self.array)

    @overload
    def __getitem__(self, index: int) -> Mapping: ...
    @overload
    def __getitem__(self, index: slice) -> Mappings: ...
    def __getitem__(self, index: int | slice) -> Mapping | Mappings:
        if isinstance(index, slice):
            return Mappings(self.array[index])
        return self._mapping(self.array[index])

    @staticmethod
    def _mapping(record: np.void) -> Mapping:
        vaddr, paddr, size, page_size, access, user_access = record.item()
        return Mapping(vaddr, paddr, size, page_size, Access(access), Access(user_access))

    @property
    def size(self) -> int:
        """Bytes mapped in all."""
        return int(self.array["size"].sum())

    def __repr__(self) -> str:
        return f"Mappings({len(self)} ranges, {self.size} bytes)"
