"""AsyncMmu: faults served by coroutines, the way asyncio people expect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import numpy as np
import pytest
from vm_core import Access, ClosedError, InvalidConfig, PageFault
from vm_mem import AsyncMmu, GuestMemory, Mmu
from vm_mem.paging import X86

MIB = 1 << 20
RW = Access.READ | Access.WRITE
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 300))


def new_mmu() -> Mmu:
    return Mmu(GuestMemory.anonymous(64 * MIB), X86(root=0x1000))


def mapper(mmu: Mmu, calls: list[int], delay: float = 0) -> Callable[[PageFault], Awaitable[object]]:
    async def handler(fault: PageFault) -> None:
        calls.append(fault.vaddr)
        await asyncio.sleep(delay)
        mmu.map_page(fault.vaddr & ~0xFFF, fault.vaddr & 0xFFF000, RW)

    return handler


def test_a_fault_is_served_and_the_access_tried_again() -> None:
    async def main() -> None:
        mmu, calls = new_mmu(), list[int]()
        async with AsyncMmu(mmu, mapper(mmu, calls)) as amu:
            assert (await amu.translate_async(0x40005010)).paddr == 0x5010
            await amu.write(0x40006FFE, b"abcd")
            assert await amu.read(0x40006FFE, 4) == b"abcd"
            assert calls == [0x40005010, 0x40006FFE, 0x40007000]
            assert amu.stats.served == 3
            assert amu.pending_faults == 0
            assert "0 faults pending" in repr(amu)

    run(main())


def test_concurrent_faults_on_one_page_are_served_once() -> None:
    async def main() -> None:
        mmu, calls = new_mmu(), list[int]()
        amu = AsyncMmu(mmu, mapper(mmu, calls, 0.01))
        hits = await asyncio.gather(*(amu.translate_async(0x40005000 + i) for i in range(200)))
        assert [hit.paddr for hit in hits] == [0x5000 + i for i in range(200)]
        assert len(calls) == 1
        assert (amu.stats.served, amu.stats.coalesced) == (1, 199)

    run(main())


def test_a_hundred_thousand_pending_translations() -> None:
    async def main() -> None:
        mmu = new_mmu()
        gate = asyncio.Event()

        async def handler(fault: PageFault) -> None:
            await gate.wait()
            mmu.map_page(fault.vaddr & ~0xFFF, 0x5000, Access.READ)

        amu = AsyncMmu(mmu, handler, max_concurrent_faults=16)
        tasks = [asyncio.ensure_future(amu.translate_async(0x40000000 + i * 64)) for i in range(100_000)]
        await asyncio.sleep(0)
        assert amu.pending_faults == 100_000 * 64 // 4096 + 1
        gate.set()
        hits = await asyncio.gather(*tasks)
        assert all(hit.paddr == 0x5000 + i * 64 % 4096 for i, hit in enumerate(hits))
        assert amu.stats.served == 1563

    run(main())


def test_no_more_handlers_at_once_than_allowed() -> None:
    async def main() -> None:
        mmu = new_mmu()
        running = most = 0

        async def handler(fault: PageFault) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            mmu.map_page(fault.vaddr, 0x5000)
            running -= 1

        amu = AsyncMmu(mmu, handler, max_concurrent_faults=3)
        await amu.translate_batch(np.arange(50, dtype=np.uint64) * 4096 + 0x40000000)
        assert most == 3

    run(main())


def test_batches() -> None:
    async def main() -> None:
        mmu, calls = new_mmu(), list[int]()

        async def handler(fault: PageFault) -> object:
            calls.append(fault.vaddr >> 12)
            if fault.vaddr >= 0x40010000:
                return False
            mmu.map_page(fault.vaddr & ~0xFFF, fault.vaddr & 0xFFF000, RW)
            return None

        amu = AsyncMmu(mmu, handler)
        vaddrs = (0x40000000 + np.arange(40, dtype=np.uint64) * 0x800).reshape(4, 10)
        many = await amu.translate_batch(vaddrs, access=Access.WRITE)
        assert many.ok.shape == (4, 10)
        np.testing.assert_array_equal(many.ok, vaddrs < 0x40010000)
        np.testing.assert_array_equal(many.paddr[many.ok], vaddrs[many.ok] & np.uint64(0xFFFFFF))
        assert sorted(calls) == list(range(0x40000, 0x40014))
        assert amu.stats.refused == 4
        again = await amu.translate_batch(vaddrs[many.ok])
        assert again.ok.all()
        assert len(calls) == 20

    run(main())


def test_what_the_handler_raises_reaches_all_who_wait() -> None:
    async def main() -> None:
        async def handler(fault: PageFault) -> None:
            await asyncio.sleep(0)
            raise ConnectionError("the page server is gone")

        amu = AsyncMmu(new_mmu(), handler)
        results = await asyncio.gather(*(amu.translate_async(0x5000 + i) for i in range(5)), return_exceptions=True)
        assert all(isinstance(result, ConnectionError) for result in results)
        assert amu.stats.failed == 1
        assert amu.pending_faults == 0
        with pytest.raises(ConnectionError):
            await amu.translate_batch([0x5000, 0x6000])

    run(main())


def test_refusal_and_missing_handlers_raise_the_fault() -> None:
    async def main() -> None:
        async def refuse(fault: PageFault) -> bool:
            return False

        for amu in (AsyncMmu(new_mmu()), AsyncMmu(new_mmu(), refuse)):
            with pytest.raises(PageFault) as caught:
                await amu.translate_async(0x5000)
            assert caught.value.vaddr == 0x5000
            assert not (await amu.translate_batch([0x5000])).ok.any()

    run(main())


def test_a_handler_that_does_not_help_is_not_asked_for_ever() -> None:
    async def main() -> None:
        calls = 0

        async def useless(fault: PageFault) -> None:
            nonlocal calls
            calls += 1

        amu = AsyncMmu(new_mmu(), useless, max_attempts=3)
        with pytest.raises(PageFault):
            await amu.translate_async(0x5000)
        assert calls == 3
        assert not (await amu.translate_batch([0x5000])).ok.any()
        assert calls == 6

    run(main())


def test_cancelling_one_leaves_the_others() -> None:
    async def main() -> None:
        mmu, calls = new_mmu(), list[int]()
        amu = AsyncMmu(mmu, mapper(mmu, calls, 0.02))
        first = asyncio.ensure_future(amu.translate_async(0x40005000))
        second = asyncio.ensure_future(amu.translate_async(0x40005008))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).paddr == 0x5008
        with pytest.raises(asyncio.CancelledError):
            await first
        assert len(calls) == 1

    run(main())


def test_when_nobody_waits_any_more_the_handler_is_cancelled() -> None:
    async def main() -> None:
        mmu = new_mmu()
        ended = asyncio.Event()

        async def handler(fault: PageFault) -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                ended.set()

        amu = AsyncMmu(mmu, handler)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(amu.translate_async(0x5000) for _ in range(3))), 0.01)
        await asyncio.wait_for(ended.wait(), 10)
        await asyncio.sleep(0)
        assert amu.pending_faults == 0
        assert amu.stats.cancelled == 1

    run(main())


def test_closing_cancels_what_is_at_work() -> None:
    async def main() -> None:
        async def handler(fault: PageFault) -> None:
            await asyncio.sleep(3600)

        amu = AsyncMmu(new_mmu(), handler)
        waiting = asyncio.ensure_future(amu.translate_async(0x5000))
        many = asyncio.ensure_future(amu.translate_batch([0x5000, 0x7000]))
        await asyncio.sleep(0)
        await amu.aclose()
        await amu.aclose()
        for wait in (waiting, many):
            with pytest.raises(ClosedError, match="closed while the fault at 0x"):
                await wait
        with pytest.raises(ClosedError):
            await amu.translate_async(0x5000)

    run(main())


def test_one_event_loop_each() -> None:
    mmu = new_mmu()
    mmu.map_page(0x5000, 0x5000)
    amu = AsyncMmu(mmu)
    assert run(amu.translate_async(0x5000)).paddr == 0x5000
    with pytest.raises(RuntimeError, match="event loop"):
        run(amu.translate_async(0x5000))


def test_limits_that_cannot_be() -> None:
    for options in ({"max_concurrent_faults": 0}, {"max_attempts": 0}):
        with pytest.raises(InvalidConfig, match="at least 1"):
            AsyncMmu(new_mmu(), **options)


def test_a_handler_may_use_what_it_serves() -> None:
    async def main() -> None:
        mmu = new_mmu()

        async def handler(fault: PageFault) -> None:
            if fault.vaddr == 0x40005000:
                with pytest.raises(PageFault):
                    await amu.translate_async(0x40005010)
                assert (await amu.translate_async(0x40009000)).paddr == 0x9000
            mmu.map_page(fault.vaddr & ~0xFFF, fault.vaddr & 0xFFF000, RW)

        amu = AsyncMmu(mmu, handler, max_concurrent_faults=1)
        assert (await asyncio.wait_for(amu.translate_async(0x40005000), 10)).paddr == 0x5000
        assert amu.stats.served == 2
        assert amu.pending_faults == 0

    run(main())


def test_when_one_page_of_a_batch_fails_the_others_are_let_go() -> None:
    async def main() -> None:
        cancelled: list[int] = []

        async def handler(fault: PageFault) -> None:
            if fault.vaddr == 0x5000:
                raise ConnectionError
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append(fault.vaddr)
                raise

        amu = AsyncMmu(new_mmu(), handler)
        with pytest.raises(ConnectionError):
            await amu.translate_batch([0x5000, 0x6000, 0x7000])
        await amu.aclose()
        assert cancelled == [0x6000, 0x7000]
        assert (amu.stats.failed, amu.stats.cancelled, amu.pending_faults) == (1, 2, 0)

    run(main())


def test_closing_waits_for_handlers_that_nobody_waits_for() -> None:
    async def main() -> None:
        ended = False

        async def handler(fault: PageFault) -> None:
            nonlocal ended
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.01)
                ended = True

        amu = AsyncMmu(new_mmu(), handler)
        waiting = asyncio.ensure_future(amu.translate_async(0x5000))
        await asyncio.sleep(0.001)
        waiting.cancel()
        await asyncio.wait([waiting])
        await amu.aclose()
        assert ended

    run(main())


def test_a_handler_may_close() -> None:
    async def main() -> None:
        async def handler(fault: PageFault) -> bool:
            await amu.aclose()
            return False

        amu = AsyncMmu(new_mmu(), handler)
        with pytest.raises(PageFault):
            await amu.translate_async(0x5000)
        with pytest.raises(ClosedError):
            await amu.translate_async(0x5000)

    run(main())


def test_handlers_that_would_wait_for_each_other_do_not() -> None:
    async def main() -> None:
        ring = {0x5000: 0x6000, 0x6000: 0x7000, 0x7000: 0x5000}
        let_through = list[int]()

        async def handler(fault: PageFault) -> None:
            await asyncio.sleep(0.001)  # until all of them are at work
            try:
                await amu.translate_async(ring[fault.vaddr])
            except PageFault as inner:
                let_through.append(inner.vaddr)
            mmu.map_page(fault.vaddr, fault.vaddr, RW)

        mmu = new_mmu()
        amu = AsyncMmu(mmu, handler)
        hits = await asyncio.wait_for(asyncio.gather(*(amu.translate_async(page) for page in ring)), 60)
        assert [hit.paddr for hit in hits] == list(ring)
        assert len(let_through) == 1

    run(main())


def test_what_a_handler_leaves_behind_waits_for_its_turn() -> None:
    async def main() -> None:
        running, most, left = 0, 0, list[asyncio.Task[object]]()

        async def later() -> None:
            await asyncio.sleep(0.01)
            await asyncio.gather(*(amu.translate_async(0x10000 + 0x1000 * page) for page in range(8)))

        async def handler(fault: PageFault) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if fault.vaddr == 0x5000:
                left.append(asyncio.ensure_future(later()))
            else:
                await asyncio.sleep(0.001)
            mmu.map_page(fault.vaddr, fault.vaddr, RW)
            running -= 1

        mmu = new_mmu()
        amu = AsyncMmu(mmu, handler, max_concurrent_faults=2)
        await amu.translate_async(0x5000)
        await left[0]
        assert most == 2

    run(main())
