"""Guests in long mode, identity-mapped, at privilege level 0."""

from __future__ import annotations

from vm_accel import Vcpu, Vm
from vm_core import Access
from vm_mem import GuestMemory
from vm_mem.paging import X86, AddressSpace

TABLES = 0x80000
HIGH = 0x7F0000000000
"""Where the first half megabyte is seen once more."""


def long_mode_vcpu(vm: Vm, memory: GuestMemory, code: bytes, at: int = 0x1000) -> Vcpu:
    """A new vCPU about to execute ``code`` at ``at``, which is also seen at HIGH + ``at``."""
    memory.write(at, code)
    space = AddressSpace(memory, X86(levels=4, root=TABLES), tables=range(TABLES + 0x1000, TABLES + 0x10000))
    every = Access.READ | Access.WRITE | Access.EXECUTE
    space.map(0, 0, TABLES, every)
    space.map(HIGH, 0, TABLES, every)
    vcpu = vm.create_vcpu()
    sregs = vcpu.sregs
    for segment in (sregs.cs, sregs.ds, sregs.es, sregs.ss, sregs.fs, sregs.gs):
        segment.base, segment.limit, segment.selector, segment.type = 0, 0xFFFFFFFF, 16, 3
        segment.present = segment.code_or_data = segment.granularity = segment.db = True
    sregs.cs.selector, sregs.cs.type, sregs.cs.long_mode, sregs.cs.db = 8, 11, True, False
    sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer = 0x80000011, TABLES, 0x20, 0x500
    vcpu.sregs = sregs
    regs = vcpu.regs
    regs.rip, regs.rsp, regs.rflags = at, 0x7000, 2
    vcpu.regs = regs
    return vcpu
