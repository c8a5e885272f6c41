"""Run the C++ benchmarks (bench/cpp, Google Benchmark) and put their tables beside the others."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

from bench.python import results
from bench.python.results import ROOT

INTRO = """\
The library's C++ interface, without Python, all of it compiled with -O3 as CMake's Release says. Medians of the
repetitions, which Google Benchmark interleaves at random, of processor time; ratios are to `naive_unchecked` or
`bare_ioctl` of the same case where a program has one. Cases: /0 to /3 are A to D; ring0 and ring3 are the privilege of
a guest that writes to a port."""

BASELINES = ("naive_unchecked", "bare_ioctl")
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


def measure(program: Path, quick: bool) -> dict[str, list[float]]:
    """Run one program; nanoseconds per item of every repetition, by benchmark, baselines first.

    What skipped has no times.
    """
    length = ["--benchmark_min_time=0.01", "--benchmark_repetitions=3"]
    if not quick:
        length = ["--benchmark_min_time=0.1", "--benchmark_repetitions=9"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        report = [f"--benchmark_out={out}", "--benchmark_out_format=json"]
        subprocess.run([program, *length, "--benchmark_enable_random_interleaving=true", *report], check=True)
        rows = json.loads(out.read_text())["benchmarks"]
    times: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.get("run_type") == "iteration":
            found = times[row["run_name"]]
            if not row.get("error_occurred"):
                found.append(_ns_per_item(row))
    return dict(
        sorted(times.items(), key=lambda item: (_argument(item[0]), not item[0].startswith(BASELINES), item[0]))
    )


def _ns_per_item(row: dict[str, float]) -> float:
    if row.get("items_per_second"):
        return 1e9 / row["items_per_second"]
    return row["real_time"] * {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}[str(row["time_unit"])]


def _argument(name: str) -> str:
    """The case that a benchmark was given: the last part of its name."""
    return name.rpartition("/")[2]


def table(times: dict[str, list[float]]) -> str:
    """One row a benchmark, ratios to the baseline with the same arguments."""
    lines = ["| | ns per item | least to most | x baseline |", "|---|--:|--:|--:|"]
    for name, found in times.items():
        if not found:
            lines.append(f"| {name} | not available here | | |")
            continue
        base = next(filter(None, (times.get(f"{baseline}/{_argument(name)}") for baseline in BASELINES)), None)
        ratio = f"{statistics.median(found) / statistics.median(base):.2f}" if base else ""
        cells = [name, f"{statistics.median(found):.2f}", f"{min(found):.2f} to {max(found):.2f}", ratio]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Build and run all programs."""
    options = results.options(__doc__ or "")
    section = results.Section("cpp", "C++ (Google Benchmark)", options.quick, (), INTRO)
    for program in build(ROOT / "build" / "bench"):
        if program.name in ELSEWHERE:
            continue
        times = measure(program, options.quick)
        section.add(program.name, table(times))
        section.data[program.name] = times
    section.write(options.output)


if __name__ == "__main__":
    main()
