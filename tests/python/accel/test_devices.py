"""Devices and run loops through Python."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from accel.guests import FOREVER, kvm_vm, real_mode_vcpu
from vm_accel import DeviceBus, Hlt, IoIn, IoOut, Timeout, Vm
from vm_accel.debug import StopRequest
from vm_accel.devices import (
    BufferSink,
    Cmos,
    DebugExit,
    EchoPort,
    EmptyPci,
    FwCfg,
    IgnoredPort,
    IrqLinePorts,
    KeyboardController,
    MemoryDevice,
    PageFlushPort,
    PowerOffPort,
    Serial,
)
from vm_core import ClosedError, InvalidConfig, OutOfRange
from vm_mem import GuestMemory

PRINT_HI = bytes([0xB0, ord("h"), 0xE6, 0x80, 0xB0, ord("i"), 0xE6, 0x80, 0xF4])
"""mov al, 'h'; out 0x80, al; mov al, 'i'; out 0x80, al; hlt."""


class Recorder:
    """A device in Python."""

    def __init__(self, answer: int = 0x42) -> None:
        self.answer = answer
        self.written: list[tuple[int, int, int]] = []

    def read(self, offset: int, width: int) -> int:
        return self.answer

    def write(self, offset: int, width: int, value: int) -> None:
        self.written.append((offset, width, value))


def with_memory(vm: Vm) -> GuestMemory:
    memory = GuestMemory.anonymous(1 << 20)
    vm.map(memory)
    return memory


def test_python_devices_answer_in_a_loop() -> None:
    with kvm_vm() as vm:
        device = Recorder()
        vcpu = real_mode_vcpu(vm, with_memory(vm), bytes([0xE4, 0x10, 0xE6, 0x11, 0xF4]))
        result = vm.run_loop({range(0x10, 0x12): device}, timeout=10)
        assert result.exit == Hlt() and result.stop is None and result.vcpu == 0
        assert device.written == [(1, 1, 0x42)]
        assert vcpu.exit_counts == {"IoIn": 1, "IoOut": 1, "Hlt": 1}
        assert "Hlt" in repr(result)


def test_devices_of_the_library_need_no_python() -> None:
    with kvm_vm() as vm:
        output = BufferSink()
        bus = DeviceBus()
        bus.add_ports(0x80, 1, Serial(output), "console")
        vcpu = real_mode_vcpu(vm, with_memory(vm), PRINT_HI)
        assert vm.run_loop(bus).exit == Hlt() and vcpu.exit_counts["IoOut"] == 2
        assert output.data == b"hi"
        (used,) = bus.ranges
        assert (used.space, used.base, used.size, used.name, used.traffic.writes) == ("port", 0x80, 1, "console", 2)
        assert isinstance(used.device, Serial)
        assert "console" in repr(used) and "1 range" in repr(bus)


def test_what_a_device_raises_reaches_the_caller() -> None:
    class Broken(Recorder):
        def write(self, offset: int, width: int, value: int) -> None:
            raise LookupError("no such register")

    with kvm_vm() as vm:
        memory = with_memory(vm)
        vcpus = [real_mode_vcpu(vm, memory, FOREVER), real_mode_vcpu(vm, memory, PRINT_HI, at=0x2000)]
        with pytest.raises(LookupError, match="no such register"):
            vm.run_loop({0x80: Broken()}, timeout=10)
        with pytest.raises(TypeError, match="must return an int"):
            real_mode_vcpu(vm, memory, bytes([0xE4, 0x10]), at=0x3000).run_loop({0x10: Recorder("x")})  # type: ignore[arg-type]
        assert not any(vcpu.closed for vcpu in vcpus)


def test_a_loop_ends_by_request_timeout_and_ctrl_c() -> None:
    with kvm_vm() as vm:
        memory = with_memory(vm)
        vcpus = [real_mode_vcpu(vm, memory, FOREVER, at=at) for at in (0x1000, 0x2000)]
        assert vm.run_loop({}, timeout=0.02).exit == Timeout()
        stop = StopRequest()
        other = threading.Thread(target=stop.request, args=("exit", 5, "a thread"))
        other.start()
        result = vm.run_loop(None, stop=stop)
        other.join()
        assert result.stop is not None
        assert (result.stop.kind, result.stop.status, result.stop.source) == ("exit", 5, "a thread")
        stop.clear()
        assert stop.reason is None
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            vm.run_loop({})
        assert vm.run_loop({}, timeout=0.02).exit == Timeout()
        assert len(vcpus) == len(vm.vcpus)
        with pytest.raises(InvalidConfig, match="cancelled"):
            stop.request("crash")  # type: ignore[arg-type]


def test_a_request_ends_the_loop_of_one_vcpu() -> None:
    with kvm_vm() as vm:
        vcpu = real_mode_vcpu(vm, with_memory(vm), FOREVER)
        stop = StopRequest()
        other = threading.Timer(0.02, stop.request)
        other.start()
        result = vcpu.run_loop(None, timeout=30, stop=stop)
        other.join()
        assert result.stop is not None
        assert vcpu.run(timeout=0.01) == Timeout()


class Closing:
    """Closes the VM whose access it answers."""

    def __init__(self, vm: Vm, stop: StopRequest | None = None) -> None:
        self.vm = vm
        self.stop = stop

    def read(self, offset: int, width: int) -> int:
        return 0

    def write(self, offset: int, width: int, value: int) -> None:
        if self.stop is not None:
            self.stop.request("power_off")
        self.vm.close()


def test_a_device_may_close_the_vm() -> None:
    code = bytes.fromhex("ba 80 00 66 b8 11 22 33 44 66 ef f4")  # mov dx, 0x80; mov eax, 0x44332211; out dx, eax
    with kvm_vm() as vm:
        vcpu = real_mode_vcpu(vm, with_memory(vm), code)
        bus = DeviceBus()
        bus.add_ports(0x80, 1, Closing(vm))  # the access comes byte by byte
        bus.add_ports(0x81, 3, Recorder())
        with pytest.raises(ClosedError):
            vcpu.run_loop(bus, timeout=30)
    with kvm_vm() as vm:
        vcpu = real_mode_vcpu(vm, with_memory(vm), code)
        stop = StopRequest()
        bus = DeviceBus()
        bus.add_ports(0x80, 4, Closing(vm, stop))
        result = vm.run_loop(bus, timeout=30, stop=stop)
        assert result.exit == IoOut(port=0x80, data=bytes.fromhex("11 22 33 44"), size=4)


def test_an_unclaimed_access_can_be_the_callers() -> None:
    with kvm_vm() as vm:
        vcpu = real_mode_vcpu(vm, with_memory(vm), bytes([0xE4, 0x10, 0xF4]))
        bus = DeviceBus()
        exit_ = vcpu.run_loop(bus, stop_at_unclaimed=True).exit
        assert exit_ == IoIn(0x10)
        assert isinstance(exit_, IoIn)
        exit_.reply(7)
        assert vcpu.run_loop(bus).exit == Hlt()
        assert vcpu.regs.rax & 0xFF == 7
        assert bus.unclaimed_ports.reads == 0


def test_ranges_are_checked() -> None:
    bus = DeviceBus()
    device = Recorder()
    bus.add_memory(0x1000, 0x1000, device)
    with pytest.raises(InvalidConfig, match="overlap"):
        bus.add_memory(0x1800, 1, device)
    with pytest.raises(InvalidConfig, match="0xffff"):
        bus.add_ports(0xFFFF, 2, device)
    with pytest.raises(TypeError, match=r"read\(offset, width\)"):
        bus.add_ports(0, 1, object())  # type: ignore[arg-type]
    assert bus.ranges[0].device is device
    assert bus.remove_memory(0x1000) and not bus.remove_memory(0x1000) and not bus.remove_ports(1)
    with kvm_vm() as vm, pytest.raises(TypeError, match="range"):
        vm.run_loop({"com1": device})  # type: ignore[dict-item]


def test_serial_output_goes_anywhere(tmp_path: Path) -> None:
    got: list[bytes] = []
    with (tmp_path / "out").open("wb") as file:
        for sink in (None, file, file.fileno(), got.append):
            Serial(sink).write(0, 1, ord("x"))
    assert (tmp_path / "out").read_bytes() == b"xx" and got == [b"x"]
    with pytest.raises(TypeError, match="function that takes bytes"):
        Serial("com1")  # type: ignore[arg-type]
    levels: list[bool] = []
    serial = Serial(line=levels.append)
    serial.write(4, 1, 8)
    serial.write(1, 1, 1)
    serial.feed(b"a")
    assert serial.waiting == 1 and serial.read(0, 1) == ord("a") and levels == [True, False]
    kept = BufferSink(2)
    for letter in b"abcde":
        Serial(kept).write(0, 1, letter)
    assert kept.data == b"de" and kept.dropped == 3


def test_small_devices() -> None:
    stops = {
        DebugExit: [(0, 4, 3)],
        PowerOffPort: [(0, 1, letter) for letter in b"Shutdown"],
        KeyboardController: [(4, 1, 0xFE)],
        EmptyPci: [(1, 1, 6)],
    }
    ends = []
    for kind, writes in stops.items():
        stop = StopRequest()
        device = kind(stop)  # type: ignore[abstract]
        for offset, width, value in writes:
            device.write(offset, width, value)
        assert stop.reason is not None
        ends.append((stop.reason.kind, stop.reason.status))
    assert ends == [("exit", 7), ("power_off", 0), ("reset", 0), ("reset", 0)]
    echo, memory = EchoPort(), MemoryDevice(8)
    echo.write(0, 4, 0xABCD)
    memory.write(4, 4, 0x1234)
    assert (echo.read(0, 4), memory.read(0, 8), IgnoredPort().read(0, 1)) == (0xABCD, 0x1234 << 32, 0)
    with pytest.raises(OutOfRange):
        memory.read(8, 1)
    lines: list[tuple[int, bool]] = []
    IrqLinePorts(lambda line, high: lines.append((line, high))).write(5, 1, 1)
    assert lines == [(5, True)]
    guest = GuestMemory.anonymous(1 << 16)
    guest.write(0x1000, b"kept")
    PageFlushPort(guest).write(0, 4, 0x1000)
    assert guest.read(0x1000, 4) == b"kept"


def test_facts_for_the_guest() -> None:
    config = FwCfg(1 << 30, 2)
    number = config.add_file("opt/name", b"data")
    config.set(0x1234, b"\x01")
    read = {}
    for item in (0, 5, number, 0x1234):
        config.write(0, 2, item)
        read[item] = bytes(config.read(1, 1) for _ in range(4))
    assert read == {0: b"QEMU", 5: b"\x02\0\0\0", number: b"data", 0x1234: b"\x01\0\0\0"}
    clock = Cmos(128 << 20, now=lambda: 0.0)
    clock.write(0, 1, 0x32)
    assert clock.read(1, 1) == 0x19
