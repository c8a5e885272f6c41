#!/usr/bin/env python3
"""Copies of memory: what this machine has for them, that they are right, how fast they are, and how to ask for each.

`python examples/simd_demo.py`; `vm-mem simd --bench` shows more of the same.
"""

from __future__ import annotations

import asyncio
import timeit

import numpy as np
from vm_core import InvalidConfig
from vm_mem.simd import (
    CopyPlan,
    MemcpyStrategy,
    first_difference,
    instruction_sets,
    memcpy_async,
    memcpy_fast,
    memmove_fast,
    simd_feature_name,
)

KIB, MIB = 1 << 10, 1 << 20


def features() -> None:
    """What the processor has, and what is made of it."""
    print(f"SIMD feature: {simd_feature_name()}")
    for name, reason in instruction_sets().items():
        print(f"  {name:8} {reason or 'runs here'}")
    plan = CopyPlan.detect()
    for size in (64, 4 * KIB, MIB, 1 << 30):
        print(f"{size:,} bytes by {plan.method(size)}")


def correctness() -> None:
    """Every instruction set that runs here copies what NumPy copies."""
    source = np.random.default_rng(1).integers(0, 256, 70_001, np.uint8)
    for name, reason in instruction_sets().items():
        if reason:
            continue
        strategy = MemcpyStrategy(CopyPlan(name))
        for size in (*range(300), 4_095, 4_097, source.size):
            copy = np.zeros(size, np.uint8)
            memcpy_fast(copy, source[:size], strategy=strategy)
            assert first_difference(copy, source[:size]) is None, f"{name}: {size} bytes"
        print(f"{name}: 303 sizes copied as they should be")


def speed() -> None:
    """The least of some rounds for each size, beside np.copyto."""
    print(f"{'bytes':>12} {'memcpy_fast':>12} {'np.copyto':>12}  GB/s")
    for size in (64, 4 * KIB, MIB, 64 * MIB):
        dst, src = np.zeros(size, np.uint8), np.ones(size, np.uint8)
        loops = max(3, min(20_000, (64 * MIB) // size))
        ours = min(timeit.repeat(lambda dst=dst, src=src: memcpy_fast(dst, src), number=loops)) / loops
        numpy = min(timeit.repeat(lambda dst=dst, src=src: np.copyto(dst, src), number=loops)) / loops
        print(f"{size:12,} {size / ours / 1e9:12.2f} {size / numpy / 1e9:12.2f}")


def usage() -> None:
    """The ways to ask for a copy."""
    page = bytearray(4096)
    memcpy_fast(page, b"\x90" * 4096)  # anything with the buffer protocol
    memmove_fast(memoryview(page)[1:], memoryview(page)[:-1])  # memory that overlaps
    try:
        memcpy_fast(memoryview(page)[1:], memoryview(page)[:-1])
    except InvalidConfig as refused:
        print("refused:", refused)
    grid = np.arange(12.0).reshape(3, 4)
    memcpy_fast(np.zeros((4, 3)), grid.T)  # arrays of any layout
    big = np.ones(16 * MIB, np.uint8)
    copy = np.empty_like(big)
    memcpy_fast(copy, big, threads=0)  # a thread for each processor
    memcpy_fast(copy, big, hint="stream")  # nobody reads the copy soon: leave the caches alone
    asyncio.run(memcpy_async(copy, big))  # while an event loop runs on
    print("arrays, threads, streams and an event loop: copied", bool((copy == big).all()))


def main() -> None:
    """All of it."""
    for part in (features, correctness, speed, usage):
        print(f"\n--- {part.__name__}")
        part()


if __name__ == "__main__":
    main()
