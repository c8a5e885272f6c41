"""The ``vm-mem`` command in this process, and images for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mem.guest_support import PT_NOTE, Segment, elf_core, note, qemu_cpu_state
from vm_core import Access
from vm_mem import GuestMemory
from vm_mem.paging import X86, AddressSpace

DATA = Path(__file__).parents[2] / "data"
REAL_GUEST = DATA / "linux_guest.elf.xz"

KERNEL = 0xFFFF_8880_0000_0000
TEXT = 0xFFFF_FFFF_8100_0000
USER = 0x40_0000
ROOT = 0x3000
CR0 = 0x8005_0033
CR4 = 0x6B0
"""PSE and PAE; no SMEP, SMAP or protection keys."""

_CONTROL = 392
"""Where QEMU's CPU note holds CR0 to CR4."""


@dataclass
class Result:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Run = Callable[..., Result]


def make_memory() -> GuestMemory:
    """2 MiB with a kernel that maps it all, code for the kernel and a page for the user."""
    memory = GuestMemory.anonymous(2 << 20)
    space = AddressSpace(memory, X86(levels=4, root=ROOT), tables=range(0x10000, 0x40000))
    space.map(KERNEL, 0, 2 << 20, Access.READ | Access.WRITE)
    space.map(TEXT, 0x100000, 0x20000, Access.READ | Access.EXECUTE)
    space.map(USER, 0x80000, 0x1000, Access.READ | Access.WRITE, user=True)
    return memory


def save_raw(folder: Path) -> Path:
    """The memory alone."""
    path = folder / "guest.raw"
    make_memory().save(path)
    return path


def save_core(
    folder: Path,
    cpus: tuple[tuple[int, int, int], ...] = ((CR0, ROOT, CR4),),
    rflags: int = 2,
    *,
    machine: int = 62,
    bits: int = 64,
) -> Path:
    """An ELF core as QEMU writes it, with CR0, CR3 and CR4 of each CPU."""
    memory = make_memory()
    states = [
        qemu_cpu_state([(_CONTROL, cr0), (_CONTROL + 24, cr3), (_CONTROL + 32, cr4), (136, TEXT), (144, rflags)])
        for cr0, cr3, cr4 in cpus
    ]
    notes = b"".join(note(b"QEMU", 0, state) for state in states)
    path = folder / "guest.elf"
    segments = [Segment(0, notes, kind=PT_NOTE), Segment(0, memory.read(0, memory.size))]
    path.write_bytes(elf_core(segments, machine=machine, bits=bits))
    return path
