"""``vm-mem simd``: how this machine copies memory, whether it does so correctly, and how fast."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from vm_core import CpuFeatures
from vm_core.command import examples

from ..simd import CopyPlan, MemcpyStrategy, instruction_sets, memcpy_fast, simd_feature_name
from . import options, simd_plot
from .output import print_json, print_table
from .text import round_size, size_text

EXAMPLES = examples("vm-mem simd", "vm-mem simd --bench", "vm-mem simd --plot copies.svg", "vm-mem simd --json")

_THRESHOLDS = (
    ("string_from", "rep movsb"),
    ("stream_from", "past the caches"),
    ("stream_hint_from", 'past the caches with hint="stream"'),
    ("fill_string_from", "fills by rep stosb"),
    ("fill_stream_from", "fills past the caches"),
    ("thread_bytes", "for each of several threads"),
)
_CHECKED_SIZES = (*range(322), *range(1018, 1031), 4095, 4096, 4097, 70_001)
_OFFSETS = ((0, 0), (1, 0), (0, 1), (63, 17))
_EDGE = 64
"""Bytes around the destination that must stay as they are."""

_BENCH_SIZES = tuple(1 << shift for shift in range(4, 27, 2))
_ROUNDS = 7
_SAMPLE_SECONDS = 0.004
_BAR = 30
"""Characters of a bar as long as the line."""
_PLOT_LIMIT = 2.5

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Verdict:
    """What the kernels of one instruction set did; ``reason`` says why they could not be tried."""

    name: str
    copies: int = 0
    wrong: int = 0
    reason: str = ""


def _plans(name: str) -> Iterator[CopyPlan]:
    """Every method of an instruction set, taken from the first size that it can do."""
    plan = CopyPlan(name)  # type: ignore[arg-type]  # a name that instruction_sets() gave
    yield plan
    yield plan.replace(stream_from=0, prefetch_distance=512)
    if CpuFeatures.detect().architecture == "x86_64":
        yield plan.replace(string_from=0)


def _wrong_copies(strategy: MemcpyStrategy, source: Bytes) -> Iterator[bool]:
    """For each copy, whether it differs from NumPy's or reached beyond its ends."""
    ours = np.full(max(_CHECKED_SIZES) + 4 * _EDGE, 0xA5, np.uint8)
    theirs = ours.copy()
    for size in _CHECKED_SIZES:
        for to, since in _OFFSETS:
            here = slice(_EDGE + to, _EDGE + to + size)
            around = slice(here.stop + _EDGE)
            ours[around] = theirs[around] = 0xA5
            theirs[here] = source[since : since + size]
            memcpy_fast(ours[here], source[since : since + size], strategy=strategy)
            yield not np.array_equal(ours[around], theirs[around])


def verify() -> list[Verdict]:
    """Copy with every kernel that runs here, and compare with NumPy."""
    source = np.random.default_rng(1).integers(0, 256, max(_CHECKED_SIZES) + _EDGE, np.uint8)
    verdicts = []
    for name, reason in instruction_sets().items():
        if reason:
            verdicts.append(Verdict(name, reason=reason))
            continue
        wrong = [bad for plan in _plans(name) for bad in _wrong_copies(MemcpyStrategy(plan), source)]
        verdicts.append(Verdict(name, len(wrong), sum(wrong)))
    return verdicts


@dataclass(frozen=True)
class Speed:
    """Copies of one size, in bytes per second."""

    size: int
    ours: float
    memoryview: float
    numpy: float

    @property
    def ratio(self) -> float:
        """To the faster of the others."""
        return self.ours / max(self.memoryview, self.numpy)


def _seconds(copy: Callable[[], object], loops: int) -> float:
    start = time.perf_counter()
    for _ in range(loops):
        copy()
    return (time.perf_counter() - start) / loops


def measure(size: int) -> Speed:
    """Time copies from Python, each way in every round; medians."""
    dst, src = np.zeros(size, np.uint8), np.ones(size, np.uint8)
    to, since = dst.data, src.data

    def by_slice() -> None:
        to[:] = since

    ways: list[Callable[[], object]] = [lambda: memcpy_fast(dst, src), by_slice, lambda: np.copyto(dst, src)]
    loops = max(1, int(_SAMPLE_SECONDS / max(_seconds(ways[0], 3), 1e-8)))
    rounds = [[_seconds(way, loops) for way in ways] for _ in range(_ROUNDS)]
    return Speed(size, *(size / statistics.median(column) for column in zip(*rounds, strict=True)))


def _print_plan(plan: CopyPlan) -> None:
    print(f"copies use {simd_feature_name()}\n")
    rows = [(f"small ({plan.instruction_set})", "0"), (f"vector ({plan.instruction_set})", "257")]
    for name, what in _THRESHOLDS:
        least = getattr(plan, name)
        rows.append((what, "never" if least is None else size_text(least)))
    print_table(("method", ">from"), rows)


def _print_verdicts(verdicts: list[Verdict]) -> None:
    print()
    rows = [
        (v.name, "no", "", "", v.reason) if v.reason else (v.name, "yes", f"{v.copies:,}", f"{v.wrong:,}", "")
        for v in verdicts
    ]
    print_table(("kernels", "usable", ">copies checked", ">wrong", "why not"), rows)


def _print_speeds(speeds: list[Speed]) -> None:
    print("\nCalled from Python, so the time of a call is in all of them; bytes a second:")
    columns = (">size", ">memcpy_fast", ">memoryview slice", ">np.copyto", ">x the faster")
    print_table(
        columns,
        [
            (size_text(s.size), round_size(s.ours), round_size(s.memoryview), round_size(s.numpy), f"{s.ratio:.2f}")
            for s in speeds
        ],
    )
    print("\nmemcpy_fast as a multiple of the faster of the others, which is the line:")
    for s in speeds:
        bar = ("#" * round(min(s.ratio, _PLOT_LIMIT) * _BAR)).ljust(_BAR + 1)
        print(f"{size_text(s.size):>5} {bar[:_BAR]}|{bar[_BAR + 1 :]}".rstrip())


def _verdict_object(verdict: Verdict) -> dict[str, Any]:
    if verdict.reason:
        return {"usable": False, "reason": verdict.reason}
    return {"usable": True, "copies": verdict.copies, "wrong": verdict.wrong}


def _speed_object(speed: Speed) -> dict[str, Any]:
    return {"size": speed.size, "memcpy_fast": speed.ours, "memoryview": speed.memoryview, "copyto": speed.numpy}


def command(
    bench: Annotated[bool, typer.Option("--bench", help="Measure copies from Python too: a table and bars.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Measure, and draw it into this file (matplotlib).")
    ] = None,
    json: options.Json = False,
) -> int:
    """Show how this machine copies memory, and check every kernel against NumPy.

    Exit status 1: a kernel copied something wrong.
    """
    figure = simd_plot.new_figure(plot) if plot else None
    plan = MemcpyStrategy.detect().plan
    verdicts = verify()
    bench = bench or plot is not None
    speeds = [measure(size) for size in _BENCH_SIZES] if bench else []
    if figure and plot:
        lines = {"memcpy_fast": "ours", "memoryview slice": "memoryview", "np.copyto": "numpy"}
        columns = {name: [getattr(speed, field) for speed in speeds] for name, field in lines.items()}
        title = f"Copies of memory, {simd_feature_name()}"
        simd_plot.save(figure, plot, title, [speed.size for speed in speeds], columns)
    if json:
        thresholds = {name: getattr(plan, name) for name, _ in _THRESHOLDS}
        kernels = {verdict.name: _verdict_object(verdict) for verdict in verdicts}
        found: dict[str, Any] = {"feature": simd_feature_name(), "instruction_set": plan.instruction_set}
        found |= {"plan": thresholds, "kernels": kernels}
        print_json(found | ({"bytes_per_second": [_speed_object(speed) for speed in speeds]} if bench else {}))
    else:
        _print_plan(plan)
        _print_verdicts(verdicts)
        if bench:
            _print_speeds(speeds)
    return 1 if any(verdict.wrong for verdict in verdicts) else 0
