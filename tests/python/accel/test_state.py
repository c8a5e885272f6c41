"""The state of vCPUs, VMs and hypervisors as Python attributes; the values themselves are tested in C++."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import vm_accel
from accel.guests import HALT, kvm_vm, real_mode_vcpu
from vm_accel import Hlt, Hypervisor, MpState, Vcpu, Vm, VmClock, create_hypervisor
from vm_accel.x86 import CpuidEntry, CpuidTable, X86DebugRegs, X86Fpu, X86Lapic, X86Xsave
from vm_core import AccessViolation, InvalidConfig, NotSupported, OutOfRange, PlatformError, VmError
from vm_mem import GuestMemory

LSTAR = 0xC0000082


@pytest.fixture
def vm() -> Iterator[Vm]:
    with kvm_vm() as machine:
        yield machine


@pytest.fixture
def hypervisor() -> Iterator[Hypervisor]:
    with kvm_vm(), create_hypervisor() as opened:
        yield opened


@pytest.fixture
def vcpu(vm: Vm, hypervisor: Hypervisor) -> Vcpu:
    made = vm.create_vcpu()
    made.cpuid = hypervisor.supported_cpuid
    return made


def test_fpu_registers_are_views(vcpu: Vcpu) -> None:
    fpu = vcpu.fpu
    assert fpu.xmm.shape == (16, 16) and fpu.fpr.shape == (8, 16)
    fpu.xmm[3].view(np.float32)[:] = [1, 2, 3, 4]
    fpu.fpr.view(np.longdouble)[0] = 0.5
    fpu.fcw, fpu.mxcsr, fpu.ftw = 0x27F, 0x1FA0, 0xFF
    vcpu.fpu = fpu
    back = vcpu.fpu
    assert back.xmm.view(np.float32)[3].tolist() == [1, 2, 3, 4]
    assert back.fpr.view(np.longdouble)[0, 0] == 0.5
    assert (back.fcw, back.mxcsr, back.ftw) == (0x27F, 0x1FA0, 0xFF)
    assert "mxcsr=0x1fa0" in repr(back) and "1 of 16" in repr(back)
    back.xmm = np.zeros((16, 16), np.uint8)
    assert not back.xmm.any()
    with pytest.raises(ValueError, match="broadcast"):
        back.xmm = np.zeros(5, np.uint8)


def test_a_view_keeps_its_registers() -> None:
    xmm = X86Fpu().xmm
    xmm[:] = 7
    assert xmm.sum() == 7 * 256


def test_xsave(vcpu: Vcpu) -> None:
    area = vcpu.xsave
    assert len(area) == area.data.size == len(bytes(area)) >= 4096
    legacy = area.legacy
    legacy.xmm[5] = 0x5A
    area.legacy = legacy
    assert area.xstate_bv & 2
    vcpu.xsave = X86Xsave(bytes(area))
    assert vcpu.fpu.xmm[5].tolist() == [0x5A] * 16
    assert vcpu.xsave.xcomp_bv == 0
    assert "xstate_bv=" in repr(area)
    with pytest.raises(InvalidConfig, match="KVM_CAP_XSAVE2"):
        vcpu.xsave = X86Xsave(bytes(1024))
    with pytest.raises(InvalidConfig):
        X86Xsave(b"short")
    with pytest.raises(InvalidConfig, match="contiguous"):
        X86Xsave(np.zeros(4096, np.uint8)[::2])


def test_xcrs(vcpu: Vcpu) -> None:
    assert vcpu.xcrs[0] & 1
    vcpu.xcrs = vcpu.xcrs
    with pytest.raises(PlatformError):
        vcpu.xcrs = {0: 2}
    with pytest.raises(InvalidConfig):
        vcpu.xcrs = {1: 1}


def test_debug_registers(vcpu: Vcpu) -> None:
    regs = X86DebugRegs()
    regs.dr = [0x1000, 2, 3, 4]
    regs.dr7 = 0x403
    vcpu.debug_regs = regs
    assert vcpu.debug_regs.dr == (0x1000, 2, 3, 4)
    assert "dr0=0x1000" in repr(vcpu.debug_regs) and "dr7=0x403" in repr(vcpu.debug_regs)
    regs.dr7 = 1 << 40
    with pytest.raises(PlatformError):
        vcpu.debug_regs = regs
    assert vcpu.debug_regs.dr7 == 0x403


def test_msrs_by_name_and_number(vcpu: Vcpu) -> None:
    vcpu.msrs["LSTAR"] = 0xFFFF800000001000
    assert vcpu.msrs[LSTAR] == vcpu.msrs["ia32_lstar"] == 0xFFFF800000001000
    vcpu.msrs.update({"STAR": 0x0023001000000000, LSTAR: np.uint64(0x2000)})  # type: ignore[dict-item]
    assert vcpu.msrs.read(["STAR", LSTAR]) == {0xC0000081: 0x0023001000000000, LSTAR: 0x2000}
    with pytest.raises(PlatformError, match="0x12345678"):
        vcpu.msrs[0x12345678]
    with pytest.raises(PlatformError, match="EFER"):
        vcpu.msrs["EFER"] = 1 << 63
    with pytest.raises(InvalidConfig, match="NOPE"):
        vcpu.msrs["NOPE"]
    with pytest.raises(InvalidConfig, match="32 bits"):
        vcpu.msrs[1 << 32]
    with pytest.raises(InvalidConfig):
        vcpu.msrs["LSTAR"] = -1
    assert vcpu.msrs["LSTAR"] == 0x2000
    assert "vCPU 0" in repr(vcpu.msrs)


def test_names_of_msrs() -> None:
    assert vm_accel.x86.msr_names()["EFER"] == 0xC0000080
    assert vm_accel.x86.msr_name(0xC0000080) == "EFER"
    assert vm_accel.x86.msr_name(0x99) == "0x99"


def test_cpuid_of_a_vcpu(hypervisor: Hypervisor, vm: Vm) -> None:
    table = hypervisor.supported_cpuid
    assert table.has("lm") and "lm" in table.features
    assert table[1].index is None and table[7, 0].index == 0
    table.set(CpuidEntry(0x80000002, eax=0x41424344))
    table.place(0, cores_per_package=2)
    vcpu = vm.create_vcpu()
    vcpu.cpuid = table
    assert vcpu.cpuid[0x80000002].eax == 0x41424344
    before = vcpu.cpuid
    table[0x80000008].eax = 0x3230  # 50 bits of virtual address
    with pytest.raises(PlatformError, match="widths"):
        vcpu.cpuid = table
    assert vcpu.cpuid == before
    assert hypervisor.emulated_cpuid != table
    minimal = hypervisor.supported_cpuid.minimal()
    assert minimal.has("sse2") and not minimal.has("avx")
    vcpu.cpuid = minimal
    assert 0x80000002 not in vcpu.cpuid


def test_a_table_is_edited_in_place() -> None:
    table = CpuidTable([CpuidEntry(1, ecx=0xFF), CpuidEntry(7, 0, ebx=1 << 5), CpuidEntry(7, 1)])
    entry = table[7, 0]
    assert table.has("avx2")
    entry.ebx = 0
    assert not table.has("avx2") and table[7].ebx == 0
    table.enable("avx2")
    assert entry.ebx == 1 << 5
    table.mask(1, ecx=0x0F)
    assert table[1].ecx == 0x0F
    assert repr(table[7, 1]) == "<CpuidEntry 0x7.1 eax=0x0 ebx=0x0 ecx=0x0 edx=0x0>"
    assert [(e.function, e.index) for e in table] == [(1, None), (7, 0), (7, 1)]
    copied = table.copy()
    assert copied == table
    del table[7, 0]
    assert len(table) == 2 and (7, 0) not in table and copied != table
    with pytest.raises(KeyError, match="any more"):
        entry.ebx = 1
    with pytest.raises(KeyError, match=r"0x7\.0"):
        table[7, 0]
    assert [e.function for e in copied.filter(lambda e: e.function == 7)] == [7, 7]
    other = CpuidTable([CpuidEntry(1), CpuidEntry(7, 0, ebx=0)])
    copied.intersect(other)
    assert copied.features == []
    with pytest.raises(InvalidConfig):
        table.has("avx3")
    with pytest.raises(OutOfRange):
        table.enable("avx2")
    with pytest.raises(InvalidConfig, match="twice"):
        CpuidTable([CpuidEntry(1), CpuidEntry(1)])
    with pytest.raises(InvalidConfig):
        table.place(0, cores_per_package=0)
    assert table.physical_bits == 36
    assert "avx2" in vm_accel.x86.cpuid_features()
    assert "3 entries" in repr(CpuidTable([CpuidEntry(1), CpuidEntry(2), CpuidEntry(3)]))


def test_events(vcpu: Vcpu) -> None:
    events = vcpu.events
    assert "none" in repr(events.exception) and events.exception.error_code is None
    events.exception.injected = True
    events.exception.vector = 13
    events.exception.error_code = 0x18
    events.nmi.masked = True
    vcpu.events = events
    back = vcpu.events
    assert back.exception.injected and back.exception.vector == 13 and back.exception.error_code == 0x18
    assert "vector=0xd error_code=0x18" in repr(back) and "<X86PendingNmi masked>" in repr(back)
    back.exception.pending = True
    with pytest.raises(InvalidConfig, match="not both"):
        vcpu.events = back
    assert vcpu.events.nmi.masked and not vcpu.events.smi.active and not vcpu.events.interrupt.soft


def test_names_are_names_or_numbers(vm: Vm, vcpu: Vcpu) -> None:
    with pytest.raises(TypeError):
        vm.check_extension(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        vcpu.msrs[None]  # type: ignore[index]


def test_lapic_and_mp_state(vm: Vm) -> None:
    with pytest.raises(InvalidConfig, match="interrupt controller"):
        vm.create_vcpu().lapic  # noqa: B018
    with create_hypervisor() as hypervisor, hypervisor.create_vm() as machine:
        if not machine.check_extension("split_irqchip"):
            pytest.skip("no KVM_CAP_SPLIT_IRQCHIP")
        machine.enable_capability("KVM_CAP_SPLIT_IRQCHIP", 24)
        vcpu = machine.create_vcpu()
        lapic = vcpu.lapic
        lapic.svr = 0x1FF
        lapic.tpr = 0x20
        vcpu.lapic = lapic
        assert vcpu.lapic.svr == 0x1FF == vcpu.lapic.read(0xF0) and vcpu.lapic.tpr == 0x20
        assert vcpu.lapic.irr == () == vcpu.lapic.isr
        assert "svr=0x1ff" in repr(vcpu.lapic)
        vcpu.mp_state = MpState.halted
        assert vcpu.mp_state is MpState.halted
        with pytest.raises(PlatformError):
            vcpu.mp_state = MpState.check_stop


def test_lapic_sets_are_tuples_of_vectors() -> None:
    lapic = X86Lapic()
    lapic.page[0x210] = 3
    assert lapic.irr == (32, 33)
    with pytest.raises(OutOfRange):
        lapic.read(3)


def test_time(vcpu: Vcpu, vm: Vm) -> None:
    khz = vcpu.tsc_khz
    assert khz > 1000
    vcpu.tsc_khz = khz
    if not vm.check_extension("tsc_control"):
        with pytest.raises(NotSupported, match="KVM_CAP_TSC_CONTROL"):
            vcpu.tsc_khz = khz // 2
        assert vcpu.tsc_khz == khz
    before = vcpu.tsc
    assert vcpu.tsc > before
    vcpu.tsc = 0
    with pytest.raises(PlatformError, match="kvmclock"):
        vcpu.kvmclock_ctrl()
    vm.clock = VmClock(3_600_000_000_000)
    assert 3_600_000_000_000 <= vm.clock.ns < 7_200_000_000_000
    assert "ns=" in repr(vm.clock) and vm.clock.tsc_stable in (True, False)


def test_page_directory_pointers(vcpu: Vcpu) -> None:
    assert vcpu.pdptrs is None
    with pytest.raises(InvalidConfig, match="PAE"):
        vcpu.pdptrs = (0, 0, 0, 0)


def test_nested_state(vcpu: Vcpu, vm: Vm) -> None:
    if vm.check_extension("nested_state"):
        vcpu.nested_state = vcpu.nested_state
    else:
        with pytest.raises(NotSupported, match="KVM_CAP_NESTED_STATE"):
            vcpu.nested_state  # noqa: B018
        with pytest.raises(NotSupported, match="KVM_CAP_NESTED_STATE"):
            vcpu.nested_state = b""


def test_registers_by_number(vcpu: Vcpu, vm: Vm) -> None:
    if not vm.check_extension("KVM_CAP_ONE_REG"):
        with pytest.raises(NotSupported, match="KVM_CAP_ONE_REG"):
            vcpu.registers.ids  # noqa: B018
        return
    number = 0x2030000200000000 | LSTAR
    vcpu.registers[number] = (0x4000).to_bytes(8, "little")
    assert int.from_bytes(vcpu.registers[number], "little") == 0x4000 == vcpu.msrs["LSTAR"]
    with pytest.raises(InvalidConfig, match="8 bytes"):
        vcpu.registers[number] = b"x"
    assert isinstance(vcpu.registers.ids, list)


def test_device_attributes(vcpu: Vcpu) -> None:
    assert not vcpu.attributes.has(77, 0)
    with pytest.raises(VmError, match="group 77"):
        vcpu.attributes.get(77, 0)
    with pytest.raises(VmError, match="group 77"):
        vcpu.attributes.set(77, 0, bytes(8))
    if vcpu.attributes.has(0, 0):  # the offset of the time stamp counter
        assert len(vcpu.attributes.get(0, 0)) == 8


def test_translate(vcpu: Vcpu) -> None:
    found = vcpu.translate(0x1234)
    assert found and found.valid and found.paddr == 0x1234  # paging is off
    assert found.writable in (True, False) and found.user in (True, False)
    assert repr(found) == "<X86Translation paddr=0x1234>"


def test_capabilities(hypervisor: Hypervisor, vm: Vm, vcpu: Vcpu) -> None:
    everything = hypervisor.capabilities
    assert everything["user_memory"] == 1 == hypervisor.check_extension("KVM_CAP_USER_MEMORY")
    assert vm.check_extension(3) == 1
    with pytest.raises(InvalidConfig, match="LUNCH"):
        vm.check_extension("KVM_CAP_FREE_LUNCH")
    with pytest.raises(InvalidConfig, match="up to 4"):
        vm.enable_capability("halt_poll", 1, 2, 3, 4, 5)
    with pytest.raises(PlatformError, match="user_memory"):
        vm.enable_capability("user_memory")
    with pytest.raises(PlatformError):
        vcpu.enable_capability("KVM_CAP_HYPERV_SYNIC", flags=7)
    if everything["halt_poll"]:
        vm.enable_capability("halt_poll", 100_000)
    assert hypervisor.msr_indices
    assert all(isinstance(value, int) for value in hypervisor.feature_msrs.values())


def test_performance_event_filter(vm: Vm) -> None:
    with pytest.raises(InvalidConfig, match="300"):
        vm.set_pmu_event_filter([0] * 301)
    if not vm.check_extension("pmu_event_filter"):
        pytest.skip("no KVM_CAP_PMU_EVENT_FILTER")
    vm.set_pmu_event_filter([0x3C, 0xC0], fixed_counters=1)
    vm.set_pmu_event_filter([], allow=False)


def test_state_belongs_to_the_thread_of_the_vcpu(vcpu: Vcpu) -> None:
    errors: list[VmError] = []

    def wrong_thread() -> None:
        for touch in (lambda: vcpu.fpu, lambda: vcpu.msrs["EFER"], lambda: vcpu.mp_state, lambda: vcpu.registers.ids):
            try:
                touch()
            except VmError as error:
                errors.append(error)

    thread = threading.Thread(target=wrong_thread)
    thread.start()
    thread.join()
    assert len(errors) == 4 and all(isinstance(error, AccessViolation) for error in errors)


def test_all_state_moves_to_another_vcpu(vm: Vm) -> None:
    memory = GuestMemory.anonymous(1 << 20)
    vm.map(memory)
    one = real_mode_vcpu(vm, memory, HALT)
    fpu = one.fpu
    fpu.xmm[0] = 9
    one.fpu = fpu
    other = vm.create_vcpu()
    for name in ("sregs", "regs", "xsave", "xcrs", "debug_regs", "events", "mp_state", "cpuid"):
        setattr(other, name, getattr(one, name))
    assert other.run(timeout=5) == Hlt()
    assert other.regs.rip == 0x1001 and other.fpu.xmm[0].tolist() == [9] * 16
