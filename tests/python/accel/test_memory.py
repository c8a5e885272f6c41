"""Memory and processors that come and go while a guest runs, from Python."""

from __future__ import annotations

import threading

import pytest
from accel.guests import FOREVER, HALT, kvm_vm, real_mode_vcpu
from vm_accel import Hlt, probe
from vm_core import AccessViolation, ClosedError, InvalidConfig, NotSupported, OutOfRange
from vm_mem import GuestMemory

PAGE = 4096
MIB = 1 << 20


def test_a_balloon_gives_memory_back() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.memfd(4 * MIB, huge_pages=None)
        memory.write(0, b"\xa5" * (4 * MIB))
        vm.map(memory)
        balloon = vm.balloon
        before = balloon.stats()
        assert (before.page_size, before.memory_bytes, before.resident_bytes) == (PAGE, 4 * MIB, 4 * MIB)
        balloon.inflate(MIB, 2 * MIB)
        balloon.inflate_pages([0, 2])
        stats = balloon.stats()
        assert stats.inflated_pages == stats.inflations == 514
        assert stats.resident_bytes == 4 * MIB - stats.inflated_bytes == memory.resident()
        assert balloon.ranges == [(0, PAGE), (2 * PAGE, PAGE), (MIB, 2 * MIB)]
        assert memory.read(0, 1) == b"\0"
        assert memory.read(PAGE, 1) == b"\xa5"
        assert repr(balloon) == "<Balloon: 2056 KiB inside>"
        assert repr(balloon.stats()).startswith("<BalloonStats: 514 pages in the balloon")
        balloon.deflate(MIB, 2 * MIB)
        balloon.deflate_pages([0, 2], populate=True)
        assert vm.balloon.ranges == []
        assert balloon.stats().deflations == 514
    with pytest.raises(ClosedError):
        balloon.stats()


def test_a_balloon_refuses() -> None:
    with kvm_vm() as vm:
        vm.map(GuestMemory.anonymous(MIB, huge_pages=None))
        vm.map(GuestMemory.anonymous(MIB, base=MIB, huge_pages=None), read_only=True)
        with pytest.raises(InvalidConfig):
            vm.balloon.inflate(1, PAGE)
        with pytest.raises(OutOfRange):
            vm.balloon.inflate(8 * MIB, PAGE)
        with pytest.raises(AccessViolation, match="read-only"):
            vm.balloon.inflate_pages([0, MIB // PAGE])
        assert vm.balloon.stats().inflations == 0


def test_a_guest_memfd_is_mapped_or_refused_by_name() -> None:
    with kvm_vm() as vm:
        if probe().capabilities["guest_memfd_flags"] & 3 != 3:
            with pytest.raises(NotSupported, match="KVM_CAP_"):
                vm.guest_memfd(MIB)
            pytest.skip("this kernel's guest_memfds cannot be mapped (KVM_CAP_GUEST_MEMFD_FLAGS)")
        memory = vm.guest_memfd(MIB)
        assert vm.map(memory)[0].name == "guest_memfd"
        assert real_mode_vcpu(vm, memory, HALT).run(timeout=5) == Hlt()


def test_what_the_kernel_lacks_is_named() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(MIB)
        vm.map(memory)
        vcpu = real_mode_vcpu(vm, memory, HALT)
        if not probe().has("memory_attributes"):
            with pytest.raises(NotSupported, match="KVM_CAP_MEMORY_ATTRIBUTES"):
                vm.set_private(0, PAGE)
        if not probe().has("pre_fault_memory"):
            with pytest.raises(NotSupported, match="KVM_CAP_PRE_FAULT_MEMORY"):
                vcpu.pre_fault(0, PAGE)
        with pytest.raises(InvalidConfig):
            vcpu.pre_fault(1, PAGE)


def test_vcpus_are_parked_and_handed_out_while_another_runs() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(MIB)
        vm.map(memory)
        spinning = real_mode_vcpu(vm, memory, FOREVER)
        ended: list[BaseException] = []

        attached = threading.Event()

        def spin() -> None:
            spinning.attach()
            attached.set()
            try:
                spinning.run(timeout=30)
            except ClosedError as error:
                ended.append(error)

        thread = threading.Thread(target=spin)
        thread.start()
        assert attached.wait(timeout=30)
        vcpu = real_mode_vcpu(vm, memory, HALT, at=0x3000)
        for _ in range(3):
            assert vcpu.run(timeout=5) == Hlt()
            vcpu.park()
            assert vcpu.closed
            assert vm.parked == [1]
            vcpu = vm.create_vcpu(id=1)
            regs = vcpu.regs
            assert regs.rip == 0x3001
            regs.rip = 0x3000
            vcpu.regs = regs
        assert vm.parked == []
        with pytest.raises(InvalidConfig, match="park"):
            vm.create_vcpu(id=1)
        spinning.park()
        thread.join(timeout=30)
        assert not thread.is_alive()
        assert len(ended) == 1
        assert vm.parked == [0]
