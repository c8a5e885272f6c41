"""Which guest memory devices may reach, and under which addresses: the table of an IOMMU or SMMU."""

from __future__ import annotations

import bisect
import threading
from dataclasses import dataclass, field
from typing import Any, Protocol

from vm_core import InvalidConfig, NotSupported, OutOfRange
from vm_mem import GuestMemory

__all__ = ["DmaBackend", "DmaMap", "DmaMapping"]

_ADDRESSES = 1 << 64


class DmaBackend(Protocol):
    """What writes the hardware's table: ``VfioContainer``, or a test's."""

    @property
    def dma_page_size(self) -> int:
        """Addresses and sizes are multiples of this."""
        ...

    def map_dma(self, iova: int, host: int, size: int, read: bool, write: bool) -> None:
        """Let devices reach [iova, iova + size), which is host memory at ``host``. Raises VmError or OSError."""
        ...

    def unmap_dma(self, iova: int, size: int) -> None:
        """Take away what ``map_dma`` made, with the same range. Raises VmError or OSError."""
        ...


@dataclass(frozen=True)
class DmaMapping:
    """One range that devices can reach."""

    iova: int
    """First address as devices say it."""
    size: int
    paddr: int
    """First guest-physical address behind it."""
    read: bool
    """Devices may read from memory."""
    write: bool
    """Devices may write to memory."""
    _view: Any = field(repr=False, compare=False)
    """Keeps the host memory mapped: a device must never reach what the process uses for something else."""

    @property
    def last(self) -> int:
        """Last address as devices say it."""
        return self.iova + self.size - 1


class DmaMap:
    """Mappings from device addresses (IOVAs) to guest memory; they never overlap.

    The memory stays mapped in this process as long as a device can reach it, also when the GuestMemory is closed.
    Pages that are mapped for devices are pinned by the kernel: do not discard them or put them into a balloon, because
    the device would go on with the old pages. Any thread may call anything.
    """

    def __init__(self, backend: DmaBackend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._mappings: list[DmaMapping] = []  # by iova

    def dma_map(
        self, iova: int, memory: GuestMemory, paddr: int, size: int, *, read: bool = True, write: bool = True
    ) -> DmaMapping:
        """Let devices reach ``size`` bytes of ``memory`` at ``paddr`` under the address ``iova``.

        The range lies in one region. Raises InvalidConfig for parts of pages, for an overlap with what is mapped, and
        for neither reading nor writing; OutOfRange for addresses that do not exist; NotSupported for writing to
        read-only memory and for memory that is filled on first touch; and what the backend raises. Then nothing was
        mapped.
        """
        page = self._backend.dma_page_size
        what = f"a DMA mapping of {size:#x} bytes at {iova:#x}"
        if size <= 0 or iova < 0 or iova + size > _ADDRESSES:
            raise OutOfRange(f"{what} has no place among 64-bit addresses")
        if not (read or write):
            raise InvalidConfig(f"{what} would let devices neither read nor write")
        if memory.format == "lazy":
            raise NotSupported(f"{what}: a device cannot wait for pages that are filled on first touch")
        view = memory.view(paddr, size)
        host = int(view.ctypes.data)
        if iova % page or size % page or host % page:
            raise InvalidConfig(f"{what} to {paddr:#x} is not made of whole pages of {page:#x} bytes")
        if write and not view.flags.writeable:
            raise NotSupported(f"{what}: the memory at {paddr:#x} is read-only; pass write=False")
        mapping = DmaMapping(iova, size, paddr, read, write, view)
        with self._lock:
            at = bisect.bisect_left(self._mappings, iova, key=lambda known: known.iova)
            for known in self._mappings[max(at - 1, 0) : at + 1]:
                if known.iova <= mapping.last and iova <= known.last:
                    raise InvalidConfig(f"{what} overlaps what is mapped at {known.iova:#x}-{known.last:#x}")
            self._backend.map_dma(iova, host, size, read, write)
            self._mappings.insert(at, mapping)
        return mapping

    def dma_unmap(self, iova: int) -> None:
        """Take away the mapping that begins at ``iova``. Raises OutOfRange, and what the backend raises."""
        with self._lock:
            at = bisect.bisect_left(self._mappings, iova, key=lambda known: known.iova)
            if at == len(self._mappings) or self._mappings[at].iova != iova:
                raise OutOfRange(f"no DMA mapping begins at {iova:#x}")
            self._backend.unmap_dma(iova, self._mappings[at].size)
            del self._mappings[at]

    def translate(self, iova: int) -> int | None:
        """The guest-physical address that devices reach as ``iova``, or None."""
        with self._lock:
            at = bisect.bisect_right(self._mappings, iova, key=lambda known: known.iova) - 1
            if at < 0 or iova > self._mappings[at].last:
                return None
            return self._mappings[at].paddr + (iova - self._mappings[at].iova)

    @property
    def mappings(self) -> tuple[DmaMapping, ...]:
        """All of them, by iova."""
        with self._lock:
            return tuple(self._mappings)

    def clear(self) -> None:
        """Take all mappings away. What the backend raises ends it; what is left stays mapped."""
        with self._lock:
            while self._mappings:
                self._backend.unmap_dma(self._mappings[-1].iova, self._mappings[-1].size)
                del self._mappings[-1]
