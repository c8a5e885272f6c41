"""What happened in an ``Mmu`` between two moments, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass

from vm_core import InvalidConfig

from .._mem import Mmu


@dataclass(frozen=True)
class Counts:
    """Differences of ``Mmu.stats``; all are counted where they happen.

    lookups, hits: of each TLB level. walk_starts: walks that began at a cached table of level 0, 1, 2, 3, and at the
    root; those for prefetching included. prefetch_events: look-ups that the prefetcher was told of. useful: prefetched
    entries that were used. growth: entries that the last level holds more than before. bypassed: elements of arrays
    that went round these levels, to the walker or to the level that large arrays have.
    """

    lookups: tuple[int, ...]
    hits: tuple[int, ...]
    walk_starts: tuple[int, ...]
    walks: int
    prefetch_walks: int
    prefetch_events: int
    useful: int
    faults: int
    bypassed: int
    growth: int

    @classmethod
    def of(cls, mmu: Mmu) -> Counts:
        """Everything since the ``Mmu``, its TLB and its walk cache were made."""
        stats = mmu.stats
        levels = stats.tlb.levels
        last = levels[-1]
        return cls(
            tuple(level.lookups for level in levels),
            tuple(level.hits for level in levels),
            (*(level.hits for level in stats.walk_cache.levels), stats.walk_cache.misses),
            stats.walks,
            stats.prefetch_walks,
            stats.prefetch.events,
            stats.tlb.prefetch.useful,
            stats.faults,
            stats.bypassed + stats.arrays.lookups,
            last.fills - last.evictions - last.flushed - last.promoted,
        )

    def __sub__(self, before: Counts) -> Counts:
        return Counts(
            _differences(self.lookups, before.lookups),
            _differences(self.hits, before.hits),
            _differences(self.walk_starts, before.walk_starts),
            self.walks - before.walks,
            self.prefetch_walks - before.prefetch_walks,
            self.prefetch_events - before.prefetch_events,
            self.useful - before.useful,
            self.faults - before.faults,
            self.bypassed - before.bypassed,
            self.growth - before.growth,
        )

    @property
    def translations(self) -> int:
        """Addresses that were asked for."""
        return self.lookups[0] + self.bypassed

    def rates(self) -> dict[str, float]:
        """Each event per translation; walks also by where they began."""
        per = 1 / max(self.translations, 1)
        found = {f"l{n}_hits": hits * per for n, hits in enumerate(self.hits, 1)}
        found |= {
            "walks": self.walks * per,
            "prefetch_walks": self.prefetch_walks * per,
            "prefetch_useful": self.useful * per,
            "faults": self.faults * per,
            "bypassed": self.bypassed * per,
        }
        names = [f"walks_from_level_{n}" for n in range(len(self.walk_starts) - 1)] + ["walks_from_root"]
        return found | {name: starts * per for name, starts in zip(names, self.walk_starts, strict=True)}


def _differences(now: tuple[int, ...], before: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a - b for a, b in zip(now, before, strict=True))


@dataclass(frozen=True)
class Weights:
    """What counted events cost, in ns: an objective that needs no clock and repeats exactly.

    lookups: a look-up in each level of the TLB, whether it hits or not. walks: a walk for a demanded address that began
    at a cached table of level 0, 1, 2, 3, or at the root. walk_cache: what a walk costs more because there is a walk
    cache to ask. prefetch_walk: a walk for a candidate. prefetch_event: telling the prefetcher of a look-up. bypass: an
    element of an array that went round the levels. source: where the numbers come from.

    The defaults are a model, not a measurement: a processor of 4 GHz whose table entries come from a level-2 cache,
    whose prefetches use idle moments of the page walker, and whose prefetcher delays a miss by 2 ns. ``calibrate()``
    measures this machine instead, where predicting and prefetching are work of the same thread. Either way a look-up
    costs the same in a level of any strategy; only the objective ``"time"`` can tell strategies apart.

    Raises InvalidConfig for a negative weight, or when all are 0.
    """

    lookups: tuple[float, float, float] = (0.25, 2.0, 6.0)
    walks: tuple[float, float, float, float, float] = (8.0, 12.0, 16.0, 20.0, 20.0)
    walk_cache: float = 0.5
    prefetch_walk: float = 2.0
    prefetch_event: float = 2.0
    bypass: float = 4.0
    source: str = "model"

    def __post_init__(self) -> None:
        single = (self.walk_cache, self.prefetch_walk, self.prefetch_event, self.bypass)
        everything = (*self.lookups, *self.walks, *single)
        if min(everything) < 0 or max(everything) <= 0:
            raise InvalidConfig(f"weights are {everything}; none may be negative, and one must be above 0")

    def cost_ns(self, counts: Counts, *, walks_cached: bool) -> float:
        """The cost of what was counted; ``walks_cached``: whether there was a walk cache."""
        cost = sum(n * ns for n, ns in zip(counts.lookups, self.lookups, strict=False))
        starts = sum(counts.walk_starts)
        if starts:
            # The walk cache does not say who asked it, so demanded walks get the mean of all.
            mean = sum(n * ns for n, ns in zip(counts.walk_starts, self.walks, strict=True)) / starts
            cost += counts.walks * (mean + (self.walk_cache if walks_cached else 0.0))
        cost += counts.prefetch_walks * self.prefetch_walk + counts.prefetch_events * self.prefetch_event
        return cost + counts.bypassed * self.bypass
