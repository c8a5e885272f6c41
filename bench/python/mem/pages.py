"""The first touch of memory, prefaulted on huge pages and otherwise; np.empty under numpy_allocator and without it."""

from __future__ import annotations

import contextvars
import mmap
import os
import time
import timeit
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from vm_mem.pages import allocate, measure, numpy_allocator

from bench.python import results
from bench.python.harness import Contestant, Timing, race

INTRO = """\
First touch: have 256 MiB of zeros, write a byte to each 4 KiB of them, give them back; the time of one page. The
baseline is a plain anonymous `mmap`, on ordinary pages. NumPy itself asks for transparent huge pages from 4 MiB on.

np.empty: make an array of bytes and free it at once, which is the best case for a `malloc` that keeps what was freed;
with `.fill(1)` also write to all of it. `numpy_allocator()` has its defaults: 64 bytes of alignment, huge pages, 256
MiB kept. The baseline is NumPy's own allocator. Both take turns in one process."""

SIZE = 256 << 20
PAGE = 4096
SMALL = (64, 1 << 10, 1 << 16)
LARGE = (1 << 20, 2 << 20, 4 << 20, 16 << 20, 64 << 20)
PROMISED = {64: 1.3} | dict.fromkeys(LARGE, 1.0)

PLAIN, PREFAULTED = "mmap", "allocate(prefault=True)"


def main() -> None:
    """Measure both."""
    options = results.options(__doc__ or "")
    section = results.Section("mem-pages", "Pages and NumPy arrays", options.quick, ("numpy", "vm_mem"), INTRO)
    _first_touch(section, rounds=3 if options.quick else 31)
    _empty(section, rounds=5 if options.quick else 31, sample=0.005 if options.quick else 0.05)
    section.write(options.output)


def _touch(array: npt.NDArray[np.uint8]) -> None:
    array[::PAGE] = 1


def _plain() -> None:
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mapping:
        _touch(np.frombuffer(mapping, np.uint8))


def _numpy() -> None:
    _touch(np.zeros(SIZE, np.uint8))


def _block(**how: object) -> Callable[[], None]:
    def job() -> None:
        with allocate(SIZE, **how) as block:  # type: ignore[arg-type]
            _touch(block.array())

    return job


def _prefaulted_before(loops: int) -> float:
    """Only the touch: the pages were there before."""
    seconds = 0.0
    for _ in range(loops):
        with allocate(SIZE, prefault=True) as block:
            array = block.array()
            begin = time.perf_counter()
            _touch(array)
            seconds += time.perf_counter() - begin
    return seconds


def _first_touch(section: results.Section, rounds: int) -> None:
    with allocate(SIZE, prefault=True) as block:
        census = block.measure()
    pages = SIZE // PAGE
    cpus = len(os.sched_getaffinity(0))
    jobs: list[tuple[str, Callable[[], None], str]] = [
        (PLAIN, _plain, "plain mmap, ordinary pages"),
        ("np.zeros", _numpy, "NumPy asks for huge pages"),
        ("allocate(huge_pages=None)", _block(huge_pages=None), "ordinary pages"),
        ("allocate()", _block(), "huge pages, not prefaulted"),
        (f"{PREFAULTED[:-1]}, threads=1)", _block(prefault=True, threads=1), "huge pages, one thread"),
        (PREFAULTED, _block(prefault=True), f"huge pages, {cpus} CPUs"),
        (f"{PREFAULTED[:-1]}, huge_pages=None)", _block(prefault=True, huge_pages=None), "ordinary pages"),
    ]
    rows = [Contestant.of_call(name, job, pages, note, loops=1) for name, job, note in jobs]
    rows.append(Contestant("touch after prefault", _prefaulted_before, pages, "the touch alone", 1))
    timings = race(rows, rounds=rounds, sample_seconds=0, baseline=PLAIN)
    found = f"Of the {SIZE >> 20} MiB, {(census.huge or 0) >> 20} MiB were in huge pages, by the kernel's word."
    section.add("First touch of 256 MiB, by page", f"{found}\n\n{results.timing_table(timings)}", timings)
    by_name = {t.name: t for t in timings}
    section.targets += [
        results.Target(
            "first touch of 256 MiB, prefaulting included, against a plain mmap: times faster",
            by_name[PLAIN].ratio_to(by_name[PREFAULTED]),
            7,
            at_least=True,
        ),
    ]


def _empty(section: results.Section, rounds: int, sample: float) -> None:
    context = contextvars.copy_context()
    manager = numpy_allocator()
    context.run(manager.__enter__)
    try:
        array = context.run(np.empty, 1 << 20, np.uint8)
        if array.ctypes.data % 64 or measure(array).mapped < array.nbytes:
            raise AssertionError("the allocator is not in use")
        del array
        for size in SMALL + LARGE:
            ours = _one_size(section, context, f"np.empty({size}, np.uint8)", rounds, sample)
            if size in PROMISED:
                claim = f"np.empty of {_words(size)} under numpy_allocator, times NumPy's own"
                section.targets.append(results.Target(claim, ours.ratio, PROMISED[size]))
        for size in LARGE:
            _one_size(section, context, f"np.empty({size}, np.uint8).fill(1)", rounds, sample)
    finally:
        context.run(manager.__exit__, None, None, None)


def _one_size(
    section: results.Section, context: contextvars.Context, statement: str, rounds: int, sample: float
) -> Timing:
    timer = timeit.Timer(statement, globals={"np": np})
    rows = [
        Contestant("NumPy", timer.timeit, 1, statement),
        Contestant("numpy_allocator", lambda loops: context.run(timer.timeit, loops), 1, statement),
    ]
    timings = race(rows, rounds=rounds, sample_seconds=sample)
    section.add(statement, results.timing_table(timings), timings)
    return timings[1]


def _words(size: int) -> str:
    return f"{size} bytes" if size < 1 << 20 else f"{size >> 20} MiB"


if __name__ == "__main__":
    main()
