"""Random x86 address spaces and accesses, and the machine that performs them."""

from __future__ import annotations

from pathlib import Path

from . import x86
from .cases import Cases, Layout
from .qemu import QemuError, memory_arguments, run_to_exit
from .stub import FETCH, GRANULE, OFFSETS, STUBS, SUCCESS, Outcome

STUB, STUB_USER_PAGE = 0x10000, 0x13000

HARNESS = 64 << 20
"""[0, HARNESS) is identity-mapped for the stub; no test address lies there."""

LAYOUT = Layout(0, 2304 << 20, 0x8000, 1 << 20, HARNESS, 320 << 20)
"""Enough for one gigabyte page of memory, at 1 GiB."""

HIGH = 4 << 30
"""From here to the physical limit there is neither memory nor a device: to be read and written, but not run."""


class X86Cases(Cases[x86.State]):
    """Without `pse`, two-level entries set the page-size bit at random, and it means nothing."""

    breakpoint = b"\xcc"

    def __init__(self, path: Path, levels: int, seed: int, mappings: int, *, pse: bool = True) -> None:
        super().__init__(path, LAYOUT, x86.GEOMETRY[levels], seed)
        self.levels = levels
        self.pse = pse
        self.store_width = 8 if levels > 3 else 4
        (self.tables,) = self.trees(1)
        self.map_stub()
        self.own_tables = range(self.tables.root + self.geometry.table_size(0), self.frames.next)
        shifts = (12, 12, *x86.LARGE_SHIFTS[levels]) if pse else (12,)
        self._spare = max(1, HARNESS >> self.geometry.levels[0].shift)
        self.populate(self.tables, shifts, mappings, spare=self._spare)
        self.spots = [spot._replace(vaddr=x86.canonical(levels, spot.vaddr)) for spot in self.spots]

    def map_stub(self) -> None:
        """Identity-maps what the stub needs."""

        def pointer(depth: int, frame: int) -> int:
            top_of_pae = self.levels == 3 and depth == 0
            return frame | (x86.PRESENT if top_of_pae else x86.PRESENT | x86.WRITABLE | x86.USER_PAGE)

        last = len(self.geometry.levels) - 1
        for page in range(0, HARNESS, 4096):
            entry = page | x86.PRESENT | x86.WRITABLE | (x86.USER_PAGE if page == STUB_USER_PAGE else 0)
            assert self.tables.put(page, last, entry, pointer) is not None

    def flags_may_differ(self, place: int, surplus: int) -> bool:
        """QEMU sets A in the entries above one that faults, as the SDM permits; the library leaves them alone.

        QEMU 7.2 treats entries for gigabyte pages like those: A is set before the entry's own rights are looked at.
        What maps the stub is used by the stub only.
        """
        roots = range(self.tables.root, self.tables.root + self._spare * self.geometry.entry)
        early = self.leaf_places.get(place, 30) >= 30
        return place in self.own_tables or place in roots or (early and surplus == x86.ACCESSED)

    def child(self, depth: int, entry: int) -> int | None:
        """Follows entries with reserved bits too: the walk faults there, yet the tables below may as well exist."""
        shift = self.geometry.levels[depth].shift
        if not entry & x86.PRESENT or x86.is_leaf(self.levels, self.pse, shift, entry):
            return None
        return entry & (0xFFFF_F000 if self.levels == 2 else (1 << x86.PHYSICAL_BITS) - 4096)

    def pointer(self, depth: int, frame: int) -> int:
        """PDPT entries of PAE have neither rights nor, here, reserved bits: loading CR3 would fault."""
        shift = self.geometry.levels[depth].shift
        if self.levels == 3 and depth == 0:
            return frame | x86.PRESENT | self.chance(0.2, 0x18)
        entry = frame | self.chance(0.98, x86.PRESENT) | self.chance(0.5, x86.ACCESSED) | self.chance(0.2, 0x18)
        entry |= self.chance(0.85, x86.WRITABLE) | self.chance(0.8, x86.USER_PAGE) | self.chance(0.3, 0xE00)
        entry |= self.chance(0.5, x86.DIRTY)
        if self.levels > 2:
            entry |= self.chance(0.06, x86.NO_EXECUTE) | self.chance(0.01, 1 << self.random.randrange(40, 52))
            entry |= self.chance(0.01 if self.levels == 3 else 0.3, self.random.getrandbits(7) << 52)
        if shift >= 39:
            entry |= self.chance(0.01, x86.LARGE)
        elif not self.pse:
            entry |= self.chance(0.3, x86.LARGE)
        return entry

    def page(self, shift: int) -> int:
        """Memory, mostly."""
        pick = self.random
        if pick.random() < 0.1 and (self.levels > 2 or shift == 22):
            return pick.randrange(HIGH >> shift, 1 << x86.PHYSICAL_BITS - shift) << shift
        if shift == 30:
            return 1 << 30
        return pick.randrange(LAYOUT.data >> shift, LAYOUT.size >> shift) << shift

    def leaf(self, shift: int, page: int) -> int:
        """All bits at random, so that most entries grant something and a few set a reserved bit."""
        if shift == 22:
            page = page & 0xFFC0_0000 | (page >> 32) << 13
        entry = page | self.chance(0.95, x86.PRESENT) | self.chance(0.6, x86.WRITABLE)
        entry |= self.chance(0.6, x86.USER_PAGE) | self.chance(0.5, x86.ACCESSED) | self.chance(0.5, x86.DIRTY)
        entry |= self.chance(0.2, 0x18) | self.chance(0.2, 0x100) | self.chance(0.3, 0xE00)
        entry |= self.chance(0.2, 0x80) if shift == 12 else x86.LARGE | self.chance(0.2, 1 << 12)
        if self.levels == 2:
            return entry | (self.chance(0.05, 1 << 21) if shift == 22 else 0)
        entry |= self.chance(0.25, x86.NO_EXECUTE) | self.chance(0.03, 1 << self.random.randrange(40, 52))
        if self.levels == 3:
            entry |= self.chance(0.02, 1 << self.random.randrange(52, 63))
        else:
            entry |= self.chance(0.6, self.random.getrandbits(4) << 59) | self.chance(0.3, 0x7F << 52)
        if shift > 12:
            entry |= self.chance(0.04, 1 << self.random.randrange(13, shift))
        return entry

    def state(self) -> x86.State:
        """Key 0 is the stub's own and stays usable."""
        pick = self.random

        def flip() -> bool:
            return pick.random() < 0.5

        keyed = self.levels > 3
        return x86.State(
            levels=self.levels,
            root=self.tables.root,
            write_protect=flip(),
            no_execute=pick.random() < 0.8,
            smep=flip(),
            smap=flip(),
            ac=flip(),
            pse=self.pse,
            protection_keys=keyed and flip(),
            pkru=pick.getrandbits(32) & ~3,
            supervisor_keys=keyed and flip(),
            pkrs=pick.getrandbits(32) & ~3,
        )

    def registers(self, state: x86.State) -> tuple[int, ...]:
        """CR3, CR0, CR4, EFER, RFLAGS, PKRU, PKRS."""
        return state.registers()

    def walk(self, state: x86.State, vaddr: int, kind: int) -> Outcome:
        """The SDM's walk."""
        return x86.walk(self.load, state, vaddr, kind)

    def anywhere(self) -> int:
        """Half of them not canonical, where that exists."""
        if self.levels < 4:
            return self.random.getrandbits(32)
        vaddr = x86.canonical(self.levels, self.random.getrandbits(64))
        return vaddr ^ self.chance(0.5, self.random.randrange(1, 1 << 64 - self.geometry.bits) << self.geometry.bits)

    def address(self) -> int:
        """Never in the stub's own part."""
        while True:
            vaddr = super().address()
            if self.levels < 4:
                vaddr &= 0xFFFF_FFFF
            if vaddr & (1 << self.geometry.bits) - 1 >= HARNESS:
                return vaddr

    def usable(self, state: x86.State, vaddr: int, kind: int) -> bool:
        """Reads and writes may also go where there is nothing."""
        target = self.walk(state, vaddr + OFFSETS[kind & 3], kind).paddr
        if target is None or self.in_data(target & -GRANULE):
            return True
        return target >= HIGH and kind & 3 != FETCH

    def run_stub(self) -> None:
        """The stub ends the machine with 1 (QEMU shifts the value written and adds 1)."""
        self.ram.write(STUB, (STUBS / ("x86_64.bin" if self.levels > 3 else "x86_32.bin")).read_bytes())
        start = ("-cpu", "max", "-bios", str(STUBS / "x86_boot.bin"), "-device", "isa-debug-exit,iobase=0xf4,iosize=4")
        code = run_to_exit("qemu-system-x86_64", [*memory_arguments(self.ram, "pc"), *start])
        if code != 1:
            raise QemuError(f"the stub ended the machine with {code}: an exception that it does not expect")

    def matches(self, row: tuple[int, int, int, int, int], outcome: Outcome) -> bool:
        """Error code and CR2 of a fault must be exact; so must what was read."""
        vaddr, kind, status, value, code = row
        if outcome.paddr is None:
            # QEMU 7.2 reports a reserved bit with P clear. SDM vol. 3, 4.7: "bit 3 of the error code can be set only if
            # bit 0 is also set".
            code |= code >> 3 & 1
            wanted = (outcome.status, vaddr if outcome.status == x86.PAGE_FAULT else 0, outcome.code)
            return (status, value, code) == wanted
        if kind & 3 == FETCH:
            return (status, value) == (x86.BREAKPOINT, vaddr)
        if status != SUCCESS:
            return False
        mask = (1 << 64) - 1 if self.levels > 3 else 0xFFFF_FFFF
        return kind & 3 != 0 or not self.in_data(outcome.paddr & -GRANULE) or value == outcome.paddr & mask
