"""Guests small enough to write by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from vm_accel import Vcpu, Vm, create_hypervisor
from vm_core import NotSupported
from vm_mem import GuestMemory

# A port loop in real mode: mov dx, 0x3f8; add al, bl; add al, '0'; out dx, al; hlt.
PRINT_SUM = bytes([0xBA, 0xF8, 0x03, 0x00, 0xD8, 0x04, ord("0"), 0xEE, 0xF4])
FOREVER = bytes([0xEB, 0xFE])
HALT = bytes([0xF4])


@contextmanager
def kvm_vm() -> Iterator[Vm]:
    """A VM of the hypervisor that works here; skips the test, saying why, where none does."""
    try:
        hypervisor = create_hypervisor()
    except NotSupported as error:
        pytest.skip(str(error))
    with hypervisor:
        if hypervisor.architecture != "x86_64":
            pytest.skip(f"the guest code is x86, the hypervisor runs {hypervisor.architecture}")
        with hypervisor.create_vm() as vm:
            yield vm


def real_mode_vcpu(vm: Vm, memory: GuestMemory, code: bytes, at: int = 0x1000) -> Vcpu:
    """A new vCPU about to execute ``code`` at the physical address ``at`` in real mode."""
    memory.write(at, code)
    vcpu = vm.create_vcpu()
    sregs = vcpu.sregs
    sregs.cs.base = 0
    sregs.cs.selector = 0
    vcpu.sregs = sregs
    regs = vcpu.regs
    regs.rip = at
    regs.rflags = 2
    vcpu.regs = regs
    return vcpu
