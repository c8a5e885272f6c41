"""What the guest is told about its processor, and which registers of it come out."""

from __future__ import annotations

import pytest
from conformance.machines import Machine, load
from conformance.programs import RAM, READ_AND_WRITE_MSR, SHOW_CPUID
from vm_accel import Hlt, IoOut, RdMsr, Vm, WrMsr
from vm_accel.x86 import MsrRange
from vm_core import NotSupported
from vm_mem import GuestMemory

FILTERED = 4  # KVM_MSR_EXIT_REASON_FILTER


def filter_msr(vm: Vm, allowed: bool, **kinds: bool) -> None:
    """Let accesses that the filter denies come out, and deny or allow SYSENTER_CS; or skip, with what is missing."""
    try:
        vm.set_msr_exits(filtered=True)
        vm.set_msr_filter([MsrRange(0x174, [allowed], **kinds)])
    except NotSupported as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("allowed", [False, True])
def test_a_filter_decides_which_registers_come_out(machine: Machine, allowed: bool) -> None:
    with machine.vm(READ_AND_WRITE_MSR) as vm:
        memory = GuestMemory.anonymous(RAM)
        vm.map(memory)
        filter_msr(vm, allowed)
        vcpu = load(vm, READ_AND_WRITE_MSR, memory)
        if not allowed:
            read = vcpu.run(timeout=10)
            assert read == RdMsr(index=0x174, reason=FILTERED)
            assert isinstance(read, RdMsr)
            read.reply(0x1122_3344_5566_7788)
            assert vcpu.run(timeout=10) == WrMsr(index=0x174, value=0x1122_3344_5566_7788, reason=FILTERED)
        assert vcpu.run(timeout=10) == Hlt()


def test_a_filter_can_let_reads_pass(machine: Machine) -> None:
    with machine.vm(READ_AND_WRITE_MSR) as vm:
        memory = GuestMemory.anonymous(RAM)
        vm.map(memory)
        filter_msr(vm, False, reads=False)
        vcpu = load(vm, READ_AND_WRITE_MSR, memory)
        assert vcpu.run(timeout=10) == WrMsr(index=0x174, value=0, reason=FILTERED)
        assert vcpu.run(timeout=10) == Hlt()


def test_the_guest_sees_the_cpuid_that_it_was_given(machine: Machine) -> None:
    with machine.open(SHOW_CPUID) as hypervisor, hypervisor.create_vm() as vm:
        try:
            table = hypervisor.supported_cpuid
        except NotSupported as error:
            pytest.skip(str(error))
        memory = GuestMemory.anonymous(RAM)
        vm.map(memory)
        vcpu = load(vm, SHOW_CPUID, memory)
        table[0x8000_0002].eax = 0x4443_4241
        vcpu.cpuid = table
        assert vcpu.run(timeout=10) == IoOut(port=0x80, data=b"ABCD", size=4)
        assert vcpu.run(timeout=10) == Hlt()
