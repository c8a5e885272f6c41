"""What each prefetcher saves a TLB on the page streams of real programs.

The TLB is bench/peers/tlb_model.cpp. `simulate` is the only function that knows it: another TLB needs the same three
things, an event for each miss and each first hit on a prefetched entry, a fetch of candidates, and their outcomes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
from vm_mem.prefetch import (
    Adaptive,
    Distance,
    FreeNeighbours,
    Markov,
    Perceptron,
    Prefetcher,
    Sequential,
    Strided,
)

from bench.python import native, results
from bench.python.mem.traces import WORKLOADS, Trace, capture

INTRO = """\
Traces: `valgrind --tool=lackey --trace-mem=yes`, data references only, 4 KiB pages. TLB: a model of 64 entries in 4
ways over 1536 in 12 ways, exact least-recently-used replacement. Prefetches go to the second level and are there at
once, so none is late. A candidate that the TLB has costs nothing; any other is a walk, refused when the page is not
mapped. Avoided: walks on demand that prefetching saved, as a part of those without it; below 0 it pushed out what was
needed. Accuracy: prefetched entries that were used, among the walks for prefetching. Useless: filled and evicted
unused. What the page tables held is a guess, so there are two: every page that the program ever touches, from the start
(a guest that runs again, or was restored); or each page from its first touch on (demand paging: nobody can avoid the
first miss of a page)."""

L1, L2 = (16, 4), (128, 12)
# The promise of the adaptive chooser: this part of what the best single prefetcher avoids.
PROMISE = 0.95

CONTESTANTS: dict[str, Callable[[], Prefetcher]] = {
    "sequential, degree 1": Sequential,
    "sequential, degree 4": lambda: Sequential(degree=4),
    "strided, degree 1": Strided,
    "strided, degree 4": lambda: Strided(degree=4),
    "distance": Distance,
    "Markov": Markov,
    "free neighbours": FreeNeighbours,
    "perceptron over sequential, degree 4": lambda: Perceptron(Sequential(degree=4)),
    "perceptron over distance": lambda: Perceptron(Distance()),
}
ADAPTIVE = "adaptive"


@dataclass(frozen=True)
class Run:
    """What one prefetcher did for one trace."""

    name: str
    misses: int
    baseline: int
    walks: int
    useful: int
    useless: int
    refused: int

    @property
    def avoided(self) -> float:
        """Misses that did not happen, as a part of those without prefetching."""
        return 1 - self.misses / self.baseline

    def row(self) -> str:
        """One line of the table."""
        accuracy = f"{100 * self.useful / self.walks:.1f} %" if self.walks else ""
        cells = [self.name, f"{self.misses:,}", f"{100 * self.avoided:.2f} %", accuracy]
        cells += [f"{count:,}" for count in (self.walks, self.useful, self.useless, self.refused)]
        return "| " + " | ".join(cells) + " |"


@cache
def tlb_model() -> ModuleType:
    """The TLB, compiled once."""
    return native.python_module("tlb_model")


def simulate(trace: Trace, prefetcher: Prefetcher | None, *, demand_paging: bool) -> tuple[int, int, int, int, int]:
    """Run a trace through the TLB: misses, walks for prefetching, and their useful, useless and refused ones."""
    model = tlb_model().Model(trace.pages, trace.pcs, demand_paging, L1, L2)
    while (event := model.next()) is not None:
        if prefetcher is None:
            continue
        page, pc, prefetch_hit = event
        for prefetched, outcome in model.take_outcomes():
            prefetcher.outcome(prefetched, outcome)
        model.prefetch(prefetcher.observe(page, pc, prefetch_hit=prefetch_hit))
    return model.misses, model.walks, model.useful, model.useless, model.refused


def table(runs: list[Run]) -> str:
    """All runs of one trace."""
    lines = [
        "| | misses | avoided | accuracy | walks | useful | useless | refused |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    return "\n".join([*lines, *(run.row() for run in runs)])


def measure(trace: Trace, *, demand_paging: bool) -> tuple[list[Run], str]:
    """Every contestant on one trace, and whom the chooser followed."""
    baseline = simulate(trace, None, demand_paging=demand_paging)[0]
    runs = [Run("none", baseline, baseline, 0, 0, 0, 0)]
    chooser = Adaptive()
    for name, make in [*CONTESTANTS.items(), (ADAPTIVE, lambda: chooser)]:
        misses, *counts = simulate(trace, make(), demand_paging=demand_paging)
        runs.append(Run(name, misses, baseline, *counts))
    return runs, followed(chooser)


def followed(chooser: Adaptive) -> str:
    """For how many events each member was followed, as far back as its decisions are kept."""
    decisions = chooser.decisions
    if not decisions:
        return f"Adaptive followed nobody in {chooser.stats.events:,} events."
    ends = [decision.event for decision in decisions[1:]] + [chooser.stats.events]
    events: dict[str, int] = {}
    for decision, end in zip(decisions, ends, strict=True):
        name = "nobody" if decision.to_member is None else chooser.members[decision.to_member].partition("(")[0]
        events[name] = events.get(name, 0) + end - decision.event
    parts = ", ".join(f"{name} for {count:,}" for name, count in sorted(events.items(), key=lambda item: -item[1]))
    return f"Adaptive decided {chooser.decision_count} times in {ends[-1]:,} events; it followed {parts}."


def promise(trace: Trace, runs: list[Run], pages: str) -> results.Target:
    """What the chooser avoids beside the best single prefetcher; none at all is a choice as well."""
    *single, adaptive = runs
    best = max(single, key=lambda run: run.avoided)
    claim = (
        f"{trace.name}, {pages}: misses avoided by adaptive, as a part of those by the best single one ({best.name})"
    )
    if best.avoided > 0:
        return results.Target(claim, adaptive.avoided / best.avoided, PROMISE, at_least=True)
    return results.Target(
        f"{trace.name}, {pages}: misses with adaptive, as a part of those without",
        adaptive.misses / adaptive.baseline,
        2 - PROMISE,
    )


def main() -> None:
    """Trace three programs and run every prefetcher over each."""
    options = results.options(__doc__ or "")
    section = results.Section("mem-prefetch", "TLB prefetchers on real programs", options.quick, ("vm_mem",), INTRO)
    for workload in WORKLOADS:
        trace = capture(workload, 2_000_000) if options.quick else capture(workload)
        facts = f"{trace.references:,} data references, {np.unique(trace.pages).size:,} pages"
        for pages, demand_paging in (("all pages mapped", False), ("demand paging", True)):
            runs, story = measure(trace, demand_paging=demand_paging)
            section.add(f"{workload.what}: {facts}; {pages}", f"{table(runs)}\n\n{story}")
            section.data[f"{trace.name}, {pages}"] = [vars(run) for run in runs]
            section.targets.append(promise(trace, runs, pages))
    section.write(options.output)


if __name__ == "__main__":
    main()
