"""The performance monitor: what is counted where, what stays unknown."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from accel.guests import FOREVER, PRINT_SUM, kvm_vm, real_mode_vcpu
from vm_accel import Hlt, IoIn, IoOut, PerformanceMonitor, PerformanceSnapshot, Timeout, Vm
from vm_accel.monitor import IoTraffic, VcpuSnapshot, live, table
from vm_accel.monitor.procfs import resident_bytes, thread_times
from vm_accel.testing import Block, Do, Loop, ScriptedHypervisor
from vm_core import ClosedError, InvalidConfig, NotSupported
from vm_mem import GuestMemory, Mmu
from vm_mem.paging import X86

PAGE = 4096


@pytest.fixture
def vm() -> Iterator[Vm]:
    steps = [Loop([IoOut(0x3F8, b"x"), Hlt()])]
    with ScriptedHypervisor({0: steps, 1: steps}) as hypervisor, hypervisor.create_vm() as machine:
        yield machine


def test_exits_are_those_since_the_monitor_began(vm: Vm) -> None:
    vcpu = vm.create_vcpu()
    vcpu.run()
    with PerformanceMonitor(vm) as monitor:
        for _ in range(5):
            vcpu.run()
        first = monitor.snapshot()
        assert first.exits == {"Hlt": 3, "IoOut": 2} and first.exits_total == 5
        vcpu.run()
        late = vm.create_vcpu()
        late.run()
        delta = monitor.snapshot() - first
        assert [(seen.vcpu_id, seen.exits) for seen in delta.vcpus] == [(0, {"IoOut": 1}), (1, {"IoOut": 1})]
        assert delta.exits_per_s == pytest.approx(2 / delta.elapsed_s)
        with pytest.raises(InvalidConfig, match="later - earlier"):
            first - monitor.snapshot()


def test_nothing_that_nobody_measured_has_a_number(vm: Vm) -> None:
    kept = vm.create_vcpu()
    with PerformanceMonitor(vm, measure=False) as monitor:
        seen = monitor.snapshot()
    assert not kept.measured
    (vcpu,) = seen.vcpus
    assert (vcpu.run_ns, vcpu.handler_ns, vcpu.guest_share, vcpu.executions) == (None, None, None, None)
    nothing = (seen.tlb_hit_rate, seen.tlb_lookups, seen.jit_execution_rate, seen.jit_total, seen.io, seen.kernel)
    assert nothing == (None,) * 6
    assert (seen.run_ns, seen.handler_ns, seen.io_read_bytes_per_s) == (None, None, None)
    assert seen.cpu_utilisation_of(9) is None
    assert (seen.mapped_bytes, seen.resident_bytes) == (0, 0)


def test_time_in_the_guest_and_in_handlers() -> None:
    at_work, go_on = threading.Event(), threading.Event()

    def work(_: object) -> None:
        at_work.set()
        assert go_on.wait(30)

    with ScriptedHypervisor([Do(work), Hlt(), Hlt()]) as hypervisor, hypervisor.create_vm() as vm:
        vcpu = vm.create_vcpu()
        assert not vcpu.measured
        with PerformanceMonitor(vm) as monitor:
            assert vcpu.measured
            threading.Thread(target=lambda: (at_work.wait(30), go_on.set())).start()
            vcpu.run()
            first = monitor.snapshot()
            assert first.run_ns is not None and 0 < first.run_ns <= first.elapsed_ns
            assert first.handler_ns == 0  # nothing between runs yet
            vcpu.run()
            second = monitor.snapshot()
            assert second.handler_ns is not None and second.handler_ns > 0
            assert second.run_ns is not None and second.run_ns + second.handler_ns <= second.elapsed_ns
            share = second.vcpus[0].guest_share
            assert share is not None and 0 < share < 1
        assert not vcpu.measured
        before = vcpu.run_ns, vcpu.handler_ns
        with pytest.raises(InvalidConfig):
            vcpu.run()  # the script is over
        assert (vcpu.run_ns, vcpu.handler_ns) == before


def test_a_vcpu_that_was_measured_before_stays_so(vm: Vm) -> None:
    vcpu = vm.create_vcpu()
    vcpu.measure(True)
    vcpu.run()
    with PerformanceMonitor(vm, measure=False) as monitor:
        assert monitor.snapshot().run_ns == 0
        vcpu.run()
        seen = monitor.snapshot().run_ns
        assert seen is not None and seen > 0
    assert vcpu.measured


def test_closed_vcpus_keep_their_figures(vm: Vm) -> None:
    with PerformanceMonitor(vm) as monitor:
        vcpu = vm.create_vcpu()
        monitor.watch(vcpu)
        monitor.watch(vcpu)
        vcpu.run()
        vcpu.close()
        del vcpu
        for _ in range(2):
            (seen,) = monitor.snapshot().vcpus
            assert seen.closed and seen.exits == {"IoOut": 1}
        vm.close()
        last = monitor.snapshot()
        assert (last.mapped_bytes, last.resident_bytes, last.exits_total) == (None, None, 1)
    monitor.close()
    with pytest.raises(ClosedError):
        monitor.snapshot()
    assert "closed" in repr(monitor)


def test_vcpus_of_another_vm_are_refused(vm: Vm) -> None:
    vm.create_vcpu()
    with ScriptedHypervisor() as other, other.create_vm() as stranger, PerformanceMonitor(vm) as monitor:
        kept = vm.create_vcpu()
        monitor.watch(kept)
        stranger.create_vcpu()
        with pytest.raises(InvalidConfig, match="not of the VM"):
            monitor.watch(stranger.create_vcpu(1))


def test_what_callers_record(vm: Vm) -> None:
    with PerformanceMonitor(vm) as monitor:
        monitor.record_io(0x3F8, written_bytes=3, name="serial")
        monitor.record_io(0x3F8, read_bytes=1)
        monitor.record_io(range(0xFEB00000, 0xFEB01000), read_bytes=8)
        monitor.record_jit(3, 4)
        monitor.record_jit(1, 4)
        monitor.record_execution(7, 1500)
        monitor.record_execution(7, 500)
        first = monitor.snapshot()
        assert first.io == (
            IoTraffic("port", 0x3F8, 1, "serial", 1, 1, 1, 3),
            IoTraffic("memory", 0xFEB00000, 0x1000, "", 1, 0, 8, 0),
        )
        assert first.jit_execution_rate == 0.5 and f"{first.jit_execution_rate:.2%}" == "50.00%"
        (emulated,) = first.vcpus
        assert (emulated.vcpu_id, emulated.executions, emulated.execution_ns) == (7, 2, 2000)
        assert emulated.run_ns is None
        monitor.record_io(0x3F8, written_bytes=10)
        monitor.record_execution(7, 1)
        delta = monitor.snapshot() - first
        assert delta.io is not None and delta.io[0] == IoTraffic("port", 0x3F8, 1, "serial", 0, 1, 0, 10)
        assert delta.io_written_bytes_per_s == pytest.approx(10 / delta.elapsed_s)
        assert delta.jit_total == 0 and delta.jit_execution_rate is None
        assert (delta.vcpus[0].executions, delta.vcpus[0].execution_ns) == (1, 1)


def test_records_that_make_no_sense_are_refused(vm: Vm) -> None:
    with PerformanceMonitor(vm) as monitor:
        for wrong in (
            lambda: monitor.record_io(0x10000, 1),
            lambda: monitor.record_io(-1, 1),
            lambda: monitor.record_io(0x60),
            lambda: monitor.record_io(0x60, -1, 2),
            lambda: monitor.record_io(range(8, 8), 1),
            lambda: monitor.record_io(range(0, 8, 2), 1),
            lambda: monitor.record_jit(5, 4),
            lambda: monitor.record_jit(-1, 4),
            lambda: monitor.record_execution(0, -1),
        ):
            with pytest.raises(InvalidConfig):
                wrong()


@dataclass
class Traffic:
    reads: int = 0
    writes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0


@dataclass
class Range:
    space: str
    base: int
    size: int
    name: str
    traffic: Traffic = field(default_factory=Traffic)


@dataclass
class Bus:
    ranges: list[Range]


def test_a_bus_is_counted_from_when_it_is_attached(vm: Vm) -> None:
    bus = Bus([Range("port", 0x60, 1, "keyboard", Traffic(5, 0, 5, 0))])
    with PerformanceMonitor(vm) as monitor:
        monitor.attach_bus(bus)
        monitor.attach_bus(bus)
        bus.ranges[0].traffic.reads += 2
        bus.ranges[0].traffic.read_bytes += 2
        bus.ranges.append(Range("memory", 0x1000, 16, "late", Traffic(0, 1, 0, 4)))
        assert monitor.snapshot().io == (
            IoTraffic("port", 0x60, 1, "keyboard", 2, 0, 2, 0),
            IoTraffic("memory", 0x1000, 16, "late", 0, 1, 0, 4),
        )


def test_tlb_hits_come_from_attached_mmus(vm: Vm) -> None:
    memory = GuestMemory.anonymous(1 << 20)
    memory.write(0x1000, (0x2003).to_bytes(8, "little"))  # a table of 4 levels whose first entry leads to
    memory.write(0x2000, (0x83).to_bytes(8, "little"))  # one page of 1 GiB
    mmu = Mmu(memory, X86(root=0x1000))
    mmu.translate(0x3000)
    with PerformanceMonitor(vm) as monitor:
        monitor.attach_mmu(mmu)
        monitor.attach_mmu(mmu)
        assert (monitor.snapshot().tlb_lookups, monitor.snapshot().tlb_hit_rate) == (0, None)
        lookups = mmu.stats.l1.lookups
        for _ in range(4):
            mmu.translate(0x2000)
        seen = monitor.snapshot()
        assert seen.tlb_lookups == mmu.stats.l1.lookups - lookups > 0
        assert seen.tlb_hit_rate is not None and seen.tlb_hit_rate > 0.5


def test_resident_memory_is_what_was_touched(vm: Vm) -> None:
    memory = GuestMemory.anonymous(64 * PAGE, huge_pages=None)
    vm.map(memory)
    with PerformanceMonitor(vm) as monitor:
        before = monitor.snapshot()
        assert before.mapped_bytes == 64 * PAGE
        if before.resident_bytes is None:
            pytest.skip("/proc/self/pagemap cannot be read here")
        for page in (0, 1, 40):
            memory.write(page * PAGE, b"x")
        assert monitor.snapshot().resident_bytes == before.resident_bytes + 3 * PAGE
        vm.map(memory, at=1 << 30)  # the same memory a second time
        twice = monitor.snapshot()
        assert (twice.mapped_bytes, twice.resident_bytes) == (128 * PAGE, before.resident_bytes + 3 * PAGE)


def test_pagemap_is_read_with_care(tmp_path: Path) -> None:
    folder = tmp_path / "self"
    folder.mkdir()
    assert resident_bytes([(0, PAGE)], tmp_path) is None
    pagemap = folder / "pagemap"
    pagemap.write_bytes(b"".join((n % 2 << 63).to_bytes(8, sys.byteorder) for n in range(8)))
    assert resident_bytes([(0, 4 * PAGE), (5 * PAGE, 2 * PAGE)], tmp_path) == 3 * PAGE
    assert resident_bytes([(0, 100 * PAGE)], tmp_path) is None  # it ends too early
    assert resident_bytes([], tmp_path) == 0


def test_thread_times_from_either_file(tmp_path: Path) -> None:
    task = tmp_path / "self" / "task" / "7"
    task.mkdir(parents=True)
    assert thread_times(7, tmp_path) is None
    (task / "stat").write_text("7 (odd ) name) S " + " ".join(["0"] * 10 + ["30", "12"]) + "\n")
    from_ticks = thread_times(7, tmp_path)
    assert from_ticks is not None and from_ticks.wait_ns is None and from_ticks.cpu_ns > 0
    (task / "schedstat").write_text("123 45 6\n")
    times = thread_times(7, tmp_path)
    assert times is not None and (times.cpu_ns, times.wait_ns) == (123, 45)
    (task / "schedstat").write_text("nonsense\n")
    assert thread_times(7, tmp_path) == from_ticks


def test_cpu_time_belongs_to_the_thread_that_owns_the_vcpu(vm: Vm, tmp_path: Path) -> None:
    vcpu, other = vm.create_vcpu(), vm.create_vcpu()
    task = tmp_path / "self" / "task" / str(vcpu.owner_tid)
    task.mkdir(parents=True)
    (task / "schedstat").write_text("1000 10 1\n")
    with PerformanceMonitor(vm, proc=tmp_path) as monitor:
        (task / "schedstat").write_text("5000 30 1\n")
        first = monitor.snapshot()
        assert [(seen.cpu_ns, seen.wait_ns) for seen in first.vcpus] == [(4000, 20)] * 2
        assert first.cpu_ns == 4000  # one thread
        assert first.cpu_utilisation == 4000 / first.elapsed_ns
        thread = threading.Thread(target=other.attach)
        thread.start()
        thread.join()
        second = monitor.snapshot()
        assert second.vcpus[1].cpu_ns is None  # nothing to read about the new thread
        assert (second - first).vcpus[1].cpu_ns is None
        assert (second - first).vcpus[0].cpu_ns == 0


def test_snapshots_are_frozen_and_plain(vm: Vm) -> None:
    vcpu = vm.create_vcpu()
    with PerformanceMonitor(vm) as monitor:
        vcpu.run()
        monitor.record_io(0x60, 1)
        seen = monitor.snapshot()
        plain = json.loads(json.dumps(seen.as_dict()))
        assert plain["exits"] == {"IoOut": 1} and plain["vcpus"][0]["exits"] == {"IoOut": 1}
        assert plain["io"][0]["base"] == 0x60 and plain["tlb_hit_rate"] is None
        with pytest.raises(dataclasses.FrozenInstanceError):
            seen.elapsed_ns = 1  # type: ignore[misc]


def sample(**values: object) -> PerformanceSnapshot:
    vcpu = VcpuSnapshot(0, False, {"Hlt": 10, "IoOut": 40}, 750, 250, 1, 500, 0, None, None)
    known = PerformanceSnapshot(1_000_000_000, (vcpu,), 1 << 21, 1 << 12, 100, 75, 1, 4, None)
    return dataclasses.replace(known, **values)  # type: ignore[arg-type]


def shown(what: object) -> str:
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), width=120)
    console.print(what)
    return str(console.file.getvalue())


def test_the_table_shows_figures_and_gaps() -> None:
    text = shown(table(sample()))
    for expected in ("75.0%", "75.00%", "25.00%", "2.0 MiB", "4.0 KiB", "IoOut 40, Hlt 10", "50"):
        assert expected in text
    assert "I/O" not in text
    gaps = shown(table(sample(tlb_lookups=None, jit_total=None, resident_bytes=None)))
    assert "75.00%" not in gaps and " - " in gaps
    device = IoTraffic("memory", 0x1000, 16, "uart", 4, 2, 32, 2048)
    with_io = shown(table(sample(io=(device,))))
    assert "memory 0x1000-0x100f" in with_io and "2.0 KiB" in with_io and "uart" in with_io


def test_the_live_table_follows_the_vm(vm: Vm) -> None:
    rich = pytest.importorskip("rich.console")
    console = rich.Console(file=io.StringIO(), width=120, force_terminal=True)
    vcpu = vm.create_vcpu()
    stop = threading.Event()
    with PerformanceMonitor(vm) as monitor:
        vcpu.run()
        stop.set()
        last = live(monitor, interval=60, stop=stop, console=console)
        assert last.exits == {"IoOut": 1}
        assert "vCPUs" in console.file.getvalue()
        with pytest.raises(InvalidConfig):
            live(monitor, interval=0)
        vm.close()
        assert live(monitor, interval=0.001, console=console).mapped_bytes is None


def test_prometheus_serves_what_was_measured(vm: Vm) -> None:
    pytest.importorskip("prometheus_client")
    from vm_accel.monitor import prometheus

    vcpu = vm.create_vcpu()
    with PerformanceMonitor(vm, measure=False) as monitor:
        vcpu.run()
        monitor.record_io(0x3F8, written_bytes=3, name="serial")
        monitor.record_jit(1, 4)
        with prometheus.serve({"a": monitor, "b": monitor}) as server:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30) as answer:
                text = answer.read().decode()
            assert 'vm_accel_exits_total{reason="IoOut",vcpu="0",vm="a"} 1.0' in text
            assert 'vm_accel_exits_total{reason="IoOut",vcpu="0",vm="b"} 1.0' in text
            assert text.count("# TYPE vm_accel_exits_total counter") == 1
            assert 'direction="write",size="1",space="port",vm="a"} 3.0' in text
            assert 'vm_accel_jit_total{vm="a"} 4.0' in text
            assert "tlb" not in text and "run_seconds" not in text
            monitor.close()
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30) as answer:
                assert b"vm_accel" not in answer.read()
        server.close()


def test_without_prometheus_client_it_says_what_to_install(vm: Vm, monkeypatch: pytest.MonkeyPatch) -> None:
    from vm_accel.monitor import prometheus

    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with PerformanceMonitor(vm) as monitor, pytest.raises(NotSupported, match=r"vm_accel\[prometheus\]"):
        prometheus.serve({"vm": monitor})


def test_a_snapshot_while_the_guest_runs() -> None:
    with ScriptedHypervisor([Block(), IoIn(0x60)]) as hypervisor, hypervisor.create_vm() as vm:
        ready = threading.Event()

        def work() -> None:
            vcpu = vm.create_vcpu()
            ready.set()
            vcpu.run(timeout=30)
            vcpu.run(timeout=30)

        thread = threading.Thread(target=work)
        thread.start()
        assert ready.wait(30)
        with PerformanceMonitor(vm) as monitor:
            assert monitor.snapshot().exits_total == 0
            vm.vcpus[0].kick()
            thread.join()
            assert monitor.snapshot().exits == {"Interrupted": 1, "IoIn": 1}


def test_a_real_guest() -> None:
    with kvm_vm() as vm:
        memory = GuestMemory.anonymous(1 << 20)
        vm.map(memory)
        vcpu = real_mode_vcpu(vm, memory, PRINT_SUM)
        with PerformanceMonitor(vm) as monitor:
            assert isinstance(vcpu.run(timeout=5), IoOut)
            assert vcpu.run(timeout=5) == Hlt()
            regs = vcpu.regs
            regs.rip = 0x2000
            vcpu.regs = regs
            memory.write(0x2000, FOREVER)
            assert vcpu.run(timeout=0.05) == Timeout()
            seen = monitor.snapshot()
        assert seen.exits == {"IoOut": 1, "Hlt": 1, "Timeout": 1}
        assert seen.run_ns is not None and seen.run_ns >= 50_000_000
        assert seen.kernel is None or seen.kernel
        assert seen.resident_bytes is None or seen.resident_bytes >= 2 * PAGE
        assert seen.cpu_utilisation is None or seen.cpu_utilisation > 0


def test_the_command_top(tmp_path: Path) -> None:
    with kvm_vm():
        pass  # skips where no guest can run
    image = tmp_path / "hello.bin"
    image.write_bytes(b"\xb0\x41\xba\xf8\x03\xee\xb0\x00\xe6\xf4\xf4")  # prints A, then 0 to port 0xf4
    command = [sys.executable, "-m", "vm_accel", "top", str(image), "--memory", "1M", "--timeout", "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    for expected in ("vCPUs", "debug-exit", "serial", "port 0xf4"):
        assert expected in done.stdout
