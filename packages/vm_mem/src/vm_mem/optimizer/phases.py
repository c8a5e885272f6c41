"""Telling phases of a workload apart, and recognizing one that comes back.

A phase is known by what the addresses look like, where the owner passes some, and by the rates of counted events under
each setting that was in force during it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .cost import Counts

Features = dict[str, float]

PATTERN_SAMPLE = 2048
"""Addresses that are looked at, once a window."""
_REMEMBERED_COSTS = 4
_PAGE_SHIFT = 12
_FULL_SPAN = 32
_NEWEST = 0.25
"""Weight of the newest window in a phase's means."""


def pattern_of(addresses: npt.ArrayLike) -> Features:
    """What successive addresses look like, whatever the setting; each is from 0 to 1.

    sequential: steps to the next page. regular: steps that repeat the step before. distinct: different pages among
    those touched. span: log2 of the pages from the lowest to the highest, as a part of 32.
    """
    pages = np.asarray(addresses, dtype=np.uint64).reshape(-1)[:PATTERN_SAMPLE] >> np.uint64(_PAGE_SHIFT)
    if pages.size < 3:
        return {}
    steps = np.diff(pages.view(np.int64))
    ordered = np.sort(pages)
    span = float(np.log2(float(ordered[-1] - ordered[0]) + 1))
    return {
        "sequential": float(np.mean(steps == 1)),
        "regular": float(np.mean((steps[1:] == steps[:-1]) & (steps[1:] != 0))),
        "distinct": (1 + np.count_nonzero(ordered[1:] != ordered[:-1])) / pages.size,
        "span": min(span / _FULL_SPAN, 1.0),
    }


def distance(a: Features, b: Features) -> float:
    """The largest difference of one feature; one that is missing counts as 0."""
    return max((abs(a.get(name, 0.0) - b.get(name, 0.0)) for name in a.keys() | b.keys()), default=0.0)


@dataclass(frozen=True)
class Window:
    """What was seen between two decisions under one setting. cost_ns: per translation."""

    setting: int
    counts: Counts
    cost_ns: float
    pattern: Features
    rates: Features

    @property
    def growth(self) -> float:
        """Entries that the TLB gained per translation: it is still filling while this is above 0."""
        return self.counts.growth / max(self.counts.translations, 1)

    @property
    def hits(self) -> float:
        """Look-ups that hit in any level, per translation."""
        return sum(self.counts.hits) / max(self.counts.translations, 1)

    def differs_from(self, other: Window) -> float:
        """How far two windows under one setting are apart."""
        return max(distance(self.pattern, other.pattern), distance(self.rates, other.rates))


@dataclass
class Phase:
    """What is known of one phase.

    rates, samples, seen: by setting; samples are the costs of the latest windows, seen is the last window under it.
    best: the setting to be in force; explored: whether that was found by trials. quiet: windows since a setting was
    tried; recheck: how many of them make it worth trying another.
    """

    number: int
    best: int
    pattern: Features = field(default_factory=dict)
    rates: dict[int, Features] = field(default_factory=dict)
    samples: dict[int, deque[float]] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)
    explored: bool = False
    last_seen: int = 0
    quiet: int = 0
    recheck: int = 0

    def cost_ns(self, setting: int) -> float:
        """The least of the latest windows under a setting: what disturbs a program only adds."""
        return min(self.samples[setting])

    def cheapest(self) -> int:
        """The cheapest setting that was tried."""
        return min(self.samples, key=self.cost_ns)

    def differs_from(self, window: Window, *, pattern_only: bool = False) -> float | None:
        """How far a window is from this phase, or None when nothing can be compared.

        pattern_only: leave out the rates, which say nothing while a TLB is filling.
        """
        found = []
        if self.pattern and window.pattern:
            found.append(distance(self.pattern, window.pattern))
        if window.setting in self.rates and not pattern_only:
            found.append(distance(self.rates[window.setting], window.rates))
        return max(found, default=None)

    def learn(self, window: Window, number: int, *, steady: bool) -> None:
        """Take in the window of that number; the rates count when the TLB was ``steady``."""
        setting = window.setting
        self.seen[setting] = self.last_seen = number
        self.samples.setdefault(setting, deque(maxlen=_REMEMBERED_COSTS)).append(window.cost_ns)
        if steady:
            self.rates[setting] = _blend(self.rates.get(setting, window.rates), window.rates)
        if window.pattern:
            self.pattern = _blend(self.pattern or window.pattern, window.pattern)


def _blend(old: Features, new: Features) -> Features:
    return {name: old.get(name, value) + _NEWEST * (value - old.get(name, value)) for name, value in new.items()}
