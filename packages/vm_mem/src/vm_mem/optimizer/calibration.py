"""Measuring on this machine what the counted events of an ``Mmu`` cost."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
from vm_core import InvalidConfig

from .._mem import GuestMemory, Mmu, TlbConfig
from ..paging import X86
from .cost import Counts, Weights
from .settings import NO_WALK_CACHE, WALK_CACHE

_PAGE = 4096
_PAGES = 1 << 14
_BATCH = 2048  # arrays as small as this go through the TLB
_Addresses = npt.NDArray[np.uint64]


def calibrate(*, rounds: int = 7) -> Weights:
    """Measure ``Weights`` on this machine; takes some tenths of a second.

    An ``Mmu`` of its own, x86 with 4 levels of tables, translates addresses that make each event happen; differences of
    the times, the least of the rounds, are the weights. The tables are in the processor's caches, as those of a large
    footprint would not be. Walks that begin at levels 1 and 2 are interpolated; a walk for a prefetch is the same work
    as one on demand. Raises InvalidConfig when rounds is below 1.
    """
    if rounds < 1:
        raise InvalidConfig(f"rounds is {rounds}; nothing is measured in less than 1")
    memory = GuestMemory.anonymous(1 << 20)
    tables = Mmu(memory, X86(levels=4, root=_PAGE))
    tables.map(0, 0, _PAGES * _PAGE, page_size=_PAGE)
    every = np.arange(_PAGES, dtype=np.uint64) * np.uint64(_PAGE)

    def mmu(l1: int, l2: int, l3: int, walk_cache: tuple[int, ...] = WALK_CACHE, prefetch: bool = False) -> Mmu:
        tlb = TlbConfig(l1_size=l1, l2_size=l2, l3_size=l3, enable_prefetch=prefetch)
        return Mmu(memory, tables.config, tlb=tlb, walk_cache=walk_cache)

    hit = [_array_ns(mmu(64, 512, 4096), every[:pages], rounds) for pages in (32, 256, 2048)]
    call = _single_ns(mmu(64, 0, 0), every[:32], rounds)[0]
    cached = _single_ns(mmu(64, 0, 0), every, rounds)[0] - call
    root = _single_ns(mmu(64, 0, 0, NO_WALK_CACHE), every, rounds)[0] - call
    # Every look-up of a walk cache that has one entry for scattered addresses is in vain.
    scattered = every.reshape(16, -1).T.reshape(-1)
    vain = _single_ns(mmu(64, 0, 0, (1, 0, 0, 0)), scattered, rounds)[0]
    vain -= _single_ns(mmu(64, 0, 0, NO_WALK_CACHE), scattered, rounds)[0]
    # At random pages the prefetcher is told of every miss and proposes hardly anything.
    at_random = np.random.default_rng(1).permutation(every)
    told, counts = _single_ns(mmu(64, 0, 0, prefetch=True), at_random, rounds)
    told -= _single_ns(mmu(64, 0, 0), at_random, rounds)[0]
    events = max(counts.prefetch_events, 1) / counts.translations
    event = max(told - cached * counts.prefetch_walks / counts.translations, 0.0) / events
    bypass = _bypass_ns(mmu(64, 0, 0), every, rounds)
    step = max(root - cached, 0.0) / 3
    walks = (cached, cached + step, cached + 2 * step, max(root, cached), max(root, cached))
    lookups = (hit[0], max(hit[1] - hit[0], 0.0), max(hit[2] - hit[1], 0.0))
    return Weights(lookups, walks, max(vain, 0.0), cached, event, bypass, source="measured")


def _array_ns(mmu: Mmu, addresses: _Addresses, rounds: int) -> float:
    """Time of one element of arrays, once the TLB has what fits."""
    batch = np.resize(addresses, _BATCH)
    mmu.translate(batch)
    repeats = 20
    times = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        for _ in range(repeats):
            mmu.translate(batch)
        times.append((time.perf_counter_ns() - start) / (repeats * _BATCH))
    return min(times)


def _single_ns(mmu: Mmu, addresses: _Addresses, rounds: int) -> tuple[float, Counts]:
    """Time of one address translated alone, the call from Python included, and what all rounds counted."""
    each = addresses.tolist() * max(1, _BATCH // addresses.size)
    translate = mmu.translate
    for address in each:
        translate(address)
    before = Counts.of(mmu)
    times = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        for address in each:
            translate(address)
        times.append((time.perf_counter_ns() - start) / len(each))
    return min(times), Counts.of(mmu) - before


def _bypass_ns(mmu: Mmu, addresses: _Addresses, rounds: int) -> float:
    """Time of one element of an array that goes round the TLB, because it names an engine."""
    mmu.translate(addresses, engine="walk")
    times = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        mmu.translate(addresses, engine="walk")
        times.append((time.perf_counter_ns() - start) / addresses.size)
    return min(times)
