"""`PerformanceMonitor`: collects what is counted elsewhere, and what callers record."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol

from vm_core import ClosedError, InvalidConfig, NotSupported, PlatformError
from vm_mem import Mmu

from .._accel import Vcpu, Vm
from ..stats import Statistics
from .procfs import ThreadTimes, resident_bytes, thread_times
from .snapshot import IoTraffic, PerformanceSnapshot, VcpuSnapshot

__all__ = ["PerformanceMonitor"]


class _Traffic(Protocol):
    @property
    def reads(self) -> int: ...
    @property
    def writes(self) -> int: ...
    @property
    def read_bytes(self) -> int: ...
    @property
    def written_bytes(self) -> int: ...


class _BusRange(Protocol):
    @property
    def space(self) -> str: ...
    @property
    def base(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def traffic(self) -> _Traffic: ...


class _Bus(Protocol):
    @property
    def ranges(self) -> Iterable[_BusRange]: ...


@dataclass
class _Watched:
    """A vCPU from the moment that the monitor knew it."""

    vcpu: Vcpu | None  # None: closed and let go
    base: VcpuSnapshot  # what had happened before
    switched_on: bool  # measured because of this monitor
    last: VcpuSnapshot | None = None  # of a closed one


@dataclass
class _Recorded:
    executions: int = 0
    execution_ns: int = 0


def _bus_traffic(bus: _Bus) -> list[IoTraffic]:
    return [
        IoTraffic(
            entry.space,
            entry.base,
            entry.size,
            entry.name,
            entry.traffic.reads,
            entry.traffic.writes,
            entry.traffic.read_bytes,
            entry.traffic.written_bytes,
        )
        for entry in bus.ranges
    ]


class PerformanceMonitor:
    """Watches a VM; `snapshot` tells what happened since the monitor began.

    vm: its vCPUs are found by themselves. One that is created later is found by the next snapshot or by `watch`; its
    exits count from the first one on, its time from when it is found.
    measure: let the vCPUs count time (`Vcpu.measure`), which costs two readings of the clock in each run; False leaves
    that as it is. proc: where procfs is mounted.

    The monitor holds the vCPUs that it has seen until they are closed; of those that are closed it keeps the figures.
    Any thread may call anything at once. `close` ends the measuring that the monitor began; a snapshot after that is
    ClosedError.
    """

    def __init__(self, vm: Vm, *, measure: bool = True, proc: str | os.PathLike[str] = "/proc") -> None:
        self._vm = vm
        self._measure = measure
        self._proc = Path(proc)
        self._lock = threading.Lock()
        self._closed = False
        self._watched: dict[int, _Watched] = {}  # by vCPU id, which a VM gives once
        self._recorded: dict[int, _Recorded] = {}
        self._mmus: list[tuple[Mmu, int, int]] = []  # with look-ups and hits at the begin
        self._buses: list[tuple[_Bus, dict[tuple[str, int, int], IoTraffic]]] = []
        self._io: dict[tuple[str, int, int], IoTraffic] = {}
        self._jit: tuple[int, int] | None = None
        try:
            self._statistics: Statistics | None = Statistics(vm.open_stats())
        except NotSupported:
            self._statistics = None
        self._begin_ns = time.monotonic_ns()
        with self._lock:
            self._discover(since_birth=False)

    @property
    def vm(self) -> Vm:
        """The VM that is watched."""
        return self._vm

    def watch(self, vcpu: Vcpu) -> None:
        """Know this vCPU from now on, not only from the next snapshot. Twice is fine.

        Raises InvalidConfig when another vCPU with its id is watched: it is of another VM.
        """
        with self._lock:
            self._require_open()
            self._watch(vcpu)

    def attach_mmu(self, mmu: Mmu) -> None:
        """Take TLB look-ups and hits from this MMU too, from now on. Twice is fine."""
        with self._lock:
            self._require_open()
            if all(known is not mmu for known, _, _ in self._mmus):
                self._mmus.append((mmu, *_tlb_counts(mmu)))

    def attach_bus(self, bus: _Bus) -> None:
        """Take I/O from this device bus, from now on. Twice is fine.

        Any object with ``ranges`` that have space, base, size, name and traffic, as `vm_accel`'s device bus.
        """
        with self._lock:
            self._require_open()
            if all(known is not bus for known, _ in self._buses):
                self._buses.append((bus, {item.key: item for item in _bus_traffic(bus)}))

    def record_io(self, where: int | range, read_bytes: int = 0, written_bytes: int = 0, *, name: str = "") -> None:
        """Count an access that the caller has handled himself.

        where: a port, or the guest-physical addresses of a device, ``range(base, end)``. read_bytes: what the guest
        read; written_bytes: what it wrote; each that is not 0 is one access. Raises InvalidConfig.
        """
        if read_bytes < 0 or written_bytes < 0 or read_bytes == written_bytes == 0:
            raise InvalidConfig(f"an access has bytes, got {read_bytes} read and {written_bytes} written")
        if isinstance(where, range):
            if where.step != 1 or not where or where.start < 0:
                raise InvalidConfig(f"{where!r} are no addresses; give range(base, end)")
            key = ("memory", where.start, len(where))
        elif 0 <= where <= 0xFFFF:
            key = ("port", where, 1)
        else:
            raise InvalidConfig(f"there is no port {where:#x}; for memory give range(base, end)")
        with self._lock:
            old = self._io.get(key) or IoTraffic(*key, name, 0, 0, 0, 0)
            self._io[key] = replace(
                old,
                name=name or old.name,
                reads=old.reads + (read_bytes > 0),
                writes=old.writes + (written_bytes > 0),
                read_bytes=old.read_bytes + read_bytes,
                written_bytes=old.written_bytes + written_bytes,
            )

    def record_jit(self, executed: int, total: int) -> None:
        """Count what an emulator executed: ``executed`` of ``total`` (blocks, instructions) by compiled code.

        Raises InvalidConfig unless 0 <= executed <= total.
        """
        if not 0 <= executed <= total:
            raise InvalidConfig(f"compiled code cannot have executed {executed} of {total}")
        with self._lock:
            before = self._jit or (0, 0)
            self._jit = (before[0] + executed, before[1] + total)

    def record_execution(self, vcpu_id: int, duration_ns: int) -> None:
        """Count a piece of work for a vCPU that the caller has timed. Raises InvalidConfig for a negative time."""
        if duration_ns < 0:
            raise InvalidConfig(f"an execution cannot take {duration_ns} ns")
        with self._lock:
            recorded = self._recorded.setdefault(vcpu_id, _Recorded())
            recorded.executions += 1
            recorded.execution_ns += duration_ns

    def snapshot(self) -> PerformanceSnapshot:
        """What happened since the monitor began. Takes some 100 us; reads one bit for each page of guest memory."""
        with self._lock:
            self._require_open()
            self._discover()
            lookups, hits = self._tlb()
            mapped, resident = self._memory()
            vcpus = [self._vcpu(id) for id in sorted(self._watched.keys() | self._recorded.keys())]
            return PerformanceSnapshot(
                elapsed_ns=time.monotonic_ns() - self._begin_ns,
                vcpus=tuple(vcpus),
                mapped_bytes=mapped,
                resident_bytes=resident,
                tlb_lookups=lookups,
                tlb_hits=hits,
                jit_executed=self._jit[0] if self._jit else None,
                jit_total=self._jit[1] if self._jit else None,
                io=self._traffic(),
                kernel=self._kernel(),
            )

    def close(self) -> None:
        """Let go of the VM. Twice is fine."""
        with self._lock:
            self._closed = True
            for watched in self._watched.values():
                if watched.switched_on and watched.vcpu is not None:
                    watched.vcpu.measure(False)
                watched.vcpu = None
            if self._statistics is not None:
                self._statistics.close()
            self._statistics = None

    def __enter__(self) -> PerformanceMonitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PerformanceMonitor of {self._vm!r}{', closed' if self._closed else ''}>"

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError("the monitor is closed")

    def _discover(self, *, since_birth: bool = True) -> None:
        try:
            vcpus = self._vm.vcpus
        except ClosedError:
            return
        for vcpu in vcpus:
            self._watch(vcpu, since_birth=since_birth)

    def _watch(self, vcpu: Vcpu, *, since_birth: bool = True) -> None:
        known = self._watched.get(vcpu.id)
        if known is not None:
            if known.vcpu is not None and known.vcpu is not vcpu:
                raise InvalidConfig(f"vCPU {vcpu.id} is not of the VM that this monitor watches")
            return
        switched_on = self._measure and not vcpu.measured
        if switched_on:
            vcpu.measure(True)
        base = self._read(vcpu)
        if since_birth:  # younger than the monitor: all that it did counts, except what its thread did before
            base = replace(base, exits={}, run_ns=0, handler_ns=0)
        self._watched[vcpu.id] = _Watched(vcpu, base, switched_on)

    def _read(self, vcpu: Vcpu) -> VcpuSnapshot:
        measured = vcpu.measured or vcpu.run_ns > 0
        tid = vcpu.owner_tid or None
        times: ThreadTimes | None = None
        if tid is not None and not vcpu.closed:
            times = thread_times(tid, self._proc)
        return VcpuSnapshot(
            vcpu_id=vcpu.id,
            closed=vcpu.closed,
            exits=vcpu.exit_counts,
            run_ns=vcpu.run_ns if measured else None,
            handler_ns=vcpu.handler_ns if measured else None,
            tid=tid,
            cpu_ns=times.cpu_ns if times else None,
            wait_ns=times.wait_ns if times else None,
            executions=None,
            execution_ns=None,
        )

    def _vcpu(self, id: int) -> VcpuSnapshot:
        watched = self._watched.get(id)
        if watched is None:  # only ever recorded: an emulated processor
            seen = VcpuSnapshot(id, False, {}, None, None, None, None, None, None, None)
        elif watched.vcpu is None:
            assert watched.last is not None
            seen = watched.last
        else:
            seen = self._since(watched, self._read(watched.vcpu))
            if seen.closed:
                watched.last, watched.vcpu = seen, None
        recorded = self._recorded.get(id)
        if recorded is None:
            return seen
        return replace(seen, executions=recorded.executions, execution_ns=recorded.execution_ns)

    def _since(self, watched: _Watched, now: VcpuSnapshot) -> VcpuSnapshot:
        if watched.base.tid != now.tid:
            # Another thread has it: its time so far was not this vCPU's.
            watched.base = replace(watched.base, tid=now.tid, cpu_ns=now.cpu_ns, wait_ns=now.wait_ns)
        base = watched.base
        if base.run_ns is None:
            base = replace(base, run_ns=0, handler_ns=0)
        return now - base

    def _tlb(self) -> tuple[int | None, int | None]:
        if not self._mmus:
            return None, None
        counts = [(_tlb_counts(mmu), lookups, hits) for mmu, lookups, hits in self._mmus]
        return sum(now[0] - lookups for now, lookups, _ in counts), sum(now[1] - hits for now, _, hits in counts)

    def _memory(self) -> tuple[int | None, int | None]:
        try:
            slots = self._vm.slots
        except ClosedError:
            return None, None
        # Two slots may show the same memory, so count each address once.
        ranges: list[tuple[int, int]] = []
        for start, size in sorted((slot.host_address, slot.size) for slot in slots):
            if ranges and start < sum(ranges[-1]):
                first = ranges[-1][0]
                ranges[-1] = (first, max(sum(ranges[-1]), start + size) - first)
            else:
                ranges.append((start, size))
        return sum(slot.size for slot in slots), resident_bytes(ranges, self._proc)

    def _traffic(self) -> tuple[IoTraffic, ...] | None:
        if not self._buses and not self._io:
            return None
        items = list(self._io.values())
        for bus, base in self._buses:
            items.extend(item - base[item.key] if item.key in base else item for item in _bus_traffic(bus))
        return tuple(sorted(items, key=lambda item: (item.space != "port", item.base, item.size)))

    def _kernel(self) -> dict[str, int] | None:
        if self._statistics is None:
            return None
        try:
            values = self._statistics.read()
        except PlatformError:
            return None
        return {name: value.values[0] for name, value in values.items() if len(value.values) == 1}


def _tlb_counts(mmu: Mmu) -> tuple[int, int]:
    stats = mmu.stats
    hits = sum(level.hits for level in stats.tlb.levels) + stats.arrays.hits
    return stats.l1.lookups + stats.arrays.lookups, hits
