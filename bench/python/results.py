"""Write measurements down: a section of bench/RESULTS.md for people, a JSON file for programs.

A section replaces only itself, so that one benchmark can be repeated without the others. Every row that was measured is
written, the losing ones too.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.python import machine
from bench.python.harness import Timing, quartiles

__all__ = ["ROOT", "Section", "Target", "options", "timing_table"]

ROOT = Path(__file__).resolve().parents[2]
PRODUCTS = ROOT / "build" / "bench-results"
HEADER = """# Results

Written by `python bench/run.py`; not edited by hand. Each section says when and on what it was measured. Compare ratios
within a table, not times between sections. What is measured and how: [README.md](README.md).
"""


@dataclass(frozen=True)
class Target:
    """A figure that was promised: `measured` has to be at most (or at least) `limit`."""

    claim: str
    measured: float
    limit: float
    at_least: bool = False
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the promise holds in this run."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def line(self) -> str:
        """One line for the reader."""
        relation = "at least" if self.at_least else "at most"
        verdict = "met" if self.met else "**missed**"
        limit = f"{relation} {_number(self.limit)}{self.unit}"
        return f"- {self.claim}: {_number(self.measured)}{self.unit} ({limit}): {verdict}"


@dataclass
class Section:
    """What one benchmark has to say. Make it before measuring: it notes the load of the machine."""

    name: str
    title: str
    quick: bool
    packages: tuple[str, ...] = ()
    intro: str = ""
    parts: list[str] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    data: dict[str, object] = field(default_factory=dict)
    load_at_start: float = field(default_factory=machine.load_average)

    def add(self, heading: str, body: str, timings: Sequence[Timing] = ()) -> None:
        """Append a part, print it, and keep the samples of its timings for the JSON file."""
        part = f"### {heading}\n\n{body}\n" if heading else f"{body}\n"
        print("\n" + part, flush=True)
        self.parts.append(part)
        if timings:
            self.data[heading] = [asdict(t) | {"median_ns": t.median_ns, "ratio": t.ratio} for t in timings]

    def write(self, results: Path) -> None:
        """Replace this section of `results`, and write the samples beside the other build products."""
        found = machine.facts(*self.packages)
        when = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        load = f"load average {self.load_at_start:.2f} at the start, {machine.load_average():.2f} at the end"
        facts = "; ".join(f"{key} {value}" for key, value in found.items())
        hint = "\n**Quick run: too short to quote.**\n" if self.quick else ""
        body = [f"## {self.title}\n{hint}", f"{when}; {load}; {facts}.\n", *([self.intro + "\n"] if self.intro else [])]
        if self.targets:
            body.append("\n".join(t.line() for t in self.targets) + "\n")
            print("\n".join(t.line() for t in self.targets), flush=True)
        _replace(results, self.name, "\n".join([*body, *self.parts]))
        PRODUCTS.mkdir(parents=True, exist_ok=True)
        record = {"facts": found, "when": when, "load_at_start": self.load_at_start, "quick": self.quick}
        record["targets"] = [asdict(t) | {"met": t.met} for t in self.targets]
        (PRODUCTS / f"{self.name}.json").write_text(json.dumps(record | {"measurements": self.data}, indent=1) + "\n")


def timing_table(timings: Iterable[Timing]) -> str:
    """Time per item (median, least, quartiles), ratio to the baseline (median, quartiles), millions a second."""
    lines = ["| | ns | least | quartiles | x baseline | quartiles | M/s | includes |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|---|")
    for t in timings:
        (low, high), (less, more) = quartiles(t.ns), quartiles(t.ratios)
        cells = [t.name, _number(t.median_ns), _number(min(t.ns)), f"{_number(low)} to {_number(high)}"]
        cells += [_number(t.ratio), f"{_number(less)} to {_number(more)}", _number(1e3 / t.median_ns)]
        lines.append("| " + " | ".join([*cells, t.note]) + " |")
    return "\n".join(lines)


def options(description: str) -> argparse.Namespace:
    """The command line that every benchmark has: --quick and --output."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it works; not for quoting")
    parser.add_argument("--output", type=Path, help="Markdown file (default: bench/RESULTS.md; quick runs: build/)")
    chosen = parser.parse_args()
    chosen.output = chosen.output or (PRODUCTS / "QUICK.md" if chosen.quick else ROOT / "bench" / "RESULTS.md")
    return chosen


def _number(value: float) -> str:
    """Three significant digits, no exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3g}"


def _replace(path: Path, name: str, body: str) -> None:
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n{body.rstrip()}\n{end}\n"
    text = path.read_text() if path.exists() else HEADER
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end) + "\n", re.DOTALL)
    text = pattern.sub(lambda _: section, text) if pattern.search(text) else f"{text}\n{section}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
