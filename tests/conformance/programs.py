"""What the guests of the suite do: as x86 code for hypervisors that execute, as a script for the one that does not.

Code begins at `ENTRY` in the first `RAM` bytes of memory. Segments that begin at `OUTSIDE` point at addresses that no
program maps unless its test does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vm_accel import Hlt, IoIn, IoOut, MmioRead, MmioWrite, RdMsr, Shutdown, WrMsr
from vm_accel.testing import Block, Do, Loop, ScriptedGuest, Step
from vm_accel.x86 import X86Regs, X86SpecialRegs

ENTRY = 0x1000
DATA = 0x2000
RAM = 1 << 20
OUTSIDE = 0x20_0000
TEXT = b"Hello, port"


@dataclass(frozen=True)
class Program:
    """One guest program.

    code: x86 machine code, or None when no code does this on every hypervisor.
    script: the same for a scripted hypervisor, or None when it depends on an execution.
    regs, sregs: change the registers that the vCPU begins with (real mode, all segments at 0).
    data: lies at `DATA`.
    """

    code: bytes | None
    script: Sequence[Step] | None
    regs: Callable[[X86Regs], None] | None = None
    sregs: Callable[[X86SpecialRegs], None] | None = None
    data: bytes = b""


def _data_outside(sregs: X86SpecialRegs) -> None:
    sregs.ds.base = OUTSIDE


def _long_mode(sregs: X86SpecialRegs) -> None:
    """Privilege 0, 64 bits, the first 4 MiB mapped to themselves by the tables of `LONG_MODE_TABLES`."""
    sregs.cr0 |= 0x8000_0001
    sregs.cr3 = DATA
    sregs.cr4 |= 0x20
    sregs.efer = 0x500
    sregs.cs.type, sregs.cs.long_mode, sregs.cs.db = 0xB, True, False
    sregs.cs.selector, sregs.cs.limit, sregs.cs.granularity = 8, 0xFFFF_FFFF, True


# PML4 at DATA -> PDPT -> page directory with two pages of 2 MiB; present, writable; bit 7: a large page.
LONG_MODE_TABLES = b"".join(
    (
        (DATA + 0x1000 | 3).to_bytes(0x1000, "little"),
        (DATA + 0x2000 | 3).to_bytes(0x1000, "little"),
        (0x83).to_bytes(8, "little") + (OUTSIDE | 0x83).to_bytes(0xFF8, "little"),
    )
)


def _at_data(register: str, count: int) -> Callable[[X86Regs], None]:
    def change(regs: X86Regs) -> None:
        setattr(regs, register, DATA)
        regs.rcx = count

    return change


def _keep_reply(guest: ScriptedGuest) -> None:
    guest.memory.write(DATA, guest.reply)


HALT = Program(bytes([0xF4]), [Hlt()])
FOREVER = Program(bytes([0xEB, 0xFE]), [Loop([Block()])])
# mov dx, 0x3f8; again: out dx, al; jmp again
PORT_LOOP = Program(bytes([0xBA, 0xF8, 0x03, 0xEE, 0xEB, 0xFD]), [Loop([IoOut(port=0x3F8, data=b"\x00")])])
# mov dx, 0x3f8; out dx, al; jmp $
PORT_THEN_FOREVER = Program(
    bytes([0xBA, 0xF8, 0x03, 0xEE, 0xEB, 0xFE]), [IoOut(port=0x3F8, data=b"\x00"), Loop([Block()])]
)

# mov eax, 0x44332211; out 0x80, al; out 0x80, ax; out 0x80, eax; hlt
PORT_WRITES = Program(
    bytes([0x66, 0xB8, 0x11, 0x22, 0x33, 0x44, 0xE6, 0x80, 0xE7, 0x80, 0x66, 0xE7, 0x80, 0xF4]),
    [
        IoOut(port=0x80, data=b"\x11"),
        IoOut(port=0x80, data=b"\x11\x22", size=2),
        IoOut(port=0x80, data=b"\x11\x22\x33\x44", size=4),
        Hlt(),
    ],
)


def _gather(register: str) -> Do:
    def move(guest: ScriptedGuest) -> None:
        setattr(guest.regs, register, int.from_bytes(guest.reply, "little"))

    return Do(move)


# in eax, 0x60; mov ecx, eax; xor eax, eax; in ax, 0x60; mov bx, ax; xor eax, eax; in al, 0x60; hlt
PORT_READS = Program(
    bytes([0x66, 0xE5, 0x60, 0x66, 0x89, 0xC1, 0x66, 0x31, 0xC0, 0xE5, 0x60, 0x89, 0xC3, 0x66, 0x31, 0xC0])
    + bytes([0xE4, 0x60, 0xF4]),
    [
        IoIn(port=0x60, size=4),
        _gather("rcx"),
        IoIn(port=0x60, size=2),
        _gather("rbx"),
        IoIn(port=0x60, size=1),
        _gather("rax"),
        Hlt(),
    ],
)

# mov dx, 0x3f8; rep outsb; hlt
STRING_WRITE = Program(
    bytes([0xBA, 0xF8, 0x03, 0xF3, 0x6E, 0xF4]),
    [IoOut(port=0x3F8, data=TEXT), Hlt()],
    regs=_at_data("rsi", len(TEXT)),
    data=TEXT,
)
# mov dx, 0x3f8; rep insw; hlt
STRING_READ = Program(
    bytes([0xBA, 0xF8, 0x03, 0xF3, 0x6D, 0xF4]),
    [IoIn(port=0x3F8, size=2, count=5), Do(_keep_reply), Hlt()],
    regs=_at_data("rdi", 5),
)


def _wide_regs(regs: X86Regs) -> None:
    regs.rdi = OUTSIDE
    regs.rax = 0x8877_6655_4433_2211


_WORD = bytes.fromhex("1122334455667788")
# mov [rdi], al; mov [rdi], ax; mov [rdi], eax; mov [rdi], rax; hlt
MMIO_WRITES = Program(
    bytes([0x88, 0x07, 0x66, 0x89, 0x07, 0x89, 0x07, 0x48, 0x89, 0x07, 0xF4]),
    [*(MmioWrite(paddr=OUTSIDE, data=_WORD[:size]) for size in (1, 2, 4, 8)), Hlt()],
    regs=_wide_regs,
    sregs=_long_mode,
    data=LONG_MODE_TABLES,
)


def _count_down_regs(regs: X86Regs) -> None:
    regs.rdi = OUTSIDE


# mov rax, [rdi]; mov rbx, rax; mov eax, [rdi]; mov ecx, eax; movzx edx, word [rdi]; movzx esi, byte [rdi]; hlt
MMIO_READS = Program(
    bytes([0x48, 0x8B, 0x07, 0x48, 0x89, 0xC3, 0x8B, 0x07, 0x89, 0xC1, 0x0F, 0xB7, 0x17, 0x0F, 0xB6, 0x37, 0xF4]),
    [
        MmioRead(paddr=OUTSIDE, size=8),
        _gather("rbx"),
        MmioRead(paddr=OUTSIDE, size=4),
        _gather("rcx"),
        MmioRead(paddr=OUTSIDE, size=2),
        _gather("rdx"),
        MmioRead(paddr=OUTSIDE, size=1),
        _gather("rsi"),
        Hlt(),
    ],
    regs=_count_down_regs,
    sregs=_long_mode,
    data=LONG_MODE_TABLES,
)

# mov al, 0x5a; mov [0], al; mov al, [0]; out 0x80, al; hlt
WRITE_OUTSIDE = Program(
    bytes([0xB0, 0x5A, 0xA2, 0x00, 0x00, 0xA0, 0x00, 0x00, 0xE6, 0x80, 0xF4]),
    [MmioWrite(paddr=OUTSIDE, data=b"\x5a"), IoOut(port=0x80, data=b"\x11"), Hlt()],
    sregs=_data_outside,
)
# again: mov al, [0]; out 0x80, al; jmp again
SHOW_OUTSIDE = Program(bytes([0xA0, 0x00, 0x00, 0xE6, 0x80, 0xEB, 0xF9]), None, sregs=_data_outside)


def _long_mode_without_interrupts(sregs: X86SpecialRegs) -> None:
    _long_mode(sregs)
    sregs.idt.limit = 0


# ud2 without an interrupt table: #UD, a double fault, and a third
TRIPLE_FAULT = Program(bytes([0x0F, 0x0B]), [Shutdown()], sregs=_long_mode_without_interrupts, data=LONG_MODE_TABLES)
# mov ecx, 0x174; rdmsr; wrmsr; hlt
READ_AND_WRITE_MSR = Program(
    bytes([0x66, 0xB9, 0x74, 0x01, 0x00, 0x00, 0x0F, 0x32, 0x0F, 0x30, 0xF4]),
    [RdMsr(index=0x174, reason=4), WrMsr(index=0x174, value=0x1122_3344_5566_7788, reason=4), Hlt()],
)
# mov eax, 0x80000002; cpuid; out 0x80, eax; hlt
SHOW_CPUID = Program(
    bytes([0x66, 0xB8, 0x02, 0x00, 0x00, 0x80, 0x0F, 0xA2, 0x66, 0xE7, 0x80, 0xF4]),
    [IoOut(port=0x80, data=b"ABCD", size=4), Hlt()],
)
