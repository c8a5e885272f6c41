"""What each prefetcher saves a TLB on the page streams of real programs.

In two TLBs: the `Mmu` itself, with its own TLB, prefetch queue and walks of real page tables; and an idealized one,
bench/peers/tlb_model.cpp, as the papers about prefetchers simulate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
from vm_core import PageFault
from vm_mem import GuestMemory, Mmu
from vm_mem.paging import X86
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
from vm_mem.tlb import TlbConfig

from bench.python import native, results
from bench.python.mem.traces import HELD_OUT, WORKLOADS, Trace, capture

INTRO = """\
Traces: `valgrind --tool=lackey --trace-mem=yes`, data references only, 4 KiB pages. Both TLBs have 64 entries in 4 ways
over 1536 in 12 ways, exact least-recently-used replacement. Mmu: `vm_mem.Mmu` translates every address of the trace
through x86 page tables in guest memory; its prefetcher is not told which instruction asks, its candidates wait in a
queue of 64, are walked four at a time in the real tables, and are filled into both levels. Model: the prefetcher knows
the instruction, prefetches go to the second level and are there at once. A candidate that the TLB has costs nothing;
any other is a walk, refused when the page is not mapped. Misses: look-ups that had to walk, without those that ended in
a page fault. Avoided: misses that prefetching saved, as a part of those without it; below 0 it pushed out what was
needed. Accuracy: prefetched entries that were used, among the walks for prefetching. Useless: filled and evicted
unused. What the page tables held is a guess, so there are two: every page that the program ever touches, from the start
(a guest that runs again, or was restored); or each page from its first touch on, which faults and maps it (demand
paging: nobody can avoid the first miss of a page). Traces are stripped of repeated references to a page
(bench/peers/lackey_pages.cpp); a fill of a prefetch between two of them can make a miss differ."""

L1, L2 = (16, 4), (128, 12)
PAGE = 4096
FRAMES = 1 << 32  # where mapped pages are said to be; the Mmu translates and nobody reads
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


Counts = tuple[int, int, int, int, int]
"""Misses, walks for prefetching, and their useful, useless and refused ones."""


def in_model(trace: Trace, prefetcher: Prefetcher | None, *, demand_paging: bool) -> Counts:
    """Run a trace through the model of a TLB."""
    model = tlb_model().Model(trace.pages, trace.pcs, demand_paging, L1, L2)
    while (event := model.next()) is not None:
        if prefetcher is None:
            continue
        page, pc, prefetch_hit, first_touch = event
        for prefetched, outcome in model.take_outcomes():
            prefetcher.outcome(prefetched, outcome)
        if first_touch:
            prefetcher.faulted(page)
        model.prefetch(prefetcher.observe(page, pc, prefetch_hit=prefetch_hit))
    return model.misses, model.walks, model.useful, model.useless, model.refused


def in_mmu(trace: Trace, prefetcher: Prefetcher | None, *, demand_paging: bool) -> Counts:
    """Run a trace through an Mmu."""
    sizes = {"l1_size": L1[0] * L1[1], "l1_ways": L1[1], "l2_size": L2[0] * L2[1], "l2_ways": L2[1], "l3_size": 0}
    tlb = TlbConfig("multi_level", **sizes)
    mmu = Mmu(GuestMemory.anonymous(64 << 20), X86(levels=4, root=PAGE), tlb=tlb, prefetcher=prefetcher)
    frames = iter(range(FRAMES, FRAMES + trace.pages.size * PAGE, PAGE))
    if not demand_paging:
        for page in np.unique(trace.pages).tolist():
            mmu.map_page(page * PAGE, next(frames))
    translate = mmu.translate
    for vaddr in (trace.pages * np.uint64(PAGE)).tolist():
        try:
            translate(vaddr)
        except PageFault:
            mmu.map_page(vaddr, next(frames))
            translate(vaddr)
    stats = mmu.stats
    entries = stats.tlb.prefetch
    misses = stats.walks - stats.faults
    return misses, stats.prefetch_walks, entries.useful, entries.useless, stats.prefetch.refused


Way = Callable[..., Counts]
WAYS: dict[str, Way] = {"Mmu": in_mmu, "model": in_model}


def table(runs: list[Run]) -> str:
    """All runs of one trace."""
    lines = [
        "| | misses | avoided | accuracy | walks | useful | useless | refused |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    return "\n".join([*lines, *(run.row() for run in runs)])


def measure(trace: Trace, run: Way, *, demand_paging: bool) -> tuple[list[Run], Adaptive]:
    """Every contestant on one trace, and the chooser that was the last of them."""
    baseline = run(trace, None, demand_paging=demand_paging)[0]
    runs = [Run("none", baseline, baseline, 0, 0, 0, 0)]
    chooser = Adaptive()
    for name, make in [*CONTESTANTS.items(), (ADAPTIVE, lambda: chooser)]:
        misses, *counts = run(trace, make(), demand_paging=demand_paging)
        runs.append(Run(name, misses, baseline, *counts))
    return runs, chooser


def followed(chooser: Adaptive) -> str:
    """For how many events each member was followed, as far back as its decisions are kept."""
    decisions = chooser.decisions
    if not chooser.stats.events:
        return ""  # the Mmu has had a copy of it
    if not decisions:
        return f"Adaptive followed nobody in {chooser.stats.events:,} events."
    ends = [decision.event for decision in decisions[1:]] + [chooser.stats.events]
    events: dict[str, int] = {}
    for decision, end in zip(decisions, ends, strict=True):
        name = "nobody" if decision.to_member is None else chooser.members[decision.to_member].partition("(")[0]
        events[name] = events.get(name, 0) + end - decision.event
    parts = ", ".join(f"{name} for {count:,}" for name, count in sorted(events.items(), key=lambda item: -item[1]))
    return f"Adaptive decided {chooser.decision_count} times in {ends[-1]:,} events; it followed {parts}."


def promise(claim: str, runs: list[Run]) -> results.Target:
    """What the chooser avoids beside the best single prefetcher; none at all is a choice as well."""
    *single, adaptive = runs
    best = max(single, key=lambda run: run.avoided)
    if best.avoided > 0:
        claim += f": misses avoided by adaptive, as a part of those by the best single one ({best.name})"
        return results.Target(claim, adaptive.avoided / best.avoided, PROMISE, at_least=True)
    claim += ": misses with adaptive, as a part of those without"
    return results.Target(claim, adaptive.misses / adaptive.baseline, 2 - PROMISE)


def summary(name: str, runs: list[Run]) -> str:
    """One line about a trace: the best single prefetcher and the chooser."""
    *single, adaptive = runs
    best = max(single, key=lambda run: run.avoided)
    cells = [name, f"{adaptive.baseline:,}", best.name, f"{100 * best.avoided:.2f} %", f"{best.walks:,}"]
    part = f"{adaptive.avoided / best.avoided:.2f}" if best.avoided > 0 else ""
    cells += [f"{100 * adaptive.avoided:.2f} %", f"{adaptive.walks:,}", part]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Trace programs and run every prefetcher over each; the chooser on others, too."""
    options = results.options(__doc__ or "")
    section = results.Section("mem-prefetch", "TLB prefetchers on real programs", options.quick, ("vm_mem",), INTRO)
    lines = [
        "| | misses | best single one | avoided | walks | adaptive avoided | walks | part of the best |",
        "|---|--:|---|--:|--:|--:|--:|--:|",
    ]
    for workload in (*WORKLOADS, *HELD_OUT):
        trace = capture(workload, 2_000_000) if options.quick else capture(workload)
        facts = f"{trace.references:,} data references, {np.unique(trace.pages).size:,} pages"
        for pages, demand_paging in (("all pages mapped", False), ("demand paging", True)):
            for way, run in WAYS.items():
                runs, chooser = measure(trace, run, demand_paging=demand_paging)
                name = f"{trace.name}, {way}, {pages}"
                section.data[name] = [vars(run) for run in runs]
                if workload in HELD_OUT:
                    lines.append(summary(name, runs))
                else:
                    section.targets.append(promise(name, runs))
                    body = f"{table(runs)}\n\n{followed(chooser)}"
                    section.add(f"{way}: {workload.what}: {facts}; {pages}", body.rstrip())
    what = "; ".join(workload.what for workload in HELD_OUT)
    what += (
        ". The chooser follows nobody where a miss avoided takes more than 50 walks (its `walk_price`); a single "
        "prefetcher goes on."
    )
    section.add("Other programs, on which nothing was adjusted", f"{what}\n\n" + "\n".join(lines))
    section.write(options.output)


if __name__ == "__main__":
    main()
