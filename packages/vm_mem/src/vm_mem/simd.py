"""Copies, fills and comparisons of memory after the best method for this machine.

For arrays and everything else with the buffer protocol. Bytes are copied, values are never converted. The first use
asks the processor and sysfs what there is; ``MemcpyStrategy.detect().plan`` shows what came of it.

>>> dst, src = bytearray(5), b"hello"
>>> memcpy_fast(dst, src)
>>> dst
bytearray(b'hello')
>>> first_difference(b"hello", b"help!")
3
>>> plan = CopyPlan("scalar", stream_from=1 << 20)
>>> plan.method(100), plan.method(1000), plan.method(1 << 20)
('small', 'vector', 'stream')
>>> memcpy_fast(dst, b"there", strategy=MemcpyStrategy(plan))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

from ._mem import (
    CopyPlan,
    MemcpyStrategy,
    first_difference,
    has_avx2,
    has_avx512,
    has_neon,
    instruction_sets,
    memcmp_fast,
    memcpy_fast,
    memcpy_raw,
    memmove_fast,
    memset_fast,
    simd_feature_name,
    simd_memcpy_optimized,
)

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt
    from typing_extensions import Buffer

__all__ = [
    "CopyPlan",
    "MemcpyStrategy",
    "first_difference",
    "has_avx2",
    "has_avx512",
    "has_neon",
    "instruction_sets",
    "memcmp_fast",
    "memcpy_async",
    "memcpy_fast",
    "memcpy_raw",
    "memmove_fast",
    "memset_fast",
    "simd_feature_name",
    "simd_memcpy_optimized",
]

_IN_LOOP = 1 << 16
"""Copies below so many bytes take less time than handing them to a thread."""


async def memcpy_async(
    dst: Buffer | npt.NDArray[Any],
    src: Buffer | npt.NDArray[Any],
    *,
    threads: int = 1,
    hint: Literal["stream"] | None = None,
    strategy: MemcpyStrategy | None = None,
) -> None:
    """Copy as ``memcpy_fast`` in a thread, while the event loop runs on.

    Copies below 64 KiB are done at once. The thread is one of the loop's default executor. When the awaiting task is
    cancelled, the copy cannot be, so the cancellation is raised when it has ended: afterwards nothing writes to
    ``dst``. To be awaited in the thread of a running loop. Raises what ``memcpy_fast`` raises.
    """
    import asyncio
    from functools import partial

    copy = partial(memcpy_fast, dst, src, threads=threads, hint=hint, strategy=strategy)
    # Arrays of dates have no buffer, but know their size.
    size = getattr(src, "nbytes", None)
    if (memoryview(cast("Buffer", src)).nbytes if size is None else size) < _IN_LOOP:
        copy()
        return
    done = asyncio.get_running_loop().run_in_executor(None, copy)
    cancelled: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        done.exception()  # it is taken notice of, and the cancellation goes first
        raise cancelled
    done.result()
