"""AddressSpace.translate(array) with every permission check, against the naive unchecked loop in C++.

Both read the same memory. The baseline writes into an array that exists; translate() allocates its results, so the
baseline is there a second time with a fresh array for each call.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from vm_core import Access, NotSupported
from vm_mem import GuestMemory
from vm_mem.paging import X86, AddressSpace, TranslationArray

from bench.python import native, results
from bench.python.harness import Contestant, Timing, race
from bench.python.mem.images import CASES, PAGE, ROOT_TABLE, Addresses, Case, fill_tables

INTRO = """\
One thread unless the row says otherwise; every row of a table reads the same guest memory and translates the same
random addresses, and all answers were compared before anything was timed. The naive loop is C++, called once per
batch, and checks bounds and present bits only. `translate` is called from Python with every permission check and
returns its results in fresh arrays; `READ` asks as supervisor, `WRITE, user` as user code. The promises refer to the
naive loop compiled with -O2; the same limits against -O3 are shown beside them."""

# The times that were promised for the checked batch, as parts of the naive loop's.
PROMISES = {"A": 0.9, "C": 0.35, "D": 0.35}
# How the guest memory is backed, and what GuestMemory.anonymous calls that.
BACKINGS: dict[str, Literal["auto"] | None] = {"4 KiB host pages": None, "transparent huge pages, the default": "auto"}
ENGINES = ("walk", "leaf_cache", "group_prefetch", "avx2", "avx512")
NAIVE, UNROLLED = "naive loop, -O2", "naive loop, -O3"
CHECKED, CHECKED_USER = "translate, READ", "translate, WRITE, user"

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Bench:
    """One case in one kind of memory."""

    memory: GuestMemory
    space: AddressSpace
    addresses: Addresses

    def naive(self, optimization: str) -> Callable[[Words], None]:
        """The baseline, bound to the same bytes and addresses; its argument receives the results."""
        walk = native.library("naive_walk", optimization).naive_walk
        walk.restype = None
        walk.argtypes = [ctypes.c_void_p, *[ctypes.c_uint64] * 2, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        view, virtual = self.memory.view(0, self.memory.size), self.addresses.virtual

        def run(out: Words) -> None:
            walk(view.ctypes.data, view.size, ROOT_TABLE, virtual.ctypes.data, virtual.size, out.ctypes.data)

        return run


def prepare(case: Case, huge_pages: Literal["auto"] | None) -> Bench:
    """Build the tables in anonymous guest memory."""
    size = -(-case.tables // (2 << 20)) * (2 << 20)
    memory = GuestMemory.anonymous(size, huge_pages=huge_pages)
    addresses = fill_tables(case, memory.view(0, size, "u8"))
    return Bench(memory, AddressSpace(memory, X86(levels=4, root=ROOT_TABLE)), addresses)


def contestants(bench: Bench) -> Iterator[Contestant]:
    """Every way of translating the batch, each proved right before it may run."""
    virtual, physical = bench.addresses.virtual, bench.addresses.physical
    out = np.zeros_like(virtual)
    count = virtual.size

    def unchecked(name: str, optimization: str, note: str) -> Contestant:
        out[:] = 0
        job = partial(bench.naive(optimization), out)
        job()
        np.testing.assert_array_equal(out, physical)
        return Contestant.of_call(name, job, count, note)

    yield unchecked(NAIVE, "-O2", "physical addresses into an array in use")
    yield unchecked(UNROLLED, "-O3", "the same, the levels unrolled by the compiler")
    naive = bench.naive("-O2")
    yield Contestant.of_call(
        "naive loop, -O2, fresh array", lambda: naive(np.empty_like(out)), count, "and a new array"
    )

    def checked(name: str, note: str, **arguments: Any) -> Contestant:
        def job() -> TranslationArray:
            return bench.space.translate(virtual, **arguments)

        answer = job()
        np.testing.assert_array_equal(answer.paddr, physical)
        if not answer.ok.all() or not (answer.page_size == PAGE).all():
            raise AssertionError(f"{name}: wrong results")
        return Contestant.of_call(name, job, count, note)

    chosen = bench.space.choose_engine(virtual)
    yield checked(CHECKED, f"engine auto = {chosen}")
    yield checked(CHECKED_USER, "engine auto", access=Access.WRITE, user=True)
    yield checked("translate, NONE", "look-up without permission checks", access=Access.NONE)
    for engine in ENGINES:
        try:
            yield checked(f"translate, READ, {engine}", "", engine=engine)
        except NotSupported as error:
            print(f"engine {engine} left out: {error}", flush=True)
    if len(os.sched_getaffinity(0)) > 1:
        yield checked("translate, READ, threads=2", "engine auto, two threads", threads=2)


def faults_touched(bench: Bench) -> str:
    """Name what one call costs besides translating: pages the kernel had to hand out."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    calls = 5
    for _ in range(calls):
        bench.space.translate(bench.addresses.virtual)
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / calls
    return f"Page faults per translate() call, for its result arrays: {taken:,.0f}."


def main() -> None:
    """Measure cases A to D in both kinds of memory."""
    options = results.options(__doc__ or "")
    section = results.Section("mem-paging", "Batch translation from Python", options.quick, ("numpy", "vm_mem"), INTRO)
    for letter, case in CASES.items():
        for backing, huge_pages in BACKINGS.items():
            bench = prepare(case, huge_pages)
            rounds, sample = (5, 0.01) if options.quick else (21, 0.1)
            timings = race(list(contestants(bench)), rounds=rounds, sample_seconds=sample)
            table = results.timing_table(timings) + "\n\n" + faults_touched(bench)
            section.add(f"{letter}: {case.name}; {case.batch:,} addresses; {backing}", table, timings)
            if letter in PROMISES:
                section.targets += promises(letter, backing, timings)
    section.write(options.output)


def promises(letter: str, backing: str, timings: list[Timing]) -> Iterator[results.Target]:
    """The promised ratio for both requests, and the same against what the compiler makes of the loop at -O3."""
    found = {timing.name: timing for timing in timings}
    for name in (CHECKED, CHECKED_USER):
        for rival in (NAIVE, UNROLLED):
            claim = f"case {letter}, {backing}, {name}: time as a part of {rival}'s"
            yield results.Target(claim, found[name].ratio_to(found[rival]), PROMISES[letter])


if __name__ == "__main__":
    main()
