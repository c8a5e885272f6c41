"""Let an ``Mmu`` be given, while it works, the TLB, the prefetching and the walk cache that its work needs.

Nothing does that unless it is asked to: an ``Optimizer`` is made by the owner of the ``Mmu``, and acts only when its
``step`` is called.

>>> from vm_mem import GuestMemory, Mmu
>>> from vm_mem.paging import X86
>>> from vm_mem.tlb import TlbConfig
>>> small = TlbConfig(l1_size=64, l2_size=0, l3_size=0)
>>> mmu = Mmu(GuestMemory.anonymous(1 << 20), X86(levels=4, root=0x1000), tlb=small)
>>> mmu.map(0x400000, 0, 300 << 12)
>>> choices = grid(mmu.tlb.config, sizes=[(64, 0, 0), (64, 512, 0)])
>>> optimizer = Optimizer(mmu, settings=choices, objective=Weights(), window_ns=10_000)
>>> for _ in range(40):  # 300 pages, again and again
...     for page in range(300):
...         _ = mmu.translate(0x400000 + (page << 12))
...     _ = optimizer.step()
>>> optimizer.setting.name
'multi_level, 64/512'
>>> optimizer.decisions[-1].reason
'none of those tried is cheaper by the hysteresis'
"""

from .calibration import calibrate
from .coordinator import Optimizer
from .cost import Counts, Weights
from .decision import Decision
from .settings import NO_WALK_CACHE, WALK_CACHE, Setting, default_settings, grid

__all__ = [
    "NO_WALK_CACHE",
    "WALK_CACHE",
    "Counts",
    "Decision",
    "Optimizer",
    "Setting",
    "Weights",
    "calibrate",
    "default_settings",
    "grid",
]
