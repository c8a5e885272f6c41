"""The kernel's binary statistics: the format, hostile files, and KVM itself."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

import pytest
from accel.guests import HALT, PRINT_SUM, kvm_vm, real_mode_vcpu
from hypothesis import given
from hypothesis import strategies as st
from vm_accel import Hlt, IoOut, Vm
from vm_accel.stats import Kind, Statistic, Statistics, Unit, read_statistics
from vm_accel.testing import ScriptedHypervisor
from vm_core import ClosedError, InvalidConfig, NotSupported, VmError
from vm_mem import GuestMemory

NAME = 16


def file_of(descriptors: list[tuple[int, int, int, int, int, bytes]], data: bytes, count: int | None = None) -> bytes:
    """As Linux, api.rst §4.133 describes it: header, id, descriptors, data."""
    table = b"".join(struct.pack("=IhHII", *d[:5]) + d[5].ljust(NAME, b"\0") for d in descriptors)
    start = 24 + NAME
    number = len(descriptors) if count is None else count
    header = struct.pack("=IIIIII", 0, NAME, number, 24, start, start + len(table))
    return header + b"kvm-1".ljust(NAME, b"\0") + table + data


def read(tmp_path: Path, content: bytes) -> dict[str, Statistic]:
    path = tmp_path / "stats"
    path.write_bytes(content)
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_statistics(fd)
    finally:
        os.close(fd)


def test_the_format(tmp_path: Path) -> None:
    descriptors = [
        (0x000, 0, 1, 8, 0, b"exits"),
        (0x121, -30, 1, 0, 0, b"memory"),
        (0x022, -9, 1, 16, 0, b"longest"),
        (0x003, 0, 2, 24, 10, b"linear"),
        (0x034, 0, 3, 40, 0, b"log"),
        (0xFEE, 0, 1, 64, 0, b"future"),
    ]
    values = (7, 3, 2_000_000_000, 1, 2, 4, 5, 6, 9)
    got = read(tmp_path, file_of(descriptors, struct.pack("=9Q", *values)))
    assert list(got) == ["exits", "memory", "longest", "linear", "log", "future"]
    assert got["exits"] == Statistic("exits", Kind.CUMULATIVE, Unit.NONE, 10, 0, 0, (3,))
    assert (int(got["memory"]), got["memory"].base, got["memory"].kind) == (7, 2, Kind.INSTANT)
    assert got["memory"].scaled == 7 / 2**30
    assert (got["longest"].unit, got["longest"].scaled) == (Unit.SECONDS, 2.0)
    assert (got["linear"].values, got["linear"].bucket_size) == ((1, 2), 10)
    assert (got["log"].kind, got["log"].unit, got["log"].values) == (Kind.LOG_HISTOGRAM, Unit.CYCLES, (4, 5, 6))
    assert (got["future"].kind, got["future"].unit) == (Kind.UNKNOWN, Unit.UNKNOWN)
    with pytest.raises(InvalidConfig, match="2 buckets"):
        _ = got["linear"].value


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 24,
        file_of([(0, 0, 1, 0, 0, b"cut")], b""),
        file_of([(0, 0, 0, 0, 0, b"empty")], b"\0" * 8),
        file_of([(0, 0, 1, 0xFFFFFFF0, 0, b"far")], b"\0" * 8),
        file_of([(0, 0, 1, 0, 0, b"")], b"\0" * 8),
        file_of([], b"", count=0xFFFFFFFF),
        file_of([], b"", count=9),
    ],
)
def test_what_is_no_statistics_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InvalidConfig, match="no statistics"):
        read(tmp_path, content)


@given(st.binary(max_size=120), st.integers(0, 119), st.integers(0, 255))
def test_damaged_files_never_do_more_than_fail(noise: bytes, at: int, byte: int) -> None:
    whole = bytearray(file_of([(0, 0, 1, 0, 0, b"one"), (3, 0, 2, 8, 4, b"two")], b"\1" * 24))
    whole[at % len(whole)] = byte
    for content in (noise, bytes(whole)):
        fd = os.memfd_create("stats")
        try:
            os.write(fd, content)
            read_statistics(fd)
        except VmError:
            pass
        finally:
            os.close(fd)


def with_statistics(vm: Vm) -> dict[str, Statistic]:
    try:
        return vm.stats
    except NotSupported as error:
        pytest.skip(str(error))


def test_kvm_counts() -> None:
    with kvm_vm() as vm:
        of_vm = with_statistics(vm)
        assert of_vm and all(len(entry.values) >= 1 for entry in of_vm.values())
        memory = GuestMemory.anonymous(1 << 20)
        vm.map(memory)
        vcpu = real_mode_vcpu(vm, memory, PRINT_SUM)
        before = vcpu.stats
        assert isinstance(vcpu.run(timeout=5), IoOut)
        assert vcpu.run(timeout=5) == Hlt()
        after = vcpu.stats
        assert before.keys() == after.keys()
        assert int(after["exits"]) > int(before["exits"])
        assert after["exits"].kind is Kind.CUMULATIVE


def test_a_descriptor_is_read_from_any_thread_while_the_guest_rests() -> None:
    with kvm_vm() as vm:
        with_statistics(vm)
        memory = GuestMemory.anonymous(1 << 20)
        vm.map(memory)
        vcpu = real_mode_vcpu(vm, memory, HALT)
        seen: list[int] = []
        with Statistics(vcpu.open_stats()) as statistics:
            vcpu.run(timeout=5)
            thread = threading.Thread(target=lambda: seen.append(int(statistics.read()["exits"])))
            thread.start()
            thread.join()
        assert seen and seen[0] > 0
        with pytest.raises(ClosedError):
            statistics.read()
        statistics.close()
        with Statistics(vm.open_stats()) as of_vm:
            assert of_vm.read().keys() == vm.stats.keys()


def test_hypervisors_without_statistics_say_so() -> None:
    with ScriptedHypervisor() as hypervisor, hypervisor.create_vm() as vm:
        vcpu = vm.create_vcpu()
        for ask in (lambda: vm.stats, lambda: vcpu.stats, vm.open_stats, vcpu.open_stats):
            with pytest.raises(NotSupported, match="statistics"):
                ask()
