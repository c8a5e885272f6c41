"""An `Optimizer` against every fixed setting that it may choose, on work that changes its nature."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from vm_mem.optimizer import NO_WALK_CACHE, WALK_CACHE, Counts, Optimizer, Setting, Weights, calibrate, grid
from vm_mem.tlb import TlbConfig

from bench.python import results
from bench.python.mem.changing_work import ARRAY, PIECE, Guest, Work, works

INTRO = """\
Guest memory of case B: 2^20 pages, scattered frames. Five kinds of work follow each other, all of it three times; the
optimizer knows neither the kinds nor when they change, and its trials and the refilling of emptied TLBs are in its
figures. Each fixed row has its setting from the beginning to the end. Promised: over the whole better than every fixed
setting; in each phase within 5 % of the setting that is best there. All answers are compared with the page tables'.

Counted: addresses one at a time. Costs by `Weights()` are a model of a processor (see its docstring), in which
prefetching uses idle time; those by `calibrate()` are what each counted event takes in this software, on this machine,
of which walks from tables between the last and the root are interpolated. Neither counts what the optimizer itself
takes. Measured: arrays of 2,000 addresses, thread time; arrays do not feed the prefetcher, and in software predicting
and prefetching are work of the same thread, so that prefetching is not in that list. The time of an optimizer row
includes its steps. Medians over rounds; ratios are taken within a round."""

OPTIMIZER = "optimizer"
WITHIN = 1.05
SINGLE = 250  # addresses between two steps where they are translated one at a time


@dataclass(frozen=True)
class Run:
    """Costs of one contestant, ns, by the name of the work."""

    name: str
    costs: dict[str, float]

    @property
    def whole(self) -> float:
        """All of it."""
        return sum(self.costs.values())


# --- Counted ---------------------------------------------------------------------------------------------------------

COUNTED_SHAPE = [
    ("sweep", 0, 400_000),
    ("random", 1 << 20, 400_000),
    ("400 pages", 400, 800_000),
    ("1500 pages", 1500, 500_000),
    ("stride 512", -512, 400_000),
]


def counted_fixed(guest: Guest, order: Sequence[Work], setting: Setting, weights: Sequence[Weights]) -> list[Run]:
    """Counted costs of one fixed setting, by each of the weights."""
    mmu = guest.mmu(setting)
    costs = [dict.fromkeys((work.name for work in order), 0.0) for _ in weights]
    translate = mmu.translate
    for work in order:
        before = Counts.of(mmu)
        for address in np.resize(work.addresses, work.length).tolist():
            translate(address)
        counts = Counts.of(mmu) - before
        for each, cost in zip(weights, costs, strict=True):
            cost[work.name] += each.cost_ns(counts, walks_cached=setting.walks_cached)
    guest.check(mmu)
    return [Run(setting.name, cost) for cost in costs]


def counted_optimizer(guest: Guest, order: Sequence[Work], choices: Sequence[Setting], weights: Weights
                      ) -> tuple[Run, Optimizer]:  # fmt: skip
    """Counted costs of an optimizer that begins with the first of the choices."""
    mmu = guest.mmu(choices[0])
    # A window is some hundred to some thousand translations.
    window_ns = 800 * weights.walks[0]
    optimizer = Optimizer(mmu, settings=choices, objective=weights, hysteresis=0.05, window_ns=window_ns)
    costs = dict.fromkeys((work.name for work in order), 0.0)
    translate = mmu.translate
    for work in order:
        addresses = np.resize(work.addresses, work.length)
        for at in range(0, work.length, SINGLE):
            piece = addresses[at : at + SINGLE]
            before = Counts.of(mmu)
            for address in piece.tolist():
                translate(address)
            walks_cached = optimizer.setting.walks_cached
            costs[work.name] += weights.cost_ns(Counts.of(mmu) - before, walks_cached=walks_cached)
            optimizer.step(addresses=piece)
    guest.check(mmu)
    return Run(OPTIMIZER, costs), optimizer


def measure_counted(section: results.Section, guest: Guest, weights: Sequence[Weights], *, scale: float) -> None:
    """Every combination of sizes, prefetching and walk cache in the hierarchy of one thread."""
    choices = grid(
        sizes=[(64, 0, 0), (64, 1536, 0), (64, 1536, 16384)],
        prefetch_distances=[0, 4, 16],
        walk_caches=[WALK_CACHE, NO_WALK_CACHE],
    )
    kinds = works(COUNTED_SHAPE, scale)
    order = kinds * 3
    fixed = [counted_fixed(guest, order, setting, weights) for setting in choices]
    for number, each in enumerate(weights):
        run, optimizer = counted_optimizer(guest, order, choices, each)
        publish(
            section, f"counted costs, weights: {each.source}", kinds, [[*(f[number] for f in fixed), run]], optimizer
        )


# --- Measured --------------------------------------------------------------------------------------------------------

# Each turn lasts about a quarter of a second under the setting that is best for it.
TIMED_SHAPE = [
    ("sweep", 0, 1_800_000),
    ("1500 pages", 1500, 20_000_000),
    ("random", 1 << 20, 1_200_000),
    ("48 pages", 48, 50_000_000),
    ("12000 pages", 12_000, 10_000_000),
]
ONE_STRATEGY_SHAPE = [
    ("sweep", 0, 1_800_000),
    ("1500 pages", 1500, 5_000_000),
    ("random", 1 << 20, 1_000_000),
    ("48 pages", 48, 50_000_000),
    ("12000 pages", 12_000, 2_500_000),
]
TIMED = [
    Setting(TlbConfig(l1_size=64, l2_size=0, l3_size=0)),
    Setting(TlbConfig(l1_size=64, l2_size=1536, l3_size=0)),
    Setting(TlbConfig()),
    Setting(TlbConfig(l1_size=256, l2_size=2048, l3_size=16384)),
    Setting(TlbConfig("concurrent", l3_size=4096)),
    Setting(TlbConfig("concurrent", l3_size=16384)),
    Setting(TlbConfig("hybrid", l3_size=16384)),
]
ONE_STRATEGY = [setting for setting in TIMED if setting.tlb.strategy == "multi_level"]


def timed(guest: Guest, order: Sequence[Work], setting: Setting, choices: Sequence[Setting] | None
          ) -> tuple[Run, Optimizer | None]:  # fmt: skip
    """Thread time of one fixed setting, or of an optimizer that may choose among `choices`."""
    mmu = guest.mmu(setting)
    optimizer = Optimizer(mmu, settings=choices, hysteresis=0.05, window_ns=1e6) if choices else None
    costs = {work.name: 0.0 for work in order}
    clock, translate = time.thread_time_ns, mmu.translate
    for work in order:
        arrays = [work.addresses[at : at + ARRAY] for at in range(0, work.addresses.size - ARRAY + 1, ARRAY)]
        begin = clock()
        for first in range(0, work.length // ARRAY, PIECE):
            start = clock()
            for i in range(first, first + PIECE):
                translate(arrays[i % len(arrays)])
            elapsed = clock() - start
            if optimizer:
                optimizer.step(elapsed, arrays[first % len(arrays)])
        costs[work.name] += clock() - begin
    guest.check(mmu)
    return Run(OPTIMIZER if optimizer else setting.name, costs), optimizer


def measure_timed(
    section: results.Section,
    guest: Guest,
    name: str,
    choices: Sequence[Setting],
    kinds: Sequence[Work],
    *,
    rounds: int,
) -> None:
    """All contestants in every round, in an order that turns."""
    order = [*kinds] * 3
    contestants: list[Callable[[], tuple[Run, Optimizer | None]]] = [
        partial(timed, guest, order, setting, None) for setting in choices
    ]
    contestants.append(partial(timed, guest, order, choices[0], choices))
    table: list[list[Run]] = []
    optimizer = None
    for number in range(rounds):
        turn = [(i + number) % len(contestants) for i in range(len(contestants))]
        runs: dict[int, Run] = {}
        for i in turn if number % 2 == 0 else turn[::-1]:
            runs[i], made = contestants[i]()
            optimizer = made or optimizer
        table.append([runs[i] for i in range(len(contestants))])
    publish(section, f"measured time, {name}, {rounds} rounds", kinds, table, optimizer)


# --- Results ---------------------------------------------------------------------------------------------------------


def publish(
    section: results.Section, what: str, kinds: Sequence[Work], rounds: list[list[Run]], optimizer: Optimizer | None
) -> None:
    """A table of all contestants, the optimizer last, and what was promised."""
    names = [run.name for run in rounds[0]]
    per_turn = {work.name: 3 * work.length for work in kinds}

    def median(row: int, work: str | None) -> float:
        return statistics.median(r[row].whole if work is None else r[row].costs[work] for r in rounds)

    def ratio(row: int, best: int, work: str | None) -> float:
        pairs = ((r[row], r[best]) for r in rounds)
        return statistics.median(a.whole / b.whole if work is None else a.costs[work] / b.costs[work] for a, b in pairs)

    fixed = range(len(names) - 1)
    columns: list[str | None] = [*per_turn, None]
    best = {column: min(fixed, key=lambda row, column=column: median(row, column)) for column in columns}
    lines = ["| | " + " | ".join(f"{n}, ns" for n in per_turn) + " | whole, ms | x best fixed |"]
    lines.append("|---" + "|--:" * (len(columns) + 1) + "|")
    for row, name in enumerate(names):
        cells = [f"{median(row, work) / count:.2f}" for work, count in per_turn.items()]
        lines.append(f"| {name} | " + " | ".join(cells)
                     + f" | {median(row, None) / 1e6:.1f} | {ratio(row, best[None], None):.3f} |")  # fmt: skip
    last = len(names) - 1
    oracle = sum(median(best[work], work) for work in per_turn)
    lines.append("")
    if optimizer is not None:
        lines.append(
            f"{optimizer.decision_count} decisions in {optimizer.windows} windows. Switching at each change to the "
            f"setting that is best there, without cost, would take {oracle / median(best[None], None):.3f} of the best "
            "fixed one."
        )
    section.add(what, "\n".join(lines))
    section.data[what] = [[vars(run) for run in one] for one in rounds]
    section.targets.append(
        results.Target(
            f"{what}: the whole, as a part of the best fixed setting's ({names[best[None]]})",
            ratio(last, best[None], None),
            1.0,
        )
    )
    section.targets += [
        results.Target(
            f"{what}: {work}, as a part of the best fixed setting's ({names[best[work]]})",
            ratio(last, best[work], work),
            WITHIN,
        )
        for work in per_turn
    ]


def main() -> None:
    """Counted with the model and with this machine's weights, then measured with one strategy and with all."""
    options = results.options(__doc__ or "")
    section = results.Section("mem-optimizer", "The optimizer", options.quick, ("numpy", "vm_mem"), INTRO)
    guest = Guest()
    scale = 0.05 if options.quick else 1.0
    measure_counted(section, guest, [Weights(), calibrate()], scale=scale / 2)
    rounds = 1 if options.quick else 2
    measure_timed(section, guest, "multi_level only", ONE_STRATEGY, works(ONE_STRATEGY_SHAPE, scale), rounds=rounds)
    measure_timed(section, guest, "all strategies", TIMED, works(TIMED_SHAPE, scale), rounds=rounds)
    section.write(options.output)


if __name__ == "__main__":
    main()
