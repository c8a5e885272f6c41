"""Run the C++ benchmarks (bench/cpp, Google Benchmark) and put their tables beside the others."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.python import results
from bench.python.results import ROOT

INTRO = """\
The library's C++ interface, without Python, all of it compiled with -O3 as CMake's Release says. Medians of the
repetitions, which Google Benchmark interleaves at random, of processor time; ratios are to `naive_unchecked`,
`bare_ioctl`, `bare_mbind` or `bare_move_pages` of the same case where a program has one. Cases: /0 to /3 are A to D;
ring0 and ring3 are the privilege of a guest that writes to a port."""

BASELINES = ("naive_unchecked", "bare_ioctl", "bare_mbind", "bare_move_pages")
ELSEWHERE = ("bench_simd_memcpy",)
"""Programs with a section of their own."""


def build(tree: Path, *targets: str) -> list[Path]:
    """Configure and build the benchmark programs, or these targets; return what is there."""
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DVM_BUILD_BENCHMARKS=ON", "-DVM_BUILD_TESTS=OFF"]
    ninja = shutil.which("ninja")
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
    subprocess.run(["cmake", "-S", str(ROOT), "-B", str(tree), *generator, *options], check=True)
    jobs = str(len(os.sched_getaffinity(0)))
    subprocess.run(["cmake", "--build", str(tree), "--parallel", jobs, *(f"--target={t}" for t in targets)], check=True)
    return sorted(file for file in (tree / "bench").iterdir() if file.is_file())


# What Google Benchmark says of a run itself; every other number in a row is a counter of ours.
OWN_NUMBERS = {"real_time", "cpu_time", "items_per_second", "bytes_per_second", "iterations", "threads"}
OWN_NUMBERS |= {"repetitions", "repetition_index", "family_index", "per_family_instance_index"}


@dataclass
class Found:
    """What the repetitions of one benchmark gave; nothing when it skipped."""

    times: list[float] = field(default_factory=list)  # nanoseconds per item
    counters: dict[str, list[float]] = field(default_factory=dict)


def measure(program: Path, quick: bool) -> dict[str, Found]:
    """Run one program; what it found by benchmark, baselines first."""
    length = ["--benchmark_min_time=0.01", "--benchmark_repetitions=3"]
    if not quick:
        length = ["--benchmark_min_time=0.1", "--benchmark_repetitions=9"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        report = [f"--benchmark_out={out}", "--benchmark_out_format=json"]
        subprocess.run([program, *length, "--benchmark_enable_random_interleaving=true", *report], check=True)
        rows = json.loads(out.read_text())["benchmarks"]
    benchmarks: dict[str, Found] = defaultdict(Found)
    for row in rows:
        if row.get("run_type") == "iteration":
            found = benchmarks[row["run_name"]]
            if not row.get("error_occurred"):
                found.times.append(_ns_per_item(row))
                for name, value in row.items():
                    if name not in OWN_NUMBERS and isinstance(value, (int, float)):
                        found.counters.setdefault(name, []).append(value)
    return dict(
        sorted(benchmarks.items(), key=lambda item: (_argument(item[0]), not item[0].startswith(BASELINES), item[0]))
    )


def _ns_per_item(row: dict[str, float]) -> float:
    if row.get("items_per_second"):
        return 1e9 / row["items_per_second"]
    return row["real_time"] * {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}[str(row["time_unit"])]


def _argument(name: str) -> str:
    """The case that a benchmark was given: the last part of its name."""
    return name.rpartition("/")[2]


def table(benchmarks: dict[str, Found]) -> str:
    """One row a benchmark, ratios to the baseline with the same arguments; medians of the program's own counters."""
    lines = ["| | ns per item | least to most | x baseline | counted |", "|---|--:|--:|--:|---|"]
    for name, found in benchmarks.items():
        if not found.times:
            lines.append(f"| {name} | not available here | | | |")
            continue
        baselines = (benchmarks.get(f"{baseline}/{_argument(name)}", Found()).times for baseline in BASELINES)
        base = next(filter(None, baselines), None)
        ratio = f"{statistics.median(found.times) / statistics.median(base):.2f}" if base else ""
        counted = ", ".join(f"{key} {statistics.median(values):,.6g}" for key, values in found.counters.items())
        times = [f"{statistics.median(found.times):.2f}", f"{min(found.times):.2f} to {max(found.times):.2f}"]
        lines.append("| " + " | ".join([name, *times, ratio, counted]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Build and run all programs."""
    options = results.options(__doc__ or "")
    section = results.Section("cpp", "C++ (Google Benchmark)", options.quick, (), INTRO)
    for program in build(ROOT / "build" / "bench"):
        if program.name in ELSEWHERE:
            continue
        benchmarks = measure(program, options.quick)
        section.add(program.name, table(benchmarks))
        section.data[program.name] = {name: asdict(found) for name, found in benchmarks.items()}
    section.write(options.output)


if __name__ == "__main__":
    main()
