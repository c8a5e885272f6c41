"""Page tables: translate, list and change the virtual address spaces of x86, RISC-V and AArch64 guests.

Walks the tables that are there and caches nothing between calls.

>>> from vm_core import Access
>>> from vm_mem import GuestMemory
>>> space = AddressSpace(GuestMemory.anonymous(1 << 20), X86(levels=4, root=0x1000))
>>> space.map(vaddr=0x400000, paddr=0x10000, size=0x4000, access=Access.READ | Access.EXECUTE, user=True)
>>> hex(space.translate(0x400123, user=True).paddr)
'0x10123'
>>> space.translate([0x400000, 0x800000]).ok
array([ True, False])
"""

from vm_core import FaultReason

from ._mem import X86, AArch64, AddressSpace, RiscV, Translation, TranslationArray
from .mapping import MAPPING_DTYPE, Mapping, Mappings

__all__ = [
    "MAPPING_DTYPE",
    "X86",
    "AArch64",
    "AddressSpace",
    "FaultReason",
    "Mapping",
    "Mappings",
    "RiscV",
    "Translation",
    "TranslationArray",
]
