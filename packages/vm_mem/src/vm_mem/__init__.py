"""Guest memory of virtual machines, and in ``vm_mem.paging`` the page tables inside it.

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

import vm_core as _vm_core  # noqa: F401  (its types and exception translator come first)

from ._mem import CpuState, GuestMemory, Region, __version__
from .lazy import LazyMemory

__all__ = ["CpuState", "GuestMemory", "LazyMemory", "Region", "__version__"]
