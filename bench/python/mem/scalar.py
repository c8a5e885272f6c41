"""AddressSpace.translate(int) beside a pybind11 function that does nothing, and beside other things Python can do."""

from __future__ import annotations

import numpy as np
from vm_core import Access
from vm_mem import GuestMemory
from vm_mem.paging import X86, AddressSpace

from bench.python import native, results
from bench.python.harness import Contestant, race
from bench.python.mem.images import CASES, ROOT_TABLE, fill_tables

INTRO = """\
Each row is one Python statement in the loop that times it, so every row contains the same few nanoseconds of
loop. The names are as written: `space.translate` is looked up each time. The no-op is a pybind11 function compiled for
this run. The promise reads: at most 150 ns where the no-op takes about 60; on a machine of another speed the ratio says
the same."""

NOOP, SCALAR = "noop.noop()", "space.translate(address)"


def main() -> None:
    """Measure single calls."""
    options = results.options(__doc__ or "")
    section = results.Section(
        "mem-scalar", "One address at a time", options.quick, ("numpy", "pybind11", "vm_mem"), INTRO
    )
    case = CASES["A"]
    memory = GuestMemory.anonymous(case.memory)
    addresses = fill_tables(case, memory.view(0, case.memory, "u8"))
    space = AddressSpace(memory, X86(levels=4, root=ROOT_TABLE))
    noop = native.python_module("noop")
    several = addresses.virtual[:1000].tolist()
    expected = addresses.physical[:1000].tolist()
    if [space.translate(v, access=Access.WRITE, user=True).paddr for v in several] != expected:
        raise AssertionError("wrong translations")
    names: dict[str, object] = {
        "noop": noop,
        "nothing": noop.Nothing(),
        "space": space,
        "address": several[0],
        "several": several,
        "hit": space.translate(several[0]),
        "WRITE": Access.WRITE,
        "one": np.asarray(several[:1], np.uint64),
    }
    statements = [
        (NOOP, 1, "pybind11, no argument"),
        ("nothing.nothing(address)", 1, "pybind11, method with one int"),
        (SCALAR, 1, "the same address each time"),
        ("space.translate(address).paddr", 1, "and the physical address as int"),
        ("space.translate(address, access=WRITE, user=True)", 1, "two keyword arguments"),
        ("for a in several: space.translate(a)", len(several), "1,000 random addresses of case A in turn"),
        ("hit.paddr", 1, "reading a result"),
        ("space.translate(one)", 1, "an array of one address"),
    ]
    rows = [Contestant.of_statement(s, s, names, items, note) for s, items, note in statements]
    rounds, sample = (5, 0.01) if options.quick else (31, 0.05)
    timings = race(rows, rounds=rounds, sample_seconds=sample, baseline=NOOP)
    section.add("", results.timing_table(timings), timings)
    median = {t.name: t for t in timings}
    section.targets = [
        results.Target("a scalar translate(int)", median[SCALAR].median_ns, 150, unit=" ns"),
        results.Target("the same as a multiple of the no-op's time", median[SCALAR].ratio, 150 / 60),
    ]
    section.write(options.output)


if __name__ == "__main__":
    main()
