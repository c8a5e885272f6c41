"""AsyncMmu: what a hit costs in a coroutine, and how many coalesced faults are served in a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import numpy as np
from vm_core import PageFault
from vm_mem import AsyncMmu, GuestMemory, Mmu
from vm_mem.paging import X86

from bench.python import results
from bench.python.harness import Contestant, race

INTRO = """\
A batch is 1,000,000 addresses that all hit. For the faults, many coroutines ask at once for addresses in pages that
are not mapped; a coroutine handler maps one page and everybody who waits for that page goes on. The handler waits for
one turn of the event loop and does nothing else, so that the rows show the machinery."""

PAGE = 4096
BATCH = 1_000_000
WITHIN = 1.5


def mapped_mmu(pages: int) -> Mmu:
    """An Mmu that maps `pages` pages at 1 GiB."""
    mmu = Mmu(GuestMemory.anonymous(256 << 20), X86(root=0x1000))
    mmu.map(1 << 30, 1 << 20, pages * PAGE, page_size=PAGE)
    return mmu


def timed(loop: asyncio.AbstractEventLoop, work: Callable[[], Awaitable[object]]) -> Callable[[int], float]:
    """A harness loop that awaits `work()` so many times inside one event loop."""

    async def repeat(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            await work()
        return time.perf_counter() - start

    return lambda count: loop.run_until_complete(repeat(count))


def hits(quick: bool) -> list[Contestant]:
    """The same array through Mmu.translate and through AsyncMmu.translate_batch; single hits beside them."""
    mmu = mapped_mmu(1 << 14)
    rng = np.random.default_rng(1)
    vaddrs = (1 << 30) + rng.integers(0, (1 << 14) * PAGE, BATCH // (10 if quick else 1), np.uint64)
    amu = AsyncMmu(mmu)
    loop = asyncio.new_event_loop()
    address = int(vaddrs[0])
    return [
        Contestant.of_call("Mmu.translate(array)", lambda: mmu.translate(vaddrs), vaddrs.size, "no coroutine"),
        Contestant(
            "AsyncMmu.translate_batch(array)",
            timed(loop, lambda: amu.translate_batch(vaddrs)),
            vaddrs.size,
            "awaited in one event loop",
        ),
        Contestant.of_call("Mmu.translate(int)", lambda: mmu.translate(address), 1, "one address"),
        Contestant("AsyncMmu.translate_async(int)", timed(loop, lambda: amu.translate_async(address)), 1, "awaited"),
    ]


async def serve(translations: int, per_page: int) -> tuple[float, int]:
    """Seconds, and handler calls, for so many translations that fault together."""
    mmu = Mmu(GuestMemory.anonymous(256 << 20), X86(root=0x1000))

    async def handler(fault: PageFault) -> None:
        await asyncio.sleep(0)
        mmu.map_page(fault.vaddr & ~(PAGE - 1), 1 << 20)

    amu = AsyncMmu(mmu, handler)
    start = time.perf_counter()
    await asyncio.gather(
        *(amu.translate_async((1 << 30) + i // per_page * PAGE + i % per_page) for i in range(translations))
    )
    return time.perf_counter() - start, amu.stats.served


def fault_table(quick: bool) -> str:
    """Median of three runs for each way of sharing pages."""
    total = 2_000 if quick else 100_000
    lines = ["| translations that fault at once | pages | translations a second | handler calls |", "|--:|--:|--:|--:|"]
    for per_page in (1, 10, 100):
        runs = sorted(asyncio.run(serve(total, per_page)) for _ in range(3))
        seconds, served = runs[1]
        lines.append(f"| {total:,} | {total // per_page:,} | {total / seconds:,.0f} | {served:,} |")
    return "\n".join(lines)


def main() -> None:
    """Measure hits, then faults."""
    options = results.options(__doc__ or "")
    section = results.Section("async-mmu", "The MMU in asyncio", options.quick, ("numpy", "vm_mem"), INTRO)
    rounds, sample = (3, 0.01) if options.quick else (15, 0.05)
    timings = race(hits(options.quick), rounds=rounds, sample_seconds=sample)
    section.add("Hits", results.timing_table(timings), timings)
    found = {timing.name: timing for timing in timings}
    ratio = found["AsyncMmu.translate_batch(array)"].ratio_to(found["Mmu.translate(array)"])
    section.targets.append(results.Target("translate_batch, time as a part of the call without asyncio", ratio, WITHIN))
    section.add("Faults", fault_table(options.quick))
    section.write(options.output)


if __name__ == "__main__":
    main()
