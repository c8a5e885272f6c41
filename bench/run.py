#!/usr/bin/env python3
"""Build what the benchmarks need, run them, and write bench/RESULTS.md.

`python bench/run.py` runs everything; `--section NAME` (again and again) only some; `--quick` only sees whether it
works and writes build/bench-results/QUICK.md instead. The three packages and bench/requirements.txt have to be
installed; `nox -s bench` does that first.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Each section is a program of its own, so that none inherits another's memory.
SECTIONS = {
    "mem-paging": "bench.python.mem.paging",
    "mem-scalar": "bench.python.mem.scalar",
    "mem-prefetch": "bench.python.mem.prefetch",
    "mmu-translate": "bench.python.mem.mmu_translate",
    "mem-pages": "bench.python.mem.pages",
    "async-mmu": "bench.python.mem.async_mmu_performance",
    "simd-memcpy": "bench.python.mem.simd_memcpy",
    "mem-optimizer": "bench.python.mem.optimizer",
    "mem-alloc": "bench.python.mem.alloc",
    "accel-exits": "bench.python.accel.exits",
    "startup": "bench.python.startup",
    "peers-translate": "bench.peers.translate",
    "cpp": "bench.python.google_benchmark",
}


def main() -> int:
    """Run the chosen sections; the exit status says whether all of them ran."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it works; not for quoting")
    parser.add_argument("--section", action="append", choices=SECTIONS, help="only this one; may be repeated")
    parser.add_argument("--output", type=Path, help="Markdown file (default: bench/RESULTS.md; quick runs: build/)")
    options = parser.parse_args()
    chosen = options.section or list(SECTIONS)
    if chosen != ["cpp"]:
        missing = [name for name in ("vm_core", "vm_mem", "numpy", "pybind11") if not importlib.util.find_spec(name)]
        if missing:
            sys.exit(
                f"{', '.join(missing)} not installed here: pip install ./packages/vm_core ./packages/vm_mem "
                "./packages/vm_accel -r bench/requirements.txt, or run nox -s bench"
            )
    passed = ["--quick"] if options.quick else []
    passed += ["--output", str(options.output.resolve())] if options.output else []
    failed = []
    for name in chosen:
        print(f"\n=== {name} ===", flush=True)
        done = subprocess.run([sys.executable, "-m", SECTIONS[name], *passed], cwd=ROOT, check=False)
        if done.returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
