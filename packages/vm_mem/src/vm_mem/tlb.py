"""TLBs: caches of translations, shaped as real ones are and tagged with address space and virtual machine.

Holds what it is told and walks no tables: whoever inserts a translation has read it.

>>> from vm_core import Access
>>> tlb = UnifiedTlb(TlbConfig(l1_size=64, l2_size=1536, l2_ways=12, l3_size=0))
>>> tlb.insert(0x7000, 0x5000, access=Access.READ, asid=1)
True
>>> hex(tlb.lookup(0x7010, asid=1).paddr)
'0x5010'
>>> tlb.lookup(0x7010, asid=2) is None
True
>>> paddr, hit = tlb.lookup([0x7000, 0x8000], asid=1)
>>> hit
array([ True, False])
>>> tlb.flush_page(0x7000, asid=1)
>>> tlb.stats.l1.flushed, tlb.size
(1, 0)

Split by page size, with any number of sets and ways:

>>> small = ArrayConfig(sets=16, ways=6, page_sizes=[4096])
>>> large = ArrayConfig(sets=1, ways=32, replacement="tree_plru")
>>> UnifiedTlb(TlbConfig(levels=[LevelConfig([small, large])])).capacity
128
"""

from ._mem import (
    ArrayConfig,
    FlushStats,
    LevelConfig,
    LevelStats,
    PrefetchStats,
    TlbConfig,
    TlbHit,
    TlbStats,
    UnifiedTlb,
)

__all__ = [
    "ArrayConfig",
    "FlushStats",
    "LevelConfig",
    "LevelStats",
    "PrefetchStats",
    "TlbConfig",
    "TlbHit",
    "TlbStats",
    "UnifiedTlb",
]
