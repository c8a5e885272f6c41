"""Measure the allocators beside others.

In C++ (bench/cpp/mem/allocator_bench.cpp, memory_allocation.cpp), by counted instructions (valgrind), and from Python
beside NumPy.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from vm_mem.alloc import BumpAllocator, PoolAllocator, SlabAllocator

from bench.python import google_benchmark, results
from bench.python.harness import Contestant, race
from bench.python.results import ROOT, Section, Target, timing_table

INTRO = """\
Blocks of 64 bytes where nothing else is said; an item is one block, allocated and freed. `slab_inlined` knows the size
when it frees, `slab_unsized` does not, `slab_local` holds on to a stock of its own; `slab_called` is malloc and free of
a shared library that keeps a SlabAllocator, called as the peers are. The peers are those that are installed (glibc; on
Debian libmimalloc2.0, libjemalloc2, libtcmalloc-minimal4, libboost-dev); snmalloc's shim is built from its source and
named by VM_BENCH_SNMALLOC. In `batch`, 1000 blocks are allocated and then freed in random order; in `cross`, two
threads free what the other one allocated (and wrote to); in `bump`, nothing is freed. `slab_resource`, `bump_resource`
and pmr_* are called through std::pmr::memory_resource. A pair is some four cycles: where the compiler happens to place
its loop makes 0.2 ns for anybody."""

TREE = ROOT / "build" / "bench"
MALLOCS = ("glibc", "mimalloc", "jemalloc", "tcmalloc", "snmalloc")
COUNTED = ("loop", "slab_local", "slab_inlined", "slab_unsized", "slab_called", "bump")

Times = dict[str, list[float]]


def tables(times: Times, section: Section, title: str) -> None:
    """One table a case, everybody in it by time."""
    cases = dict.fromkeys(name.split("/")[1] for name in times)
    for case in cases:
        rows = {n.split("/")[0]: t for n, t in times.items() if n.split("/")[1] == case and t}
        lines = ["| | ns per item | least to most |", "|---|--:|--:|"]
        for name in sorted(rows, key=lambda name: statistics.median(rows[name])):
            found = rows[name]
            lines.append(f"| {name} | {statistics.median(found):.2f} | {min(found):.2f} to {max(found):.2f} |")
        section.add(f"{title}: {case}", "\n".join(lines))


def promises(times: Times) -> list[Target]:
    """What was promised, of what is installed here."""

    def median(who: str, case: str) -> float | None:
        found = next((t for n, t in times.items() if n.split("/")[:2] == [who, case]), None)
        return statistics.median(found) if found else None

    def ratio(claim: str, ours: tuple[str, str], theirs: tuple[str, str], limit: float, at_least: bool = False) -> None:
        mine, other = median(*ours), median(*theirs)
        if mine is not None and other is not None:
            measured = other / mine if at_least else mine / other
            kept.append(Target(claim, measured, limit, at_least, "x"))

    kept: list[Target] = []
    pair = median("slab_inlined", "pair")
    if pair is not None:
        kept.append(Target("slab, inlined: a pair", pair, 1.0, unit=" ns"))
    for peer in MALLOCS:
        ratio(f"slab, called: a pair, to {peer}", ("slab_called", "pair"), (peer, "pair"), 1.0)
    for case in ("batch", "cross"):
        for ours in ("slab_local", "slab_inlined", "slab_called"):
            ratio(f"{ours}: {case}, to snmalloc", (ours, case), ("snmalloc", case), 1.0)
            ratio(f"{ours}: {case}, times as fast as mimalloc", (ours, case), ("mimalloc", case), 4.0, True)
    ratio("bump, inlined, to adding to a pointer", ("bump_inlined", "bump"), ("pointer_add", "bump"), 1.3)
    return kept


def instructions(program: Path) -> str:
    """Instructions of one pair (of one block for bump), the loop around it taken away."""
    counts = {}
    for case in COUNTED:
        few, many = (_count(program, case, times) for times in (10_000, 110_000))
        counts[case] = (many - few) / 100_000
    lines = ["| | instructions |", "|---|--:|"]
    lines += [f"| {case} | {counts[case] - counts['loop']:.1f} |" for case in COUNTED[1:]]
    return "\n".join(lines)


def _count(program: Path, case: str, times: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", program, case, str(times)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None:
        raise RuntimeError(f"callgrind did not say what it counted:\n{done.stderr}")
    return int(found[1])


def from_python() -> dict[str, list[Contestant]]:
    """Arrays that are made and forgotten, by their size."""
    slabs, arena = SlabAllocator(), BumpAllocator()
    contests: dict[str, list[Contestant]] = {}
    for size in (64, 4096, 1 << 20):
        pool = PoolAllocator(size, max=16)
        names = {"np": np, "slabs": slabs, "arena": arena, "pool": pool, "size": size}
        statements = {"np.empty": "np.empty(size, 'u1')", "pool.empty": "pool.empty(size, 'u1')"}
        if size <= slabs.largest_size:
            statements["slabs.empty"] = "slabs.empty(size, 'u1')"
            statements["slabs.allocate"] = "slabs.allocate(size)"
        statements["arena.empty in a scope"] = "with arena.scope(): arena.empty(size, 'u1')"
        contests[f"{size} bytes"] = [Contestant.of_statement(name, s, names, 1) for name, s in statements.items()]
    return contests


def main() -> None:
    """Build and run everything."""
    options = results.options(__doc__ or "")
    section = Section("mem-alloc", "Allocators", options.quick, ("numpy",), INTRO)
    programs = {program.name: program for program in google_benchmark.build(TREE)}
    for name in ("allocator_bench", "memory_allocation"):
        found = google_benchmark.measure(programs[f"bench_{name}"], options.quick)
        times = {benchmark: each.times for benchmark, each in found.items()}
        tables(times, section, name)
        section.data[name] = times
        if name == "allocator_bench":
            section.targets = promises(times)
    if shutil.which("valgrind"):
        program = TREE / "bench" / "cpp" / "mem" / "vm_bench_alloc_instructions"
        section.add("Instructions of a pair (callgrind)", instructions(program))
    else:
        section.add("Instructions of a pair (callgrind)", "Not counted: valgrind is missing.")
    rounds, seconds = (3, 0.005) if options.quick else (15, 0.05)
    for title, contestants in from_python().items():
        timings = race(contestants, rounds=rounds, sample_seconds=seconds)
        section.add(f"From Python: {title}", timing_table(timings), timings)
    section.write(options.output)


if __name__ == "__main__":
    main()
