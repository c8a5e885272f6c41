"""Guest memory of virtual machines, the page tables inside it (``vm_mem.paging``), and an ``Mmu`` over both.

Opens dumps (raw, LiME, ELF core), files and fresh memory under one type, addressed guest-physically. Runs no guest:
that is ``vm_accel``.

>>> memory = GuestMemory.anonymous(1 << 20)
>>> memory.write(0x1000, b"hello")
>>> bytes(memory.view(0x1000, 5))
b'hello'
>>> memory.read(1 << 20, 1)  # doctest: +ELLIPSIS
Traceback (most recent call last):
    ...
vm_core.error.OutOfRange: read of 1 bytes at 0x100000 reaches 0x100000, but there is no guest memory in 0x100000-0x...
"""

from typing import TYPE_CHECKING

import vm_core as _vm_core  # noqa: F401  (its types and exception translator come first)

from ._mem import CpuState, GuestMemory, Mmu, Region, __version__
from .lazy import LazyMemory
from .pages import numpy_allocator

if TYPE_CHECKING:
    from .async_mmu import AsyncMmu

__all__ = ["AsyncMmu", "CpuState", "GuestMemory", "LazyMemory", "Mmu", "Region", "__version__", "numpy_allocator"]


def __getattr__(name: str) -> object:
    """Import what brings asyncio and NumPy along only when it is asked for."""
    if name == "AsyncMmu":
        from .async_mmu import AsyncMmu

        return AsyncMmu
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
