"""Measure several ways of doing one thing against each other in one process.

Machines drift: another tenant, a warmer core, a different clock. So every round times every contestant once, in an
order that changes from round to round, and a ratio is taken within each round before the median over rounds is. A
sample repeats its contestant until the clock's own resolution does not matter.
"""

from __future__ import annotations

import gc
import statistics
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Contestant", "Timing", "quartiles", "race"]


@dataclass(frozen=True)
class Contestant:
    """One way of doing the job.

    loop: performs the job so many times and returns the seconds that took.
    items: what one job handles (addresses, calls); results are per item.
    note: what the job includes, for the reader of the table.
    fixed_loops: the repetitions of each sample, for jobs too long to be calibrated; 0 calibrates.
    """

    name: str
    loop: Callable[[int], float]
    items: int = 1
    note: str = ""
    fixed_loops: int = 0

    @classmethod
    def of_call(cls, name: str, job: Callable[[], object], items: int, note: str = "", loops: int = 0) -> Contestant:
        """Time `job()`; the cost of calling it from Python is included."""
        return cls(name, timeit.Timer(job).timeit, items, note, loops)

    @classmethod
    def of_statement(
        cls, name: str, statement: str, names: dict[str, object], items: int, note: str = ""
    ) -> Contestant:
        """Time a Python statement of a few nanoseconds, compiled into the loop that times it."""
        return cls(name, timeit.Timer(statement, globals=names).timeit, items, note)


@dataclass(frozen=True)
class Timing:
    """What the rounds said about one contestant; nanoseconds are per item, ratios are to the baseline's time."""

    name: str
    note: str
    loops: int
    ns: tuple[float, ...]
    ratios: tuple[float, ...]

    @property
    def median_ns(self) -> float:
        """Median time of one item."""
        return statistics.median(self.ns)

    @property
    def ratio(self) -> float:
        """Median over the rounds of this contestant's time divided by the baseline's."""
        return statistics.median(self.ratios)

    def ratio_to(self, other: Timing) -> float:
        """The same, to another contestant of the race."""
        return statistics.median(a / b for a, b in zip(self.ns, other.ns, strict=True))


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The values that a quarter and three quarters of `values` stay below."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def race(contestants: Sequence[Contestant], *, rounds: int, sample_seconds: float, baseline: str = "") -> list[Timing]:
    """Time all contestants, interleaved.

    rounds: samples of each contestant. sample_seconds: how long a sample lasts at least, whole jobs. baseline: name of
    the contestant that ratios refer to; the first one by default. The garbage collector is off during samples.
    """
    base = next(i for i, c in enumerate(contestants) if c.name == (baseline or contestants[0].name))
    collecting = gc.isenabled()
    gc.disable()
    try:
        loops = [c.fixed_loops or _calibrate(c, sample_seconds) for c in contestants]
        samples: list[list[float]] = [[] for _ in contestants]
        for round_number in range(rounds):
            for i in _order(len(contestants), round_number):
                seconds = contestants[i].loop(loops[i])
                samples[i].append(seconds / loops[i] / contestants[i].items * 1e9)
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return [
        Timing(c.name, c.note, n, tuple(s), tuple(a / b for a, b in zip(s, samples[base], strict=True)))
        for c, n, s in zip(contestants, loops, samples, strict=True)
    ]


def _order(count: int, round_number: int) -> list[int]:
    """Start one further in every round, and go backwards in every other one: nobody always follows the same."""
    order = [(i + round_number) % count for i in range(count)]
    return order if round_number % 2 == 0 else order[::-1]


def _calibrate(contestant: Contestant, sample_seconds: float) -> int:
    """How many repetitions fill a sample. Doubles as the warm-up."""
    if contestant.loop(1) >= sample_seconds:
        return 1
    loops = 1
    while True:
        seconds = contestant.loop(loops)
        if seconds >= sample_seconds / 4:
            return max(1, round(loops * sample_seconds / seconds))
        loops = max(loops * 2, min(loops * 100, round(loops * sample_seconds / 4 / max(seconds, 1e-7))))
