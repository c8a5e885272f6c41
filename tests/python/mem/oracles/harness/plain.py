"""Page tables without traps, for QEMU's monitor: its walker looks at addresses, not at rights and reserved bits.

Pages lie anywhere in the physical address space, for nothing is ever accessed.
"""

from __future__ import annotations

from . import aarch64, riscv, x86
from .aarch64_cases import STUB, VECTORS, VECTORS_VADDR, AArch64Cases
from .qemu import Qemu, memory_arguments
from .riscv_cases import RiscVCases
from .stub import place
from .x86_cases import X86Cases

SPIN = 0x600
"""Where in the page of vectors the AArch64 machine stops."""


class PlainX86(X86Cases):
    """Rights at random, entries well formed, no stub."""

    def map_stub(self) -> None:
        """Nothing runs."""

    def pointer(self, depth: int, frame: int) -> int:
        """Rights at random."""
        if self.levels == 3 and depth == 0:
            return frame | x86.PRESENT
        entry = frame | x86.PRESENT | self.chance(0.8, x86.WRITABLE) | self.chance(0.8, x86.USER_PAGE)
        return entry | (self.chance(0.1, x86.NO_EXECUTE) if self.levels > 2 else 0)

    def page(self, shift: int) -> int:
        """The whole physical address space."""
        bits = 32 if self.levels == 2 and shift == 12 else x86.PHYSICAL_BITS
        return self.random.getrandbits(bits) >> shift << shift

    def leaf(self, shift: int, page: int) -> int:
        """Sometimes absent, with the rest of the entry in place."""
        if shift == 22:
            page = page & 0xFFC0_0000 | (page >> 32) << 13
        entry = page | self.chance(0.95, x86.PRESENT) | self.chance(0.6, x86.WRITABLE)
        entry |= self.chance(0.6, x86.USER_PAGE) | (x86.LARGE if shift > 12 else 0)
        return entry | (self.chance(0.25, x86.NO_EXECUTE) if self.levels > 2 else 0)

    def state(self) -> x86.State:
        """Nothing forbidden to the supervisor."""
        return x86.State(self.levels, self.tables.root, pse=self.pse)

    def start(self) -> Qemu:
        """A machine that has not run, with paging on."""
        qemu = Qemu("qemu-system-x86_64", [*memory_arguments(self.ram, "pc"), "-cpu", "max", "-S"], gdb=True)
        qemu.gdb.describe("i386")
        cr3, cr0, cr4, efer, *_ = self.state().registers()
        for name, value in (("cr4", cr4), ("cr3", cr3), ("efer", efer), ("cr0", cr0)):
            qemu.gdb.set(name, value)
        return qemu


class PlainRiscV(RiscVCases):
    """Readable supervisor pages: the monitor walks as a load in S-mode."""

    def pointer(self, depth: int, frame: int) -> int:
        """Nothing but the address."""
        return frame >> 2 | riscv.VALID

    def page(self, shift: int) -> int:
        """The whole physical address space."""
        return self.random.getrandbits(34 if self.mode == "sv32" else 56) >> shift << shift

    def leaf(self, shift: int, page: int) -> int:
        """Sometimes absent, with the rest of the entry in place."""
        entry = page >> 2 | self.chance(0.95, riscv.VALID) | riscv.READABLE
        return entry | self.chance(0.5, riscv.WRITABLE) | self.chance(0.5, riscv.EXECUTABLE) | riscv.ACCESSED

    def state(self) -> riscv.State:
        """SUM and MXR off."""
        return riscv.State(self.mode, self.tables.root)

    def start(self) -> Qemu:
        """A machine that has not run, in S-mode, with all of memory open to it."""
        bits = 32 if self.mode == "sv32" else 64
        arguments = [*memory_arguments(self.ram, "virt"), "-cpu", f"rv{bits}", "-bios", "none", "-S"]
        qemu = Qemu(f"qemu-system-riscv{bits}", arguments, gdb=True)
        qemu.gdb.describe("riscv")
        everything = (1 << 54) - 1 if bits == 64 else (1 << 32) - 1
        for name, value in (("satp", self.state().satp()), ("pmpcfg0", 0x1F), ("pmpaddr0", everything), ("priv", 1)):
            qemu.gdb.set(name, value, bits // 8)
        return qemu


class PlainAArch64(AArch64Cases):
    """Pages that EL1 may read; a stub that switches translation on and stops in EL1."""

    def pointer(self, depth: int, frame: int) -> int:
        """Hierarchical restrictions do not concern reads from EL1."""
        entry = self.encode(frame) | aarch64.VALID | aarch64.TABLE | self.chance(0.1, aarch64.READ_ONLY_TABLE)
        return entry | self.chance(0.1, aarch64.NO_USER_TABLE)

    def page(self, shift: int) -> int:
        """The whole physical address space."""
        return self.random.getrandbits(self.mode.address_bits) >> shift << shift

    def leaf(self, shift: int, page: int) -> int:
        """Sometimes absent, with the rest of the entry in place."""
        last = shift == aarch64.page_bits(self.mode.granule)
        entry = self.encode(page) | self.chance(0.95, aarch64.VALID) | (aarch64.TABLE if last else 0)
        entry |= self.chance(0.5, aarch64.USER_ACCESS) | self.chance(0.5, aarch64.READ_ONLY) | aarch64.ACCESS_FLAG
        return entry | self.chance(0.5, aarch64.PXN) | self.chance(0.5, aarch64.UXN)

    def state(self) -> aarch64.State:
        """The widest addresses of the mode."""
        size = self.mode.size_offset
        halves = aarch64.Half(self.low.root, size), aarch64.Half(self.high.root, size)
        sizes = 6 if self.mode.wide else 5
        return aarch64.State(self.mode.granule, halves, sizes, self.mode.large_addresses)

    def start(self) -> Qemu:
        """A machine that has stopped in EL1 with translation on."""
        ram = self.ram
        batch = self.batch(self.state(), 1)
        place(ram, self.layout.parameters, self.layout.operations, [batch])
        self.write_stub(VECTORS_VADDR + SPIN)
        ram.write(VECTORS + SPIN, (0x1400_0000).to_bytes(4, "little"))
        arguments = [*memory_arguments(ram, "virt,virtualization=on"), "-cpu", "max", "-S"]
        arguments += ["-device", f"loader,addr={STUB:#x},cpu-num=0"]
        qemu = Qemu("qemu-system-aarch64", arguments, gdb=True)
        qemu.gdb.run_to(VECTORS_VADDR + SPIN)
        return qemu
