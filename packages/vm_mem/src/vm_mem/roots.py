"""Find page-table roots in guest memory whose registers are unknown.

For dumps without CPU notes, and for the processes that were not running when a dump was made. Looks at the tables
themselves and knows nothing of any operating system.

>>> from vm_core import Access
>>> from vm_mem import GuestMemory
>>> from vm_mem.paging import AddressSpace, X86
>>> memory = GuestMemory.anonymous(1 << 20)
>>> AddressSpace(memory, X86(levels=4, root=0x5000)).map(0xFFFF888000000000, 0, 1 << 20, Access.READ | Access.WRITE)
>>> best = find_roots(memory)[0]
>>> best.config.levels, hex(best.root)
(4, '0x5000')
"""

from ._mem import RootCandidate, default_root_formats, find_roots

__all__ = ["RootCandidate", "default_root_formats", "find_roots"]
