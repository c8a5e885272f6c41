r"""Guest memory that is filled when it is first touched: post-copy migration, lazy restore.

Linux only (userfaultfd). Not a cache: a page is asked for once, and stays until ``discard``.

>>> if LazyMemory.available() is None:
...     with LazyMemory(1 << 20, lambda offset, size: bytes([offset >> 12 & 255]) * size) as lazy:
...         assert lazy.memory.read(0x5000, 2) == b"\x05\x05"
...         assert lazy.resident == 1
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from vm_core import InvalidConfig

from ._mem import GuestMemory, LazyStats
from ._mem import LazyMemory as _LazyMemory

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Buffer, Self

__all__ = ["LazyMemory", "LazyStats"]

_LOOP_CHECK_S = 0.1
"""Seconds after which a thread that waits for a coroutine looks whether its loop still runs."""


class LazyMemory(_LazyMemory):
    """Guest memory of ``size`` bytes whose pages come from ``source`` when they are first touched.

    Whoever touches them: this process, a system call, a guest under KVM. ``memory`` is the GuestMemory for
    ``AddressSpace`` and everybody else. Linux only; ``available()`` says whether and why not.

    ``source`` is the path of a file, a GuestMemory, or a function ``(offset, size) -> bytes-like`` of exactly ``size``
    bytes; ``from_async`` takes a coroutine function. Offsets count from the first byte; ``source_offset`` is where that
    is in the file or in the other memory. Functions are called from handler threads, several at once with
    ``threads > 1``, and from threads that read, write or populate.

    ``base``: guest-physical address of the first byte. ``page_size``: bytes filled at a time, a power of two from 4096.
    ``prefetch_pages``: missing neighbours after a touched page that are filled with it. ``huge_pages``: as for
    ``GuestMemory.anonymous``; reserved ones ("2M", "1G") need a ``page_size`` as large. ``tracking``: how
    ``track_writes`` works, "auto", "async" (Linux 6.7), "sync" or "none".

    When the source raises for a touched page it is asked again, ``retries`` times, first after ``retry_delay_ns`` and
    then after twice as long each time. Then the page is failed: ``error`` says why, ``on_error(offset, message)`` is
    called from a handler thread, and the touch, with ``on_failure="wait"``, waits until ``retry()`` or another touch
    succeeds; with ``"poison"`` it is SIGBUS. It never sees false zeros. ``GuestMemory.read``, ``write``, ``save`` and
    ``populate`` ask the source themselves and raise what it raises.

    The rule about the GIL: a thread that waits for a page inside the kernel holds whatever it held, and a Python source
    needs the GIL. So ``read``, ``write``, ``save``, translations and ``map`` release it. A NumPy view cannot: with a
    Python source ``GuestMemory.view`` fills its pages first, and ``discard`` refuses them (AccessViolation) while the
    view lives; with a file or GuestMemory as source views are lazy too. Extension modules of others that touch a view
    are safe for the same reason. Ctrl-C reaches ``read``, ``write``, ``populate`` and ``populate_all``; a touch that
    waits in the kernel (a translation) is interrupted only when its page arrives.

    Pages and threads live as long as this object, ``memory`` or any view; after ``close`` what others hold stays right.
    A child process made by ``fork`` does not have the memory at all. Everything may be called from any thread.

    Raises InvalidConfig, NotSupported (names what the kernel lacks), ResourceExhausted, PlatformError.
    """

    if TYPE_CHECKING:
        # What is public of the compiled constructor; `check` is for from_async.
        def __init__(
            self,
            size: int,
            source: str | os.PathLike[str] | GuestMemory | Callable[[int, int], Buffer],
            *,
            base: int = 0,
            source_offset: int = 0,
            prefetch_pages: int = 0,
            threads: int = 1,
            page_size: int = 4096,
            huge_pages: str | None = None,
            retries: int = 2,
            retry_delay_ns: int = 10_000_000,
            on_failure: str = "wait",
            tracking: str = "auto",
            on_error: Callable[[int, str], object] | None = None,
        ) -> None: ...

    @classmethod
    def from_async(
        cls,
        size: int,
        source: Callable[[int, int], Awaitable[Buffer]],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        **options: Any,
    ) -> Self:
        """Make one whose source is a coroutine function, run by ``loop`` (by default the running one).

        The loop's own thread must not wait for a page, because nobody would fetch it: missing pages that it reads,
        translations while pages are missing and the like raise InvalidConfig there. Use ``await
        asyncio.to_thread(space.translate, vaddr)``, or ``await asyncio.to_thread(lazy.populate_all)`` before. A page
        whose loop has ended is failed. ``options`` are those of the class.
        """
        import asyncio

        fetch = _Fetch(source, loop or asyncio.get_running_loop())
        return cls(size, fetch, **{**options, "check": fetch.check})


class _Fetch:
    """A coroutine function as a function: called in any thread but the loop's."""

    def __init__(self, source: Callable[[int, int], Awaitable[Buffer]], loop: asyncio.AbstractEventLoop) -> None:
        self._source = source
        self._loop = loop

    def check(self) -> None:
        """Raise in the loop's own thread."""
        import asyncio

        try:
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            raise InvalidConfig(
                "the event loop would wait for a page that only this loop can fetch; "
                "touch lazy memory with asyncio.to_thread, or populate it that way first"
            )

    def __call__(self, offset: int, size: int) -> Buffer:
        import asyncio
        import concurrent.futures

        self.check()
        if not self._loop.is_running():
            raise RuntimeError("the event loop of this page source is not running")

        async def fetch() -> Buffer:
            return await self._source(offset, size)

        future = asyncio.run_coroutine_threadsafe(fetch(), self._loop)
        try:
            while True:
                concurrent.futures.wait([future], timeout=_LOOP_CHECK_S)
                if future.done():
                    return future.result()
                if not self._loop.is_running():
                    raise RuntimeError("the event loop of this page source ended while it fetched a page")
        finally:
            future.cancel()
