"""Snapshots and dirty pages from Python: the arrays, the fuzzer's loop, files, forks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from accel.guests import kvm_vm, real_mode_vcpu
from vm_accel import DirtyRingFull, IoOut, Snapshot, Vcpu, Vm, create_hypervisor
from vm_core import ClosedError, InvalidConfig, NotSupported, OutOfRange
from vm_mem import GuestMemory

SIZE = 1 << 20
PAGE = 4096
# Counts in al and in the first byte of each page from 0x10000 on, through ds: inc ax; mov [0], al; mov cx, ds;
# add cx, 0x100; mov ds, cx; out dx, al; jmp to the start.
COUNT = bytes([0x40, 0xA2, 0, 0, 0x8C, 0xD9, 0x81, 0xC1, 0x00, 0x01, 0x8E, 0xD9, 0xEE, 0xEB, 0xF1])


def counting_vcpu(vm: Vm, memory: GuestMemory) -> Vcpu:
    vcpu = real_mode_vcpu(vm, memory, COUNT)
    sregs = vcpu.sregs
    sregs.ds.selector = 0x1000
    sregs.ds.base = 0x10000
    vcpu.sregs = sregs
    return vcpu


def tell(vcpu: Vcpu, count: int) -> list[int]:
    told = []
    for _ in range(count):
        match vcpu.run(timeout=10):
            case IoOut(data=data):
                told.append(data[0])
            case other:
                pytest.fail(repr(other))
    return told


def test_the_loop_of_a_fuzzer() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(SIZE)
        vm.map(memory)
        vcpu = counting_vcpu(vm, memory)
        tell(vcpu, 2)
        snapshot = vm.snapshot()
        before = vm.memory.read(0, SIZE)
        for data in (b"one", b"another"):
            vm.write(0x8000, data)
            assert tell(vcpu, 5) == [3, 4, 5, 6, 7]
            assert vm.restore(snapshot) == 6
            assert vm.memory.read(0, SIZE) == before
        memory.write(0x9000, b"unsaid")
        assert vm.restore(snapshot) == 0
        assert vm.restore(snapshot, compare=True) == 1
        memory.write(0x9000, b"said")
        vm.mark_dirty(0x9000, 4)
        assert vm.restore(snapshot) == 1
        assert vm.memory.read(0, SIZE) == before
        assert snapshot.memory_size == SIZE
        assert snapshot.vcpu_ids == [0]
        assert (snapshot.backend, snapshot.architecture) == ("kvm", "x86_64")
        assert repr(snapshot) == "<Snapshot kvm x86_64: 1024 KiB, 12 KiB of it not zeros, 1 vCPU>"
        with pytest.raises(OutOfRange):
            vm.write(SIZE - 1, b"ab")


def test_files(tmp_path: Path) -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(SIZE)
        vm.map(memory)
        vcpu = counting_vcpu(vm, memory)
        tell(vcpu, 2)
        path = tmp_path / "guest.snapshot"
        vm.snapshot().save(path)
        assert path.stat().st_size < 64 << 10
        with create_hypervisor("kvm") as other:
            clone = Snapshot.load(path).clone(other)
            assert tell(clone.vcpus[0], 2) == [3, 4]
        assert clone.closed
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(InvalidConfig, match=r"at offset 0x.*guest-physical address 0x1"):
            Snapshot.load(path)


def test_forks_are_apart() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(SIZE)
        vm.map(memory)
        vcpu = counting_vcpu(vm, memory)
        tell(vcpu, 2)
        child = vm.fork()
        assert tell(vcpu, 2) == [3, 4]
        assert child.memory.read(0x12000, 1) == b"\0"
        vm.close()
        assert tell(child.vcpus[0], 3) == [3, 4, 5]
        child.close()
        with pytest.raises(ClosedError):
            child.snapshot()


def test_dirty_pages_are_arrays() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(SIZE)
        vm.map(memory, log_dirty=True)
        vcpu = counting_vcpu(vm, memory)
        log = vm.dirty_log
        assert (log.method, log.page_size) == ("bitmap", PAGE)
        assert repr(log) == "<DirtyLog, bitmap>"
        tell(vcpu, 3)
        pages = log.take(0)
        assert pages.dtype == np.bool_
        assert pages.shape == (SIZE // PAGE,)
        assert np.flatnonzero(pages).tolist() == [16, 17, 18]
        assert not log.take(0).any()
        with pytest.raises(InvalidConfig, match="manual"):
            log.peek(0)


def test_manual_clearing() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(SIZE)
        try:
            vm.dirty_log.use_manual()
        except NotSupported as error:
            pytest.skip(str(error))
        vm.map(memory, log_dirty=True)
        tell(counting_vcpu(vm, memory), 3)
        vm.dirty_log.clear(0, 17, 1)
        assert np.flatnonzero(vm.dirty_log.peek(0)).tolist() == [16, 18]


def test_rings() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(SIZE)
        try:
            vm.dirty_log.use_ring(1024)
        except NotSupported as error:
            pytest.skip(str(error))
        vm.map(memory, log_dirty=True)
        tell(counting_vcpu(vm, memory), 3)
        pages = vm.dirty_log.collect(0)
        assert pages.dtype == np.uint64
        assert pages.tolist() == [0x10000, 0x11000, 0x12000]
        assert vm.dirty_log.reset() == 3
        assert vm.dirty_log.collect().size == 0
        assert DirtyRingFull() == DirtyRingFull()
