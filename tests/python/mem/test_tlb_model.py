"""TLBs against a dictionary of live mappings: they may forget, but never answer what is not so.

The dictionary holds, for each page, context and kind, what was inserted last and not flushed since. With room for
everything, nothing may be forgotten either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from vm_mem.tlb import ArrayConfig, LevelConfig, TlbConfig, UnifiedTlb

# Each size has a range of its own: pages of two sizes at one address would contradict each other.
REGIONS = {4096: 0, 1 << 16: 0x1000_0000, 2 << 20: 0xFFFF_8000_0000_0000}
PAGES = 6

sizes = st.sampled_from(sorted(REGIONS))
numbers = st.integers(0, PAGES - 1)
asids = st.integers(0, 2)
vmids = st.integers(0, 1)


@dataclass(frozen=True)
class Page:
    vaddr: int
    size: int
    asid: int  # -1 when global
    vmid: int

    def overlaps(self, first: int, size: int) -> bool:
        return size > 0 and first < self.vaddr + self.size and self.vaddr < first + size

    def answers(self, asid: int, vmid: int) -> bool:
        return self.vmid == vmid and self.asid in (-1, asid)


class Machine(RuleBasedStateMachine):
    config = TlbConfig()
    roomy = False

    def __init__(self) -> None:
        super().__init__()
        self.tlb = UnifiedTlb(self.config)
        self.live: dict[Page, int] = {}
        self.frames = 0

    def forget(self, gone: set[Page]) -> None:
        for page in gone:
            del self.live[page]

    @rule(size=sizes, number=numbers, asid=asids, vmid=vmids, everywhere=st.booleans(), prefetched=st.booleans())
    def insert(self, size: int, number: int, asid: int, vmid: int, everywhere: bool, prefetched: bool) -> None:
        page = Page(REGIONS[size] + number * size, size, -1 if everywhere else asid, vmid)
        self.frames += 1
        paddr = self.frames * (2 << 20)
        inserted = self.tlb.insert(
            page.vaddr, paddr, size, asid=asid, vmid=vmid, global_=everywhere, prefetched=prefetched
        )
        assert inserted
        same = {p for p in self.live if (p.vaddr, p.size, p.vmid) == (page.vaddr, page.size, page.vmid)}
        self.forget({p for p in same if -1 in (p.asid, page.asid) or p.asid == page.asid})
        self.live[page] = paddr

    @rule(size=sizes, number=numbers, asid=asids, vmid=vmids, offset=st.integers(0, 4095))
    def look_up(self, size: int, number: int, asid: int, vmid: int, offset: int) -> None:
        vaddr = REGIONS[size] + number * size
        [known] = [p for p in self.live if p.vaddr == vaddr and p.answers(asid, vmid)] or [None]
        hit = self.tlb.lookup(vaddr + offset, asid, vmid)
        if hit is not None:
            assert known is not None, "answered what is not there"
            assert (hit.paddr, hit.page_size) == (self.live[known] + offset, size)
            assert hit.global_ == (known.asid == -1)
        elif self.roomy:
            assert known is None, "forgot what had room"

    @rule(asid=asids, vmid=vmids)
    def look_everything_up(self, asid: int, vmid: int) -> None:
        vaddrs = np.array([start + n * size for size, start in REGIONS.items() for n in range(PAGES)], dtype="u8")
        known = {p.vaddr: paddr for p, paddr in self.live.items() if p.answers(asid, vmid)}
        paddr, hit = self.tlb.lookup(vaddrs, asid, vmid)
        for v, p, h in zip(vaddrs.tolist(), paddr.tolist(), hit.tolist(), strict=True):
            if h:
                assert known.get(v) == p
            elif self.roomy:
                assert v not in known

    @rule(size=sizes, number=numbers, asid=asids, vmid=vmids, offset=st.integers(0, 4095))
    def flush_page(self, size: int, number: int, asid: int, vmid: int, offset: int) -> None:
        vaddr = REGIONS[size] + number * size + offset
        self.tlb.flush_page(vaddr, asid, vmid)
        self.forget({p for p in self.live if p.answers(asid, vmid) and p.overlaps(vaddr, 1)})

    @rule(size=sizes, number=numbers, asid=asids, vmid=vmids, length=st.integers(0, 8 << 20) | st.just(2**64 - 1))
    def flush_range(self, size: int, number: int, asid: int, vmid: int, length: int) -> None:
        vaddr = REGIONS[size] + number * size
        self.tlb.flush_range(vaddr, length, asid, vmid)
        self.forget({p for p in self.live if p.answers(asid, vmid) and p.overlaps(vaddr, length)})

    @rule(asid=asids, vmid=vmids)
    def flush_asid(self, asid: int, vmid: int) -> None:
        self.tlb.flush_asid(asid, vmid)
        self.forget({p for p in self.live if (p.asid, p.vmid) == (asid, vmid)})

    @rule(vmid=vmids)
    def flush_non_global(self, vmid: int) -> None:
        self.tlb.flush_non_global(vmid)
        self.forget({p for p in self.live if p.asid != -1 and p.vmid == vmid})

    @rule()
    def flush_all(self) -> None:
        self.tlb.flush_all()
        self.live.clear()

    @invariant()
    def statistics_add_up(self) -> None:
        stats = self.tlb.stats
        held = [s.fills - s.evictions - s.flushed - s.promoted for s in stats.levels]
        assert sum(held) == self.tlb.size
        assert all(n >= 0 for n in held)
        for earlier, later in zip(stats.levels, stats.levels[1:], strict=False):
            assert later.lookups == earlier.misses
        assert stats.prefetch.useful + stats.prefetch.useless <= stats.prefetch.fills


TINY = {"l1_size": 4, "l1_ways": 2, "l2_size": 6, "l2_ways": 3, "l3_size": 10, "l3_ways": 5}
CONFIGS = {
    f"{replacement}-{inclusion}": TlbConfig(replacement=replacement, inclusion=inclusion, **TINY)  # type: ignore[arg-type]
    for replacement in ("lru", "tree_plru", "fifo", "random")
    for inclusion in ("inclusive", "exclusive")
}
CONFIGS["split"] = TlbConfig(
    levels=[
        LevelConfig([ArrayConfig(3, 1, page_sizes=[4096]), ArrayConfig(1, 3)]),
        LevelConfig([ArrayConfig(5, 3, "tree_plru", [4096, 65536])]),
    ]
)
CONFIGS["roomy"] = TlbConfig(l1_size=1024, l1_ways=1024, l2_size=0, l3_size=0)
CONFIGS["roomy-exclusive"] = TlbConfig(
    l1_size=4,
    l2_size=0,
    l3_size=0,
    inclusion="exclusive",
    levels=[LevelConfig([ArrayConfig(2, 2)]), LevelConfig([ArrayConfig(1, 512)])],
)


@pytest.mark.parametrize("name", CONFIGS)
def test_it_forgets_but_never_lies(name: str) -> None:
    class Case(Machine):
        config = CONFIGS[name]
        roomy = name.startswith("roomy")

    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Case,
        settings=settings(max_examples=25, stateful_step_count=60, deadline=None, suppress_health_check=checks),
    )
