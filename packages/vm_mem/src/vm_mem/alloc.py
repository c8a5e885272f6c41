"""Allocators: an arena, slabs with a stock for each thread, and pools.

What they give out is a ``Block`` with the buffer protocol, or a NumPy array; both keep the memory for as long as
somebody looks at it. Sizes are bytes. For single large allocations there are NumPy and mmap.

>>> slabs = SlabAllocator()
>>> with slabs.allocate(100) as block:
...     memoryview(block)[:5] = b"hello"
...     slabs.stats.live_blocks
1
>>> slabs.stats.live_blocks
0
>>> arena = BumpAllocator(1 << 20)
>>> with arena.scope():
...     a = arena.empty((100, 100))
...     a[:] = 1.0
...     total = a.sum()
...     del a
>>> arena.used, arena.peak
(0, 80000)
>>> pool = ObjectPool(dict, max=2, reset=dict.clear)
>>> with pool.lease() as scratch:
...     scratch["key"] = "value"
>>> pool.acquire()
{}
"""

from ._mem import (
    Block,
    BumpAllocator,
    BumpMarker,
    BumpScope,
    Hardening,
    ObjectPool,
    PoolAllocator,
    PoolLease,
    PoolStats,
    SlabAllocator,
    SlabClassStats,
    SlabStats,
)

__all__ = [
    "Block",
    "BumpAllocator",
    "BumpMarker",
    "BumpScope",
    "Hardening",
    "ObjectPool",
    "PoolAllocator",
    "PoolLease",
    "PoolStats",
    "SlabAllocator",
    "SlabClassStats",
    "SlabStats",
]
