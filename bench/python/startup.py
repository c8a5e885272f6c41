"""What `import vm_mem` costs in a fresh interpreter, beside `import numpy`, which it works with."""

from __future__ import annotations

import statistics
import subprocess
import sys
from functools import partial

from bench.python import results
from bench.python.harness import Contestant, race

INTRO = """\
Wall time of a whole interpreter, from its start to its end, that does nothing else; compiled bytecode and files
are in the caches of the system."""

CODES = ("import numpy", "pass", "import vm_core", "import vm_mem", "import vm_mem.paging", "import vm_accel")


def interpreter(code: str) -> None:
    """Start Python, run `code`, wait for its end."""
    subprocess.run([sys.executable, "-c", code], check=True)


def main() -> None:
    """Measure imports, interleaved."""
    options = results.options(__doc__ or "")
    packages = ("numpy", "vm_core", "vm_mem", "vm_accel")
    section = results.Section("startup", "Import", options.quick, packages, INTRO)
    rows = [Contestant.of_call(f"`{code}`", partial(interpreter, code), 1, loops=1) for code in CODES]
    for code in CODES:
        interpreter(code)
    timings = race(rows, rounds=5 if options.quick else 31, sample_seconds=0)
    median = {t.name: t for t in timings}
    lines = ["| | ms | x import numpy |", "|---|--:|--:|"]
    lines += [f"| {t.name} | {t.median_ns / 1e6:.1f} | {t.ratio:.2f} |" for t in timings]
    section.add("", "\n".join(lines), timings)
    for code in ("import vm_mem", "import vm_mem.paging"):
        more = [a - b for a, b in zip(median[f"`{code}`"].ns, median["`import numpy`"].ns, strict=True)]
        claim = f"{code}, more than import numpy (median of the differences within each round)"
        section.targets.append(results.Target(claim, statistics.median(more) / 1e6, 80, unit=" ms"))
    section.write(options.output)


if __name__ == "__main__":
    main()
