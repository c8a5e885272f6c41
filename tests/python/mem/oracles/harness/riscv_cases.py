"""Random RISC-V address spaces and accesses, and the machine that performs them."""

from __future__ import annotations

from pathlib import Path

from . import riscv
from .cases import Cases, Layout
from .qemu import QemuError, memory_arguments, run_to_exit
from .stub import FETCH, STUBS, SUCCESS, Outcome

STUB = 0x8000_0000
DEVICE_TREE = 16 << 20
"""QEMU puts its device tree just below 3 GiB."""

LAYOUT = Layout(STUB, 3 << 30, 0x8001_0000, 0x8010_0000, 0x8400_0000, 0xC000_0000, DEVICE_TREE)
LAYOUT_32 = LAYOUT._replace(size=3 << 29)

MACHINE = "virt"


class RiscVCases(Cases[riscv.State]):
    """With `extensions`, Svnapot and Svpbmt exist.

    QEMU 7.2 then departs from the manual, and the tables keep clear of where it does: it lets bits 60 to 54 be set, it
    takes the reserved memory type 3 in a leaf, and it ignores menvcfg.PBMTE = 0.
    """

    breakpoint = (0x0010_0073).to_bytes(4, "little")

    def __init__(self, path: Path, mode: riscv.Mode, seed: int, mappings: int, *, extensions: bool = False) -> None:
        super().__init__(path, LAYOUT_32 if mode == "sv32" else LAYOUT, riscv.GEOMETRY[mode], seed)
        self.mode = mode
        self.store_width = self.geometry.entry
        self.extensions = extensions
        (self.tables,) = self.trees(1)
        self.populate(self.tables, (*self.geometry.shifts(), 12, 12), mappings)
        self.spots = [spot._replace(vaddr=riscv.canonical(mode, spot.vaddr)) for spot in self.spots]

    def flags_may_differ(self, place: int, surplus: int) -> bool:
        """QEMU 7.2 sets A and D before it finds that an entry with the N bit is malformed."""
        entry = self.load(place)
        malformed = self.leaf_places.get(place) != 12 or entry >> 10 & 15 != 8
        return self.extensions and bool(entry & riscv.NAPOT) and malformed

    def child(self, depth: int, entry: int) -> int | None:
        """Follows pointers that fault too, but no leaf that looks like one."""
        if entry & (riscv.READABLE | riscv.EXECUTABLE) or not entry & riscv.VALID:
            return None
        table = riscv.frame_of(self.mode, entry)
        return table if self.layout.tables <= table < self.frames.next else None

    def _upper_bits(self) -> int:
        if self.mode == "sv32":
            return 0
        if self.extensions:
            return self.chance(0.02, 1 << riscv.PBMT_SHIFT) | self.chance(0.01, riscv.NAPOT)
        return self.chance(0.02, 1 << self.random.randrange(54, 64))

    def pointer(self, depth: int, frame: int) -> int:
        """Now and then with a bit that pointers must not have."""
        entry = frame >> 2 | self.chance(0.98, riscv.VALID) | self.chance(0.3, 0x300) | self.chance(0.2, riscv.GLOBAL)
        stray = self.random.choice((riscv.USER_PAGE, riscv.ACCESSED, riscv.DIRTY, riscv.WRITABLE))
        return entry | self.chance(0.02, stray) | (self._upper_bits() if self.random.random() < 0.5 else 0)

    def page(self, shift: int) -> int:
        """Memory; the largest pages start at 0 and hold all of it."""
        pick, layout = self.random, self.layout
        if shift > 30:
            return 0
        return pick.randrange(layout.data >> shift, (layout.base + layout.size) >> shift) << shift

    def leaf(self, shift: int, page: int) -> int:
        """All bits at random; superpages are misaligned now and then."""
        entry = page >> 2 | self.chance(0.96, riscv.VALID) | self.chance(0.75, riscv.READABLE)
        entry |= self.chance(0.55, riscv.WRITABLE) | self.chance(0.5, riscv.EXECUTABLE)
        entry |= self.chance(0.5, riscv.USER_PAGE) | self.chance(0.2, riscv.GLOBAL) | self.chance(0.3, 0x300)
        entry |= self.chance(0.5, riscv.ACCESSED) | self.chance(0.5, riscv.DIRTY)
        if shift > 12 and not entry & (riscv.READABLE | riscv.WRITABLE | riscv.EXECUTABLE):
            entry |= riscv.ACCESSED  # else it were a pointer into the data
        if shift > 12:
            entry |= self.chance(0.06, 1 << self.random.randrange(10, shift - 2))
        if self.extensions:
            if self.random.random() < 0.3 and shift == 12:
                entry = entry & ~(15 << 10) | 8 << 10 | riscv.NAPOT
                entry |= self.chance(0.05, 1 << self.random.randrange(10, 13))
            entry |= self.chance(0.3, self.random.randrange(1, 3) << riscv.PBMT_SHIFT)
            return entry | self.chance(0.01, riscv.NAPOT)
        return entry | self._upper_bits()

    def state(self) -> riscv.State:
        """SUM and MXR at random."""
        pick = self.random
        return riscv.State(
            mode=self.mode,
            root=self.tables.root,
            sum=pick.random() < 0.5,
            mxr=pick.random() < 0.5,
            svnapot=self.extensions,
            svpbmt=self.extensions,
        )

    def registers(self, state: riscv.State) -> tuple[int, ...]:
        """satp, mstatus, menvcfg."""
        return state.registers()

    def walk(self, state: riscv.State, vaddr: int, kind: int) -> Outcome:
        """The manual's walk."""
        return riscv.walk(self.load, state, vaddr, kind)

    def anywhere(self) -> int:
        """Half of them not canonical, where that exists."""
        if self.mode == "sv32":
            return self.random.getrandbits(32)
        vaddr = riscv.canonical(self.mode, self.random.getrandbits(64))
        return vaddr ^ self.chance(0.5, self.random.randrange(1, 1 << 64 - self.geometry.bits) << self.geometry.bits)

    def address(self) -> int:
        """RV32 registers hold 32 bits."""
        return super().address() & (0xFFFF_FFFF if self.mode == "sv32" else (1 << 64) - 1)

    def run_stub(self) -> None:
        """The stub ends the machine through the test device."""
        bits = "32" if self.mode == "sv32" else "64"
        self.ram.write(STUB, (STUBS / f"riscv{bits}.bin").read_bytes())
        extensions = "svnapot=on,svpbmt=on" if self.extensions else "svnapot=off,svpbmt=off"
        processor = f"rv{bits}" + (f",{extensions}" if bits == "64" else "")
        arguments = [*memory_arguments(self.ram, MACHINE), "-cpu", processor, "-bios", "none"]
        code = run_to_exit(f"qemu-system-riscv{bits}", arguments)
        if code != 0:
            raise QemuError(f"the stub ended the machine with {code}")

    def matches(self, row: tuple[int, int, int, int, int], outcome: Outcome) -> bool:
        """Cause and faulting address must be exact; so must what was read."""
        vaddr, kind, status, value, _ = row
        if outcome.paddr is None:
            return (status, value) == (outcome.status, vaddr)
        if kind & 3 == FETCH:
            return (status, value) == (riscv.BREAKPOINT, vaddr)
        mask = 0xFFFF_FFFF if self.mode == "sv32" else (1 << 64) - 1
        return status == SUCCESS and (kind & 3 != 0 or value == outcome.paddr & mask)
