"""Pages of this process: aligned, huge, prefaulted, locked, guarded, protected; and the kernel's word on them.

Not guest memory (``vm_mem.GuestMemory``) and no general allocator: a block is whole pages for one purpose, a buffer
that NumPy and everybody else can use. ``numpy_allocator`` does the same for arrays that NumPy makes itself.

>>> with allocate(1 << 20, alignment=1 << 16, guard=4096, prefault=True) as block:
...     numbers = block.array("f8")
...     numbers[:] = 1.5
...     block.address % (1 << 16), block.measure().resident
(0, 1048576)
>>> float(numbers.sum())  # an array keeps its pages
196608.0
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from ._mem import Advice, DualMapping, NumpyAllocator, PageBlock, PageCensus, measure

__all__ = [
    "Advice",
    "DualMapping",
    "NumpyAllocator",
    "PageBlock",
    "PageCensus",
    "allocate",
    "measure",
    "numpy_allocator",
]


def allocate(
    size: int,
    *,
    alignment: int | None = None,
    huge_pages: Literal["auto", "transparent", "2M", "1G"] | None = "auto",
    fallback: bool = False,
    guard: int = 0,
    prefault: bool = False,
    threads: int | None = None,
    lock: bool = False,
    wx_policy: Literal["exclusive", "strict", "unrestricted"] = "exclusive",
) -> PageBlock:
    """Map ``size`` bytes of zeros, rounded up to whole pages.

    ``alignment``: of the first byte, a power of two; a page at least. ``huge_pages``: "auto" uses transparent huge
    pages from 2 MiB on where the kernel can, "transparent" insists that it may, "2M" and "1G" take reserved ones, None
    asks for nothing. With ``fallback`` the next best kind is taken instead of raising, and ``PageBlock.refused`` says
    why; what was really got says ``PageBlock.measure()``. ``guard``: inaccessible bytes on either side, where a touch
    is SIGSEGV; not with reserved huge pages.

    ``prefault``: have all pages now, by ``threads`` threads (see ``PageBlock.prefault``). ``lock``: keep them in
    memory. ``wx_policy``: which rights ``PageBlock.protect`` may combine.

    Raises InvalidConfig, ResourceExhausted, NotSupported, PlatformError.
    """
    block = PageBlock(
        size, alignment=alignment, huge_pages=huge_pages, fallback=fallback, guard=guard, wx_policy=wx_policy
    )
    try:
        if prefault:
            block.prefault(threads=threads)
        if lock:
            block.lock()
    except BaseException:
        block.close()
        raise
    return block


@contextmanager
def numpy_allocator(
    *, node: int | None = None, huge_pages: bool = True, alignment: int = 64, retain: int = 256 << 20
) -> Iterator[NumpyAllocator]:
    """Have NumPy take the memory of new arrays from here, in this block and this context.

    ``alignment``: of every array's first byte, a power of two from 16 to 2 MiB. ``huge_pages``: arrays from 1 MiB on
    begin at a multiple of 2 MiB and use transparent huge pages where the kernel can; one may occupy up to 2 MiB more
    than it needs, up to a quarter more on pages that a freed array had, and up to twice as much when it was made
    smaller (``ndarray.resize``). ``retain``: bytes of freed arrays from 1 MiB on whose pages stay for the next arrays,
    until the block ends. ``measure(array)`` says what an array really lies on.

    ``node``: the pages of arrays from 1 MiB on are wanted on this NUMA node; others serve when it is full, since pages
    come when they are touched, and without a page the process would end. ``vm_mem.numa.placement(array)`` says where
    they are. Smaller arrays lie where malloc has them.

    The block gives a NumpyAllocator, whose properties are the statistics, also after the block. Arrays may outlive the
    block, and be resized and freed in any thread. NumPy keeps its allocator in a context variable: other threads, and
    tasks that were made before, are not concerned; tasks and contexts made inside keep it. A process made by fork may
    go on using it. Each call makes an allocator of its own.

    Needs no GIL inside: NumPy calls C (NEP 49). Raises InvalidConfig, OutOfRange for a node that there is
    not; NotSupported before NumPy 1.22, and where the kernel does not place memory.

    >>> import numpy as np
    >>> with numpy_allocator(alignment=4096) as statistics:
    ...     array = np.empty(1000)
    >>> array.ctypes.data % 4096, statistics.allocations, statistics.bytes_in_use
    (0, 1, 8000)
    """
    allocator = NumpyAllocator(node=node, huge_pages=huge_pages, alignment=alignment, retain=retain)
    before = allocator._install()
    try:
        yield allocator
    finally:
        allocator._finish(before)
