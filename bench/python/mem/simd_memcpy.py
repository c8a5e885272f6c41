"""Copies: the C++ interface beside the C library and AOCL-LibMem, and vm_mem.simd beside what Python has."""

from __future__ import annotations

import math
import platform
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from vm_mem.simd import CopyPlan, memcpy_fast, memset_fast, simd_feature_name

from bench.python import google_benchmark, results
from bench.python.harness import Contestant, Timing, quartiles, race
from bench.python.results import ROOT, Target

INTRO = """\
The C++ rows are one program (bench/cpp/mem/simd_memcpy.cpp, Google Benchmark): all contestants of a size are inlined
into the same loop, repetitions are interleaved at random, and a ratio is the median over the repetitions of the other's
time divided by ours, so above 1 is faster than the other. `mixed` draws 65,536 sizes from the distributions of a large
fleet (bench/data/memcpy_sizes.csv) at random alignments; nothing can learn them by heart. AOCL-LibMem is measured when
`VM_BENCH_AOCL` names its library."""

FIXED = ("small", "medium", "large", "huge", "unaligned", "pattern_sequential", "pattern_zero", "pattern_random")
DISTRIBUTIONS = ("fleet", "workload 0", "workload 3")
KIB, MIB = 1 << 10, 1 << 20

Times = dict[str, list[float]]


def ratios(times: Times, kind: str, other: str, argument: int) -> list[float]:
    """The other's time divided by ours, for each repetition; empty when the other is not here."""
    ours, theirs = times[f"{kind}/vm/{argument}"], times.get(f"{kind}/{other}/{argument}", [])
    return [b / a for a, b in zip(ours, theirs, strict=bool(theirs))] if theirs else []


def arguments(times: Times, kind: str) -> list[int]:
    """What a kind was measured with."""
    return sorted(int(name.rpartition("/")[2]) for name in times if name.startswith(f"{kind}/vm/"))


def ratio_cells(found: list[float]) -> list[str]:
    """Median and quartiles."""
    if not found:
        return ["", ""]
    low, high = quartiles(found)
    return [f"{statistics.median(found):.2f}", f"{low:.2f} to {high:.2f}"]


def copy_rows(times: Times, kind: str) -> Iterator[str]:
    """The table of one kind."""
    yield "| | ns | GB/s | x C library | quartiles | x AOCL | quartiles |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for argument in arguments(times, kind):
        ns = statistics.median(times[f"{kind}/vm/{argument}"])
        mixed = kind == "mixed"
        label = DISTRIBUTIONS[argument] if mixed else f"{argument:,} B"
        cells = [label, f"{ns:,.2f}", "" if mixed else f"{argument / ns:.1f}"]
        cells += ratio_cells(ratios(times, kind, "libc", argument))
        cells += ratio_cells(ratios(times, kind, "aocl", argument))
        yield "| " + " | ".join(cells) + " |"


def method_rows(times: Times) -> Iterator[str]:
    """Every method that runs here, forced, in GB/s."""
    names = sorted({name.split("/")[1] for name, found in times.items() if name.startswith("comparison/") and found})
    sizes = sorted({int(name.split("/")[2]) for name in times if name.startswith("comparison/")})
    yield "| GB/s | " + " | ".join(f"{size // KIB:,} KiB" for size in sizes) + " |"
    yield "|---|" + "--:|" * len(sizes)
    for name in names:
        cells = []
        for size in sizes:
            found = method_times(times, name, size)
            cells.append(f"{size / statistics.median(found):.1f}" if found else "")
        yield f"| {name} | {' | '.join(cells)} |"


def method_times(times: Times, name: str, size: int) -> list[float]:
    """Of a forced method; what is measured in real time has that in its name."""
    return times.get(f"comparison/{name}/{size}") or times.get(f"comparison/{name}/{size}/real_time") or []


def copy_targets(times: Times) -> Iterator[Target]:
    """What was promised of the C++ interface."""

    def median(kind: str, other: str, argument: int) -> float:
        return statistics.median(ratios(times, kind, other, argument))

    def least(some: list[int], kinds: tuple[str, ...]) -> float:
        return min(median(kind, "libc", n) for kind in kinds for n in arguments(times, kind) if n in some)

    for number, name in enumerate(DISTRIBUTIONS):
        yield Target(f"mixed sizes, {name}: x the C library", median("mixed", "libc", number), 1.8, True)
    yield Target("4 to 16 KiB: least x the C library", least([4 * KIB, 8 * KIB, 16 * KIB], FIXED[:4]), 1.5, True)
    yield Target("64 MiB and more: least x the C library", least([64 * MIB, 256 * MIB], FIXED[:4]), 1.35, True)
    everything = [(kind, n) for kind in FIXED for n in arguments(times, kind)]
    classes = {kind: mean([median(kind, "libc", n) for n in arguments(times, kind)]) for kind in FIXED}
    worst = min(classes, key=lambda kind: classes[kind])
    yield Target(f"every class of sizes: least x the C library ({worst})", classes[worst], 0.95, True)
    peers = [ratios(times, kind, "aocl", n) for kind, n in everything + [("mixed", n) for n in range(3)]]
    if all(peers):
        over_all = mean([statistics.median(found) for found in peers])
        yield Target("geometric mean over all rows: x AOCL-LibMem", over_all, 1.0, True)


def mean(some: list[float]) -> float:
    """The geometric one, as ratios want it."""
    return math.exp(statistics.mean(map(math.log, some)))


def losing_text(times: Times) -> str:
    """Which sizes the C library copies faster."""
    rows = [
        (kind, n, statistics.median(ratios(times, kind, "libc", n))) for kind in FIXED for n in arguments(times, kind)
    ]
    slower = [f"{kind} {n:,} B ({ratio:.2f})" for kind, n, ratio in rows if ratio < 0.95]
    return f"Slower than the C library by more than a twentieth: {', '.join(slower) or 'none'}."


def limit_text(times: Times) -> str:
    """How near to what this machine can copy at all."""
    size = 256 * MIB
    names = {name.split("/")[1] for name in times if name.startswith("comparison/")}
    fastest = {name: statistics.median(found) for name in names if (found := method_times(times, name, size))}
    best = min(fastest, key=lambda name: fastest[name])
    ours = statistics.median(times[f"huge/vm/{size}"])
    return (
        f"The copy limit of this machine at 256 MiB is {size / fastest[best]:.1f} GB/s ({best}, the fastest of the "
        f"methods below); `memcpy_raw` reaches {fastest[best] / ours:.0%} of it."
    )


def instructions(program: Path, contestant: str, size: int) -> float:
    """Instructions of a call, as callgrind counts them, the loop around it included."""
    counts = []
    for times in (1_000, 11_000):  # the first call of all looks for the kernels
        with tempfile.TemporaryDirectory() as folder:
            tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
            command = [*tool, str(program), "--count", contestant, str(size), str(times)]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        counts.append(int(said.rpartition("Collected :")[2].split()[0]))
    return (counts[1] - counts[0]) / 10_000


def count_rows(program: Path) -> Iterator[str]:
    """Instructions of small copies."""
    yield "Valgrind's processor has no AVX-512, so these are the AVX2 kernels; three instructions or so are the loop's."
    yield ""
    yield "| | memcpy_raw | C library |"
    yield "|---|--:|--:|"
    for size in (0, 1, 4, 8, 16, 32, 64, 128, 256):
        ours, theirs = (instructions(program, contestant, size) for contestant in ("vm", "libc"))
        yield f"| {size} B | {ours:.1f} | {theirs:.1f} |"


def pairs(size: int, quick: bool) -> list[Timing]:
    """Ways of copying so many bytes from Python."""
    dst, src = np.zeros(size, np.uint8), np.ones(size, np.uint8)
    names: dict[str, object] = {
        "memcpy_fast": memcpy_fast,
        "copyto": np.copyto,
        "dst": dst,
        "src": src,
        "dst_view": memoryview(dst),
        "src_view": memoryview(src),
        "dst_bytes": bytearray(dst),
        "src_bytes": bytes(src),
    }
    statements = [
        ("dst_view[:] = src_view", "memoryview slice"),
        ("memcpy_fast(dst, src)", "arrays"),
        ("memcpy_fast(dst_bytes, src_bytes)", "bytearray and bytes"),
        ("memcpy_fast(dst_view, src_view)", "memoryviews"),
        ("copyto(dst, src)", "arrays"),
        ("dst[:] = src", "arrays"),
    ]
    if size >= MIB:
        statements += [
            ("memcpy_fast(dst, src, hint='stream')", "arrays"),
            ("memcpy_fast(dst, src, threads=0)", "arrays, a thread for each CPU"),
        ]
    rows = [Contestant.of_statement(text, text, names, 1, note) for text, note in statements]
    rounds, sample = (5, 0.01) if quick else (21, 0.05)
    timings = race(rows, rounds=rounds, sample_seconds=sample)
    check(dst, src, lambda: memcpy_fast(dst, src))
    return timings


def check(dst: np.ndarray, src: np.ndarray, copy: Callable[[], None]) -> None:
    """A copy that was timed is one."""
    memset_fast(dst, 0)
    copy()
    np.testing.assert_array_equal(dst, src)


def strided(quick: bool) -> list[Timing]:
    """Arrays whose elements do not lie side by side."""
    grid = np.arange(2048 * 2048, dtype=np.float64).reshape(2048, 2048)
    cases = {"every second column": grid[:, ::2], "transposed": grid.T, "reversed": grid[::-1, ::-1]}
    rows = []
    for name, src in cases.items():
        dst = np.zeros(src.shape)
        memcpy_fast(dst, src)
        np.testing.assert_array_equal(dst, src)
        values: dict[str, object] = {"memcpy_fast": memcpy_fast, "copyto": np.copyto, "dst": dst, "src": src}
        rows.append(Contestant.of_statement(f"copyto, {name}", "copyto(dst, src)", values, 1))
        rows.append(Contestant.of_statement(f"memcpy_fast, {name}", "memcpy_fast(dst, src)", values, 1))
    return race(rows, rounds=5 if quick else 11, sample_seconds=0.05)


def main() -> None:
    """Measure the C++ program, then copies from Python."""
    options = results.options(__doc__ or "")
    section = results.Section("simd-memcpy", "Copies of memory", options.quick, ("numpy", "vm_mem"), INTRO)
    programs = google_benchmark.build(ROOT / "build" / "bench", "bench_simd_memcpy")
    program = next(p for p in programs if p.name == "bench_simd_memcpy")
    times = {name: found.times for name, found in google_benchmark.measure(program, options.quick).items()}
    section.data["bench_simd_memcpy"] = times
    plan = CopyPlan.detect()
    machine = f"{' '.join(platform.libc_ver())}; copies use {simd_feature_name()}; {plan}."
    section.add("What is compared", f"{machine}\n\n{limit_text(times)}\n\n{losing_text(times)}")
    for kind in ("mixed", *FIXED):
        section.add(f"C++, {kind.replace('_', ' ')}", "\n".join(copy_rows(times, kind)))
    section.add("C++, every method", "\n".join(method_rows(times)))
    if shutil.which("valgrind"):
        section.add("C++, instructions of a small copy", "\n".join(count_rows(program)))
    section.targets += copy_targets(times)
    for size in (64, 4 * KIB, 64 * KIB, MIB, 128 * MIB):
        timings = pairs(size, options.quick)
        section.add(f"From Python, {size:,} bytes", results.timing_table(timings), timings)
        found = {timing.name: timing for timing in timings}
        if size == 64:
            for name in (
                "memcpy_fast(dst, src)",
                "memcpy_fast(dst_bytes, src_bytes)",
                "memcpy_fast(dst_view, src_view)",
            ):
                section.targets.append(Target(f"64 bytes, {name}: time as a part of a slice's", found[name].ratio, 1.0))
        if size == 128 * MIB:
            ratio = found["copyto(dst, src)"].ratio_to(found["memcpy_fast(dst, src)"])
            section.targets.append(Target("128 MiB, memcpy_fast: x np.copyto", ratio, 1.6, True))
    timings = strided(options.quick)
    section.add("From Python, arrays of 2048 x 2048 numbers", results.timing_table(timings), timings)
    section.write(options.output)


if __name__ == "__main__":
    main()
