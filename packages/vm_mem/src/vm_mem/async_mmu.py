"""Translations whose page faults are served by coroutines.

Nothing here runs in a thread: a translation that hits is an ordinary call inside a coroutine, and only a fault waits.

>>> import asyncio
>>> from vm_core import Access
>>> from vm_mem import AsyncMmu, GuestMemory, Mmu
>>> from vm_mem.paging import X86
>>> async def main():
...     mmu = Mmu(GuestMemory.anonymous(1 << 20), X86(levels=4, root=0x1000))
...     async def map_it(fault):
...         await asyncio.sleep(0)  # fetch the page from somewhere
...         mmu.map_page(fault.vaddr & ~0xFFF, 0x5000, Access.READ)
...     async with AsyncMmu(mmu, map_it) as mmu_async:
...         return await mmu_async.translate_async(0x7010)
>>> hex(asyncio.run(main()).paddr)
'0x5010'
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from vm_core import Access, ClosedError, InvalidConfig, PageFault

from ._mem import Mmu

if TYPE_CHECKING:
    from types import TracebackType

    import numpy.typing as npt
    from typing_extensions import Buffer, Self

    from ._mem import _Engine as Engine
    from .paging import Translation, TranslationArray

__all__ = ["AsyncMmu", "AsyncMmuStats"]

T = TypeVar("T")
FaultHandler = Callable[[PageFault], Awaitable[object]]


@dataclass(frozen=True)
class AsyncMmuStats:
    """What an ``AsyncMmu`` did so far.

    ``served``: faults for which the handler was called and came back. ``coalesced``: waits that joined a handler which
    was already at work on the page. ``refused``: handlers that answered False. ``failed``: handlers that raised.
    ``cancelled``: handlers that were cancelled because nobody waited for them any more.
    """

    served: int = 0
    coalesced: int = 0
    refused: int = 0
    failed: int = 0
    cancelled: int = 0


class _Service:
    """One page's handler at work, how many wait for it, and for whom it waits itself."""

    __slots__ = ("ended", "owner", "task", "waiters", "waits_for")

    def __init__(self, owner: AsyncMmu) -> None:
        self.owner = owner
        self.task: asyncio.Task[bool]
        self.waiters = 0
        self.waits_for: list[_Service] = []
        self.ended = False

    def reaches(self, other: _Service) -> bool:
        """Whether its end waits for the other's, if only through third ones."""
        seen, ahead = {self}, [self]
        while ahead:
            for service in ahead.pop().waits_for:
                if service is other:
                    return True
                if service not in seen:
                    seen.add(service)
                    ahead.append(service)
        return False


# The services that wait for what runs here to end: a handler's own, and those whose handlers called it.
_above: ContextVar[tuple[_Service, ...]] = ContextVar("_above", default=())


def _cancelled_itself() -> bool:
    """Whether the running task was asked to end, as far as this Python tells (3.11 does)."""
    cancelling: Callable[[], int] = getattr(asyncio.current_task(), "cancelling", int)
    return cancelling() > 0


class AsyncMmu:
    """An ``Mmu`` for asyncio.

    ``fault_handler(fault)`` is a coroutine function: it gets the ``PageFault``, may map or fetch the page, and the
    access is tried again when it returns; returning False lets the fault through. Faults on one page are served by one
    call at a time, whoever waits for it; what it raises reaches all of them. When all who wait are cancelled (or time
    out), so is the handler. At most ``max_concurrent_faults`` handlers run at once: the others wait their turn. An
    access that still faults after ``max_attempts`` handler calls raises.

    A handler may use the AsyncMmu itself. The handlers that it waits for this way do not wait for their turn, and a
    fault on the page that it is serving goes through to it, since nobody else will serve it; so does one whose handler
    waits for this one, since both would wait for ever.

    Without a handler, faults raise at once. To be used from one event loop. Raises InvalidConfig for limits below 1.
    """

    def __init__(
        self,
        mmu: Mmu,
        fault_handler: FaultHandler | None = None,
        *,
        max_concurrent_faults: int = 64,
        max_attempts: int = 8,
    ) -> None:
        for name, value in (("max_concurrent_faults", max_concurrent_faults), ("max_attempts", max_attempts)):
            if value < 1:
                raise InvalidConfig(f"{name} is {value}; it must be at least 1")
        self._mmu = mmu
        self._handler = fault_handler
        self._attempts = max_attempts
        self._limit = asyncio.Semaphore(max_concurrent_faults)
        self._services: dict[int, _Service] = {}
        self._tasks: set[asyncio.Task[bool]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._page_size = mmu.space.page_size
        self._stats = AsyncMmuStats()
        self._closed = False

    @property
    def mmu(self) -> Mmu:
        """The Mmu inside; what hits there hits here."""
        return self._mmu

    @property
    def pending_faults(self) -> int:
        """Pages whose handler has been called, or waits for its turn."""
        return len(self._services)

    @property
    def stats(self) -> AsyncMmuStats:
        """An AsyncMmuStats of this moment."""
        return self._stats

    async def translate_async(self, vaddr: int, *, access: Access = Access.READ, user: bool = False) -> Translation:
        """Translate one address; PageFault only when the handler refuses it or cannot help."""
        return await self._retried(lambda: self._mmu.translate(vaddr, access=access, user=user))

    async def read(self, vaddr: int, size: int, *, user: bool = False) -> bytes:
        """Read ``size`` bytes, as ``Mmu.read``."""
        return await self._retried(lambda: self._mmu.read(vaddr, size, user=user))

    async def write(self, vaddr: int, data: Buffer, *, user: bool = False) -> None:
        """Write ``data``, as ``Mmu.write``: all of it or nothing."""
        await self._retried(lambda: self._mmu.write(vaddr, data, user=user))

    async def translate_batch(
        self,
        vaddrs: npt.ArrayLike,
        *,
        access: Access = Access.READ,
        user: bool = False,
        engine: Engine = "auto",
        threads: int = 1,
    ) -> TranslationArray:
        """Translate an array of any shape, as ``Mmu.translate``.

        The handler is called once for each page that faults; what it refuses, or what still faults after
        ``max_attempts``, is a fault in the result. Takes a few ns per element of the event loop's time: split arrays of
        many millions.
        """
        self._enter()
        addresses: npt.NDArray[np.integer[Any]] = np.asarray(vaddrs)

        def translate() -> TranslationArray:
            return self._mmu.translate(addresses, access=access, user=user, engine=engine, threads=threads)

        many = translate()
        refused: set[int] = set()
        for _ in range(self._attempts if self._handler is not None else 0):
            faults = self._first_faults(many, refused)
            if not faults:
                break
            answers = await self._serve_all(faults)
            refused.update(fault.vaddr // self._page_size for fault, ok in zip(faults, answers, strict=True) if not ok)
            many = translate()
        return many

    async def _serve_all(self, faults: list[PageFault]) -> list[bool]:
        """As ``_serve`` for each; when one raises, nobody waits for the others any more."""
        waits = [asyncio.ensure_future(self._serve(fault)) for fault in faults]
        try:
            return await asyncio.gather(*waits)
        finally:
            for wait in waits:
                wait.cancel()

    def _first_faults(self, many: TranslationArray, refused: set[int]) -> list[PageFault]:
        """A PageFault for one element of each faulting page that nobody has refused yet."""
        if many.fault_count == 0:
            return []
        failed = np.flatnonzero(~many.ok)
        pages = many.vaddr.reshape(-1)[failed] // np.uint64(self._page_size)
        unique, first = np.unique(pages, return_index=True)
        faults = []
        for page, index in zip(unique.tolist(), failed[first].tolist(), strict=True):
            if page not in refused:
                try:
                    many[np.unravel_index(index, many.ok.shape)]
                except PageFault as fault:
                    faults.append(fault)
        return faults

    async def _retried(self, attempt: Callable[[], T]) -> T:
        self._enter()
        for _ in range(self._attempts if self._handler is not None else 0):
            try:
                return attempt()
            except PageFault as fault:
                if not await self._serve(fault):
                    raise
        return attempt()

    def _enter(self) -> None:
        loop = asyncio.get_running_loop()
        if self._closed:
            raise ClosedError("this AsyncMmu is closed")
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("this AsyncMmu belongs to another event loop; make one for each")

    async def _serve(self, fault: PageFault) -> bool:
        """Have the handler called for the fault's page, by somebody; its answer."""
        page = fault.vaddr // self._page_size
        service = self._services.get(page)
        above = _above.get()
        if service is None:
            self._services[page] = service = self._begin(page, fault)
        elif service in above or (above and service.reaches(above[-1])):
            return False
        else:
            self._count(coalesced=1)
        service.waiters += 1
        if above:
            above[-1].waits_for.append(service)
        try:
            return await asyncio.shield(service.task)
        except asyncio.CancelledError:
            if self._closed and service.task.cancelled() and not _cancelled_itself():
                raise ClosedError(f"this AsyncMmu was closed while the fault at {fault.vaddr:#x} was served") from None
            raise
        finally:
            if above:
                above[-1].waits_for.remove(service)
            service.waiters -= 1
            if service.waiters == 0 and not service.task.done():
                service.task.cancel()
                # Whoever faults on the page before the handler has ended begins a new one.
                self._forget(page, service)

    def _begin(self, page: int, fault: PageFault) -> _Service:
        service = _Service(self)
        above = _above.get()
        # A task that a handler left behind still has it above, but waits for its turn like everybody.
        nested = any(other.owner is self and not other.ended for other in above)
        token = _above.set((*above, service))
        try:
            service.task = asyncio.ensure_future(self._handle(fault, nested=nested))
        finally:
            _above.reset(token)
        self._tasks.add(service.task)
        service.task.add_done_callback(self._tasks.discard)
        service.task.add_done_callback(lambda _: self._end(page, service))
        return service

    def _end(self, page: int, service: _Service) -> None:
        service.ended = True
        self._forget(page, service)

    def _forget(self, page: int, service: _Service) -> None:
        if self._services.get(page) is service:
            del self._services[page]

    async def _handle(self, fault: PageFault, *, nested: bool) -> bool:
        assert self._handler is not None
        try:
            # The turn of a handler that waits for this one would never end.
            async with nullcontext() if nested else self._limit:
                answer = await self._handler(fault)
        except asyncio.CancelledError:
            self._count(cancelled=1)
            raise
        except BaseException:
            self._count(failed=1)
            raise
        self._count(served=1, refused=answer is False)
        return answer is not False

    def _count(self, **events: int) -> None:
        now = {name: getattr(self._stats, name) + count for name, count in events.items()}
        self._stats = replace(self._stats, **now)

    async def aclose(self) -> None:
        """Cancel the handlers at work and wait for their end. Twice is fine; the Mmu stays open.

        Whoever waits for a handler that ends so gets ClosedError. A handler that calls this is not cancelled itself.
        """
        self._closed = True
        here = asyncio.current_task()
        for service in self._services.values():
            if service.task is not here:
                service.task.cancel()
        # Also for those that nobody waited for any more: they were cancelled before, and once is enough.
        await asyncio.gather(*(task for task in self._tasks if task is not here), return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncMmu({self._mmu!r}, {self.pending_faults} faults pending)"
