"""Page tables against a dictionary of pages: random map, unmap, protect and translate, for every format.

The dictionary knows nothing of tables, page sizes or flags. After every step the tables must say what it says, and a
change that was refused must have changed no byte of guest memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from vm_core import Access, InvalidConfig, PageFault
from vm_mem import GuestMemory
from vm_mem.paging import X86, AArch64, AddressSpace, FaultReason, RiscV

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MEMORY = 4 * MIB
ROOT, OTHER_ROOT = 0x10000, 0x20000
# TCR_EL1 for FEAT_LPA2: DS, 52-bit halves, 52-bit output; the granule fields as in the default value.
LPA2 = 1 << 59 | 12 << 16 | 12 | 6 << 32
TG_4K, TG_16K = 2 << 30, 2 << 14 | 1 << 30


@dataclass(frozen=True)
class Format:
    """A format with an empty top table, its smallest page, the next size, and an address aligned to that size."""

    name: str
    config: X86 | RiscV | AArch64
    page: int
    large: int
    base: int

    def grants(self, access: Access) -> Access:
        """The rights that come with `access` because the format cannot withhold them."""
        if not isinstance(self.config, RiscV) or Access.WRITE in access:
            access |= Access.READ
        if isinstance(self.config, X86) and self.config.levels == 2:
            access |= Access.EXECUTE
        return access


def _arm(granule: int, tcr: int | None = None) -> AArch64:
    return AArch64(granule, ttbr0=ROOT, ttbr1=OTHER_ROOT, tcr=tcr)


FORMATS = [
    Format("x86_2", X86(2, ROOT), 4 * KIB, 4 * MIB, 0x40000000),
    Format("x86_3", X86(3, ROOT), 4 * KIB, 2 * MIB, 0xBFC00000),
    Format("x86_4", X86(4, ROOT), 4 * KIB, 2 * MIB, 0xFFFF_8000_3FE0_0000),
    Format("x86_5", X86(5, ROOT), 4 * KIB, 2 * MIB, 0x00FF_0000_3FE0_0000),
    Format("sv32", RiscV("sv32", ROOT), 4 * KIB, 4 * MIB, 0x40000000),
    Format("sv39", RiscV("sv39", ROOT), 4 * KIB, 2 * MIB, 0x20_3FE0_0000),
    Format("sv48", RiscV("sv48", ROOT), 4 * KIB, 2 * MIB, 0xFFFF_8000_3FE0_0000),
    Format("sv57", RiscV("sv57", ROOT), 4 * KIB, 2 * MIB, 0xFF00_0000_3FE0_0000),
    Format("arm_4k", _arm(4096), 4 * KIB, 2 * MIB, 0x3FE0_0000),
    Format("arm_16k", _arm(16384), 16 * KIB, 32 * MIB, 0xFFFF_0000_3E00_0000),
    Format("arm_64k", _arm(65536), 64 * KIB, 512 * MIB, 0x3FF_E000_0000),
    Format("arm_4k_lpa2", _arm(4096, LPA2 | TG_4K), 4 * KIB, 2 * MIB, 0x4_0000_3FE0_0000),
    Format("arm_16k_lpa2", _arm(16384, LPA2 | TG_16K), 16 * KIB, 32 * MIB, 0xFFF1_000F_FE00_0000),
]

ACCESS = st.sampled_from(list(map(Access, range(1, 8))))


@dataclass(frozen=True)
class Page:
    """What the dictionary knows of one page."""

    paddr: int
    access: Access
    user: bool


class PagingModel(RuleBasedStateMachine):
    """One address space and its dictionary: virtual page address to `Page`."""

    layout: Format  # of the subclass that a test makes

    def __init__(self) -> None:
        super().__init__()
        self.memory = GuestMemory.anonymous(MEMORY)
        self.blank = self.memory.read(0, MEMORY)
        self.space = AddressSpace(self.memory, self.layout.config)
        self.pages: dict[int, Page] = {}

    # Ranges lie around the border between two large pages, which is a border between upper tables too; some are large.
    @staticmethod
    def _ranges() -> st.SearchStrategy[tuple[bool, int, int]]:
        return st.one_of(
            st.tuples(st.just(False), st.integers(-8, 8), st.integers(1, 12)),
            st.tuples(st.just(True), st.integers(-1, 1), st.integers(1, 2)),
        )

    def _range(self, where: tuple[bool, int, int]) -> tuple[int, int]:
        large, offset, count = where
        unit = self.layout.large if large else self.layout.page
        return self.layout.base + self.layout.large + offset * unit, count * unit

    def _pages_of(self, vaddr: int, size: int) -> Iterator[int]:
        return iter(range(vaddr, vaddr + size, self.layout.page))

    @initialize(tables=st.sampled_from([None, range(0x40000, 0x140000)]))
    def choose_tables(self, tables: range | None) -> None:
        self.space = AddressSpace(self.memory, self.layout.config, tables=tables)

    @rule(
        where=_ranges(),
        frame=st.integers(0, 40),
        aligned=st.booleans(),
        access=ACCESS,
        user=st.booleans(),
        small=st.booleans(),
    )
    def map(
        self, where: tuple[bool, int, int], frame: int, aligned: bool, access: Access, user: bool, small: bool
    ) -> None:
        vaddr, size = self._range(where)
        paddr = frame * (self.layout.large if aligned else self.layout.page)
        page_size = self.layout.page if small else None
        taken = next((page for page in self._pages_of(vaddr, size) if page in self.pages), None)
        if taken is not None:
            before = self.memory.read(0, MEMORY)
            with pytest.raises(InvalidConfig, match=f"^{taken:#x} is already mapped, to {self.pages[taken].paddr:#x} "):
                self.space.map(vaddr, paddr, size, access, user, page_size)
            assert self.memory.read(0, MEMORY) == before
            return
        self.space.map(vaddr, paddr, size, access, user, page_size)
        for page in self._pages_of(vaddr, size):
            self.pages[page] = Page(paddr + page - vaddr, self.layout.grants(access), user)

    @rule(where=_ranges())
    def unmap(self, where: tuple[bool, int, int]) -> None:
        vaddr, size = self._range(where)
        gone = [page for page in self._pages_of(vaddr, size) if self.pages.pop(page, None)]
        assert self.space.unmap(vaddr, size) == len(gone) * self.layout.page

    @rule(where=_ranges(), access=ACCESS, user=st.sampled_from([None, False, True]))
    def protect(self, where: tuple[bool, int, int], access: Access, user: bool | None) -> None:
        vaddr, size = self._range(where)
        self._protect(vaddr, size, access, user)

    @precondition(lambda self: bool(self.pages))
    @rule(data=st.data(), count=st.integers(1, 4), access=ACCESS, user=st.sampled_from([None, False, True]))
    def protect_something_mapped(self, data: st.DataObject, count: int, access: Access, user: bool | None) -> None:
        first = data.draw(st.sampled_from(sorted(self.pages)[:: max(1, len(self.pages) // 16)]))
        self._protect(first, count * self.layout.page, access, user)

    def _protect(self, vaddr: int, size: int, access: Access, user: bool | None) -> None:
        hole = next((page for page in self._pages_of(vaddr, size) if page not in self.pages), None)
        if hole is not None:
            before = self.memory.read(0, MEMORY)
            with pytest.raises(PageFault) as caught:
                self.space.protect(vaddr, size, access, user)
            assert (caught.value.vaddr, caught.value.reason) == (hole, FaultReason.NOT_PRESENT)
            assert self.memory.read(0, MEMORY) == before
            return
        self.space.protect(vaddr, size, access, user)
        for page in self._pages_of(vaddr, size):
            old = self.pages[page]
            self.pages[page] = Page(old.paddr, self.layout.grants(access), old.user if user is None else user)

    @precondition(lambda self: bool(self.pages))
    @rule()
    def unmap_everything(self) -> None:
        first, last = min(self.pages), max(self.pages)
        assert self.space.unmap(first, last + self.layout.page - first) == len(self.pages) * self.layout.page
        self.pages.clear()
        assert self.memory.read(0, MEMORY) == self.blank, "all tables were given back"

    def _allowed(self, page: Page | None, wanted: Access, as_user: bool) -> bool:
        """What the manuals say of this access, with SMAP, SUM, PAN and the like off."""
        if page is None:
            return False
        if page.user == as_user:
            return wanted in page.access
        if as_user or isinstance(self.layout.config, RiscV):  # RISC-V without SUM keeps the supervisor out
            return False
        if isinstance(self.layout.config, AArch64):  # the kernel never executes what the user can reach
            return Access.EXECUTE not in wanted and wanted in page.access
        return wanted in page.access

    @rule(offset=st.integers(0, 4095), wanted=ACCESS, as_user=st.booleans())
    def translate(self, offset: int, wanted: Access, as_user: bool) -> None:
        pages = self._some_pages()
        vaddrs = pages + np.uint64(offset)
        known = [self.pages.get(int(page)) for page in pages]
        allowed = np.array([self._allowed(page, wanted, as_user) for page in known])
        paddrs = np.array([page.paddr + offset if page else 0 for page in known], dtype=np.uint64)
        for engine in ("auto", *self.space.engines):
            hits = self.space.translate(vaddrs, access=wanted, user=as_user, engine=engine)  # type: ignore[call-overload]
            np.testing.assert_array_equal(hits.ok, allowed, err_msg=engine)
            np.testing.assert_array_equal(hits.paddr[allowed], paddrs[allowed], err_msg=engine)
            assert (hits.paddr[~allowed] == np.uint64(2**64 - 1)).all()
        if allowed.any():
            first = int(np.flatnonzero(allowed)[0])
            assert self.space.translate(int(vaddrs[first]), access=wanted, user=as_user).paddr == int(paddrs[first])

    def _some_pages(self) -> npt.NDArray[np.uint64]:
        """Mapped pages, at most a few hundred, with the addresses next to them."""
        page = self.layout.page
        chosen = {self.layout.base, self.layout.base + self.layout.large}
        for vaddr in sorted(self.pages)[:: max(1, len(self.pages) // 256)]:
            chosen |= {vaddr - page, vaddr, vaddr + page}
        return np.array(sorted(chosen), dtype=np.uint64)

    @invariant()
    def enumeration_equals_the_dictionary(self) -> None:
        assert self.space.mappings().array["size"].sum(initial=0) == len(self.pages) * self.layout.page
        end = 0
        for found in self.space.mappings():
            assert found.vaddr >= end, "in ascending order, without overlap"
            end = found.vaddr + found.size
            assert found.page_size in (self.layout.page, self.layout.large)
            for vaddr in self._pages_of(found.vaddr, found.size):
                page = self.pages[vaddr]
                assert page.paddr == found.paddr + vaddr - found.vaddr
                assert page.user == (found.user_access != Access.NONE)
                assert page.access == (found.user_access if page.user else found.access)


@pytest.mark.parametrize("layout", FORMATS, ids=lambda layout: layout.name)
def test_agrees_with_a_dictionary(layout: Format) -> None:
    run_state_machine_as_test(
        type("Model", (PagingModel,), {"layout": layout}),
        settings=settings(
            max_examples=20, stateful_step_count=16, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
