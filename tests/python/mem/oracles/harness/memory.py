"""Guest memory as a sparse file that QEMU maps as its RAM and the library opens as an image."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path

PAGE = 4096


class NoMemoryError(LookupError):
    """A load beyond the machine's memory."""


class Ram:
    """`size` bytes of guest-physical memory starting at `base`, backed by the sparse file `path`."""

    def __init__(self, path: Path, base: int, size: int) -> None:
        self.path = path
        self.base = base
        self.size = size
        with open(path, "wb") as file:
            file.truncate(size)
        descriptor = os.open(path, os.O_RDWR)
        try:
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)

    def holds(self, paddr: int, size: int = 1) -> bool:
        """True when [paddr, paddr + size) is memory."""
        return self.base <= paddr and paddr + size <= self.base + self.size

    def read(self, paddr: int, size: int) -> bytes:
        """`size` bytes at `paddr`."""
        offset = paddr - self.base
        return self._map[offset : offset + size]

    def write(self, paddr: int, data: bytes) -> None:
        """Stores `data` at `paddr`."""
        offset = paddr - self.base
        self._map[offset : offset + len(data)] = data

    def accessor(self, width: int) -> tuple[Callable[[int], int], Callable[[int, int], None]]:
        """Fast load and store of little-endian words of `width` bytes (4 or 8) by guest-physical address."""
        word = struct.Struct({4: "<I", 8: "<Q"}[width])
        memory, base = self._map, self.base

        def load(paddr: int) -> int:
            try:
                return int(word.unpack_from(memory, paddr - base)[0])
            except struct.error as error:
                raise NoMemoryError(hex(paddr)) from error

        def store(paddr: int, value: int) -> None:
            word.pack_into(memory, paddr - base, value)

        return load, store

    def close(self) -> None:
        """Unmaps and removes the file; it may hold gigabytes of address space."""
        self._map.close()
        self.path.unlink(missing_ok=True)


class FrameAllocator:
    """Hands out zeroed table frames from [start, stop)."""

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.next = start
        self.stop = stop

    def take(self, size: int = PAGE) -> int:
        """A frame of `size` bytes aligned to its size (a power of two)."""
        frame = (self.next + size - 1) & ~(size - 1)
        if frame + size > self.stop:
            raise MemoryError(f"no table frame left in [{self.start:#x}, {self.stop:#x})")
        self.next = frame + size
        return frame

    def room(self, size: int, count: int) -> bool:
        """True when `count` more frames of `size` bytes fit, whatever the alignment costs."""
        return self.next + (count + 1) * size <= self.stop
