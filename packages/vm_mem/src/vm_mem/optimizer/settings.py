"""What an optimizer may choose among.

Not the choice itself: that is ``coordinator``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product

from vm_core import InvalidConfig

from .._mem import Mmu, Prefetcher, TlbConfig

WALK_CACHE = (1024, 64, 16, 4)
"""The entries of an ``Mmu``'s walk cache that was not configured, by the level of the table."""
NO_WALK_CACHE = (0, 0, 0, 0)


@dataclass(frozen=True)
class Setting:
    """A TLB and a walk cache that an ``Mmu`` can have.

    walk_cache: entries by the level of the table, as for ``Mmu``; ``NO_WALK_CACHE`` is off. prefetcher: in the place of
    the one that ``tlb`` describes, as for ``Mmu``. name: for people; made from the rest when it is empty.
    """

    tlb: TlbConfig
    walk_cache: tuple[int, ...] = WALK_CACHE
    prefetcher: Prefetcher | None = None
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if len(self.walk_cache) != len(WALK_CACHE):
            raise InvalidConfig(f"walk_cache is {self.walk_cache}; it has one number for each of 4 levels of tables")
        if not self.name:
            object.__setattr__(self, "name", self._describe())

    def _describe(self) -> str:
        tlb = self.tlb
        sizes = "/".join(str(size) for size in self._sizes() if size)
        parts = [tlb.strategy, "custom levels" if tlb.levels else sizes]
        if self.prefetches:
            prediction = ", prediction" if tlb.enable_prediction and self.prefetcher is None else ""
            what = f"{tlb.prefetch_distance}{prediction}" if self.prefetcher is None else repr(self.prefetcher)
            parts.append(f"prefetch {what}")
        if self.walk_cache != WALK_CACHE:
            entries = "/".join(map(str, self.walk_cache))
            parts.append(f"walk cache {entries}" if self.walks_cached else "no walk cache")
        return ", ".join(parts)

    def _sizes(self) -> tuple[int, int, int]:
        """Those that the strategy uses."""
        tlb = self.tlb
        return {
            "multi_level": (tlb.l1_size, tlb.l2_size, tlb.l3_size),
            "concurrent": (0, 0, tlb.l3_size),
            "hybrid": (tlb.l1_size, 0, tlb.l3_size),
        }[tlb.strategy]

    @property
    def prefetches(self) -> bool:
        """Whether anything is prefetched."""
        return self.prefetcher is not None or self.tlb.enable_prefetch

    @property
    def walks_cached(self) -> bool:
        """Whether there is a walk cache."""
        return any(self.walk_cache)

    def knobs(self) -> tuple[object, ...]:
        """Strategy; geometry; prefetching; walk cache; flush policy: what two settings may differ in."""
        tlb = self.tlb
        sizes = tlb.l1_size, tlb.l2_size, tlb.l3_size
        geometry = (sizes, tlb.l1_ways, tlb.l2_ways, tlb.l3_ways, tlb.replacement, tlb.inclusion, tlb.levels)
        prefetching = (self.prefetcher, tlb.enable_prefetch and (tlb.prefetch_distance, tlb.enable_prediction))
        return tlb.strategy, geometry, prefetching, self.walk_cache, tlb.flush_policy


def neighbours(settings: Sequence[Setting], of: int) -> list[int]:
    """Of each strategy, the settings that differ from one in the fewest knobs."""
    centre = settings[of].knobs()
    apart: dict[str, dict[int, int]] = {}
    for i, setting in enumerate(settings):
        if i != of:
            differing = sum(a != b for a, b in zip(setting.knobs(), centre, strict=True))
            apart.setdefault(setting.tlb.strategy, {})[i] = differing
    return [i for group in apart.values() for i, knobs in group.items() if knobs == min(group.values())]


def grid(
    base: TlbConfig | None = None,
    *,
    strategies: Iterable[str] = (),
    sizes: Iterable[tuple[int, int, int]] = (),
    prefetch_distances: Iterable[int] = (),
    walk_caches: Iterable[tuple[int, ...]] = (),
) -> tuple[Setting, ...]:
    """Every combination of the values given that makes a difference.

    What is not given stays as in ``base``, the walk cache as by default.

    sizes: entries of the three levels. prefetch_distances: 0 is no prefetching. Raises InvalidConfig for a combination
    that no TLB can have.

    >>> [setting.name for setting in grid(sizes=[(64, 0, 0), (64, 512, 4096)], prefetch_distances=[0, 4])]
    ... # doctest: +NORMALIZE_WHITESPACE
    ['multi_level, 64', 'multi_level, 64, prefetch 4',
     'multi_level, 64/512/4096', 'multi_level, 64/512/4096, prefetch 4']
    """
    base = base or TlbConfig()
    distances = tuple(prefetch_distances) or (base.prefetch_distance if base.enable_prefetch else 0,)
    found: dict[str, Setting] = {}
    for strategy, (l1, l2, l3), distance, walk_cache in product(
        tuple(strategies) or (base.strategy,),
        tuple(sizes) or ((base.l1_size, base.l2_size, base.l3_size),),
        distances,
        tuple(walk_caches) or (WALK_CACHE,),
    ):
        chosen = {"strategy": strategy, "l1_size": l1, "l2_size": l2, "l3_size": l3, "enable_prefetch": distance > 0}
        if distance > 0:
            chosen["prefetch_distance"] = distance
        setting = Setting(TlbConfig(**(base.as_dict() | chosen)), walk_cache)
        # The name leaves out the sizes that a strategy does not use.
        found.setdefault(setting.name, setting)
    return tuple(found.values())


def default_settings(mmu: Mmu, *, timed: bool) -> tuple[Setting, ...]:
    """Combinations around what an ``Mmu`` has: sizes, prefetching, walk cache; strategies where time is measured."""
    base = mmu.tlb.config
    if base.levels:
        return (Setting(base, mmu.walk_cache), Setting(base, NO_WALK_CACHE))
    present, large = (base.l1_size, base.l2_size, base.l3_size), (256, 2048, 16384)
    found: list[Setting] = []
    for strategy in ("multi_level", "concurrent", "hybrid") if timed else (base.strategy,):
        small = (64, 0, 0) if strategy == "multi_level" else (64, 512, 1024)
        if strategy != "multi_level" and not base.l3_size:
            present = large
        found += grid(
            base,
            strategies=(strategy,),
            sizes=dict.fromkeys((small, present, large)),
            prefetch_distances=sorted({0, base.prefetch_distance, 16}),
            walk_caches=(WALK_CACHE, NO_WALK_CACHE),
        )
    return tuple(found)
