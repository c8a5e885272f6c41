"""Mmu.translate against the batch walker alone, on uniform and on skewed addresses, and one address at a time.

The walker (AddressSpace.translate) keeps nothing between calls. The Mmu looks at a sample of each batch and goes
through its TLB or around it; both answers are compared before anything is timed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from vm_mem import GuestMemory, Mmu
from vm_mem.paging import X86, AddressSpace
from vm_mem.tlb import TlbConfig

from bench.python import results
from bench.python.harness import Contestant, Timing, race
from bench.python.mem.images import CASES, PAGE, ROOT_TABLE, Case, fill_tables

INTRO = """\
One thread, arrays of 1,048,576 addresses from Python, all permission checks. Uniform: every mapped page is equally
likely. Zipf: the page of rank r has weight r^-s, ranks dealt out at random over the mapped pages. The same addresses
are translated again and again, so that a TLB holds what it can hold. Ratios are to the batch walker."""

WALKER = "AddressSpace.translate"
COUNT = 1 << 20
NOT_SLOWER, FASTER = 1.1, 1.0
CONFIGS = {
    "Mmu, multi_level, 64 / 512 / 4096": TlbConfig(),
    "Mmu, concurrent, 16384": TlbConfig(strategy="concurrent", l3_size=16384),
    "Mmu, hybrid, 256 / 16384": TlbConfig(strategy="hybrid", l1_size=256, l3_size=16384),
}
SKEWS = {"uniform": 0.0, "Zipf s=1.0": 1.0, "Zipf s=1.2": 1.2}

Words = npt.NDArray[np.uint64]


def draw(pages: Words, skew: float, count: int, seed: int = 1) -> Words:
    """`count` addresses in `pages`."""
    rng = np.random.default_rng(seed)
    if skew == 0:
        chosen = pages[rng.integers(0, pages.size, count)]
    else:
        cumulated = np.cumsum(np.arange(1, pages.size + 1, dtype=float) ** -skew)
        ranks = np.searchsorted(cumulated, rng.random(count) * cumulated[-1])
        chosen = rng.permutation(pages)[ranks]
    return np.asarray(chosen * np.uint64(PAGE) + rng.integers(0, PAGE, count, np.uint64), np.uint64)


def contestants(memory: GuestMemory, vaddrs: Words) -> Iterator[Contestant]:
    """The walker and one Mmu of each kind, warm."""
    config = X86(levels=4, root=ROOT_TABLE)
    space = AddressSpace(memory, config)
    right = space.translate(vaddrs)
    yield Contestant.of_call(WALKER, lambda: space.translate(vaddrs), vaddrs.size, "keeps nothing between calls")
    for name, tlb in CONFIGS.items():
        mmu = Mmu(memory, config, tlb=tlb)
        for _ in range(40):
            answer = mmu.translate(vaddrs)
        for _ in range(2):
            answer = mmu.translate(vaddrs)
            np.testing.assert_array_equal(answer.paddr, right.paddr)
            np.testing.assert_array_equal(answer.fault, right.fault)
        before = mmu.stats
        for _ in range(8):
            mmu.translate(vaddrs)
        after = mmu.stats
        looked_up = after.arrays.lookups - before.arrays.lookups
        hits = (after.arrays.hits - before.arrays.hits) / max(looked_up, 1)
        through = looked_up / (looked_up + after.bypassed - before.bypassed)
        note = f"{through:.0%} through the TLB, when warm" + (f"; {hits:.0%} of that hit" if looked_up else "")
        yield Contestant.of_call(name, lambda mmu=mmu: mmu.translate(vaddrs), vaddrs.size, note)


def scalar_contestants(memory: GuestMemory, vaddrs: Words) -> Iterator[Contestant]:
    """One address at a time from a Python loop: 64 pages that the first level holds."""
    config = X86(levels=4, root=ROOT_TABLE)
    few = vaddrs[:1] // np.uint64(PAGE) * np.uint64(PAGE) + np.arange(64, dtype=np.uint64)
    addresses = few.tolist()
    space = AddressSpace(memory, config)

    def loop(translate: object) -> object:
        return lambda: [translate(address) for address in addresses]  # type: ignore[operator]

    yield Contestant.of_call(WALKER, loop(space.translate), len(addresses), "one int, a Python loop")  # type: ignore[arg-type]
    for name, tlb in CONFIGS.items():
        mmu = Mmu(memory, config, tlb=tlb)
        yield Contestant.of_call(name, loop(mmu.translate), len(addresses), "the same; hits")  # type: ignore[arg-type]


def image(case: Case) -> tuple[GuestMemory, Words]:
    """The case's tables in guest memory, and its mapped pages."""
    size = -(-case.tables // (2 << 20)) * (2 << 20)
    memory = GuestMemory.anonymous(size)
    addresses = fill_tables(case, memory.view(0, size, "u8"))
    return memory, np.unique(addresses.virtual // np.uint64(PAGE))


def promises(letter: str, skew: str, timings: list[Timing]) -> Iterator[results.Target]:
    """Uniform: never slower than 1.1 times the walker. Skewed over large tables: the best Mmu is faster."""
    others = [timing for timing in timings if timing.name != WALKER]
    if SKEWS[skew] == 0:
        for timing in others:
            yield results.Target(f"case {letter}, uniform, {timing.name}", timing.ratio, NOT_SLOWER)
    elif letter in "CD":
        best = min(others, key=lambda timing: timing.ratio)
        yield results.Target(f"case {letter}, {skew}, the fastest ({best.name})", best.ratio, FASTER)


def main() -> None:
    """Measure all cases and skews."""
    options = results.options(__doc__ or "")
    section = results.Section("mmu-translate", "Translation through the MMU", options.quick, ("numpy", "vm_mem"), INTRO)
    rounds, sample = (5, 0.01) if options.quick else (15, 0.05)
    for letter, case in CASES.items():
        memory, pages = image(case)
        for skew, s in SKEWS.items():
            timings = race(list(contestants(memory, draw(pages, s, COUNT))), rounds=rounds, sample_seconds=sample)
            section.add(f"{letter}: {case.name}; {skew}", results.timing_table(timings), timings)
            section.targets += promises(letter, skew, timings)
        if letter == "A":
            timings = race(
                list(scalar_contestants(memory, draw(pages, 0, COUNT))), rounds=rounds, sample_seconds=sample
            )
            section.add("A: one address at a time", results.timing_table(timings), timings)
    section.write(options.output)


if __name__ == "__main__":
    main()
