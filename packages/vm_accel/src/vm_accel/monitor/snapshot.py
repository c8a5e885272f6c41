"""What a monitor saw, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from vm_core import InvalidConfig

__all__ = ["IoTraffic", "PerformanceSnapshot", "VcpuSnapshot"]


def _less(now: int | None, before: int | None) -> int | None:
    """The difference, or None where one side was not measured or the counter began anew."""
    if now is None or before is None or now < before:
        return None
    return now - before


def _sum(values: list[int | None]) -> int | None:
    """Of those that were measured; None when none was."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _counts_less(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {name: rest for name, count in now.items() if (rest := count - before.get(name, 0)) > 0}


@dataclass(frozen=True)
class IoTraffic:
    """Accesses to a port or a range of addresses, and their bytes."""

    space: str
    """"port" or "memory"."""
    base: int
    """First port or guest-physical address."""
    size: int
    """Ports or bytes in the range."""
    name: str
    """What the range was called; may be empty."""
    reads: int
    writes: int
    read_bytes: int
    written_bytes: int

    @property
    def key(self) -> tuple[str, int, int]:
        """What tells ranges apart."""
        return self.space, self.base, self.size

    def __sub__(self, before: IoTraffic) -> IoTraffic:
        counts = ("reads", "writes", "read_bytes", "written_bytes")
        less = {name: max(0, getattr(self, name) - getattr(before, name)) for name in counts}
        return IoTraffic(self.space, self.base, self.size, self.name, **less)


@dataclass(frozen=True)
class VcpuSnapshot:
    """One vCPU in the period of a snapshot. None: not measured."""

    vcpu_id: int
    closed: bool
    """It was closed when the snapshot was taken."""
    exits: Mapping[str, int]
    """How often ``run`` returned, by the name of the exit."""
    run_ns: int | None
    """Time inside ``run``: the guest and what the hypervisor did for it."""
    handler_ns: int | None
    """Time between a return of ``run`` and the next call."""
    tid: int | None
    """The thread that the vCPU belongs to."""
    cpu_ns: int | None
    """CPU time of that thread, guest and handlers; other vCPUs of the same thread show the same."""
    wait_ns: int | None
    """Time in which the thread could have run and had no processor."""
    executions: int | None
    """Calls of ``record_execution``."""
    execution_ns: int | None
    """The durations that they told, together."""

    @property
    def exits_total(self) -> int:
        """Exits of all kinds."""
        return sum(self.exits.values())

    @property
    def guest_share(self) -> float | None:
        """Of the measured time, the part inside ``run``: 0.0 to 1.0."""
        if self.run_ns is None or self.handler_ns is None:
            return None
        return _ratio(self.run_ns, self.run_ns + self.handler_ns)

    def __sub__(self, before: VcpuSnapshot) -> VcpuSnapshot:
        same_thread = self.tid == before.tid
        return VcpuSnapshot(
            vcpu_id=self.vcpu_id,
            closed=self.closed,
            exits=_counts_less(self.exits, before.exits),
            run_ns=_less(self.run_ns, before.run_ns),
            handler_ns=_less(self.handler_ns, before.handler_ns),
            tid=self.tid,
            cpu_ns=_less(self.cpu_ns, before.cpu_ns) if same_thread else None,
            wait_ns=_less(self.wait_ns, before.wait_ns) if same_thread else None,
            executions=_less(self.executions, before.executions or 0),
            execution_ns=_less(self.execution_ns, before.execution_ns or 0),
        )


@dataclass(frozen=True)
class PerformanceSnapshot:
    """What happened in a period: from the begin of the monitor, or between two snapshots that were subtracted.

    Counts and times are of the period; ``resident_bytes`` and ``mapped_bytes`` are of its end. None: nobody measured
    it, or it could not be read. Rates are per second of the period, ratios are 0.0 to 1.0.
    """

    elapsed_ns: int
    """Length of the period."""
    vcpus: tuple[VcpuSnapshot, ...]
    """By id."""
    mapped_bytes: int | None
    """Guest memory that the VM has; None once it is closed."""
    resident_bytes: int | None
    """Of that, what is in memory and in this process's page tables (/proc/self/pagemap)."""
    tlb_lookups: int | None
    """Of the attached MMUs."""
    tlb_hits: int | None
    jit_executed: int | None
    """Sum of ``record_jit``."""
    jit_total: int | None
    io: tuple[IoTraffic, ...] | None
    """By port and range; None when no bus is attached and nothing was recorded."""
    kernel: Mapping[str, int] | None = field(default=None)
    """Single values of ``vm.stats``, since the VM was created; None where the hypervisor has none."""

    @property
    def elapsed_s(self) -> float:
        """Length of the period in seconds."""
        return self.elapsed_ns / 1e9

    @property
    def exits(self) -> dict[str, int]:
        """Exits by name, of all vCPUs."""
        totals: dict[str, int] = {}
        for vcpu in self.vcpus:
            for name, count in vcpu.exits.items():
                totals[name] = totals.get(name, 0) + count
        return totals

    @property
    def exits_total(self) -> int:
        """Exits of all vCPUs."""
        return sum(vcpu.exits_total for vcpu in self.vcpus)

    @property
    def exits_per_s(self) -> float | None:
        """Exits of all vCPUs in a second; None for an empty period."""
        return _ratio(self.exits_total, self.elapsed_s)

    @property
    def run_ns(self) -> int | None:
        """Time inside ``run`` of all vCPUs."""
        return _sum([vcpu.run_ns for vcpu in self.vcpus])

    @property
    def handler_ns(self) -> int | None:
        """Time between runs of all vCPUs."""
        return _sum([vcpu.handler_ns for vcpu in self.vcpus])

    @property
    def cpu_ns(self) -> int | None:
        """CPU time of all threads that own vCPUs, each thread once."""
        return _sum(list({vcpu.tid: vcpu.cpu_ns for vcpu in self.vcpus}.values()))

    @property
    def cpu_utilisation(self) -> float | None:
        """Processors that the vCPU threads kept busy: 2.0 is two of them, all the time."""
        return _ratio(self.cpu_ns, self.elapsed_ns)

    def cpu_utilisation_of(self, vcpu_id: int) -> float | None:
        """The part of the period in which the vCPU's thread had a processor."""
        for vcpu in self.vcpus:
            if vcpu.vcpu_id == vcpu_id:
                return _ratio(vcpu.cpu_ns, self.elapsed_ns)
        return None

    @property
    def tlb_hit_rate(self) -> float | None:
        """Hits in any level, of all look-ups."""
        return _ratio(self.tlb_hits, self.tlb_lookups)

    @property
    def jit_execution_rate(self) -> float | None:
        """Executed by compiled code, of all that was executed; ``f"{rate:.2%}"`` shows per cent."""
        return _ratio(self.jit_executed, self.jit_total)

    @property
    def io_read_bytes_per_s(self) -> float | None:
        """Bytes that the guest read from devices in a second."""
        return None if self.io is None else _ratio(sum(item.read_bytes for item in self.io), self.elapsed_s)

    @property
    def io_written_bytes_per_s(self) -> float | None:
        """Bytes that the guest wrote to devices in a second."""
        return None if self.io is None else _ratio(sum(item.written_bytes for item in self.io), self.elapsed_s)

    def __sub__(self, before: PerformanceSnapshot) -> PerformanceSnapshot:
        """What happened after ``before``, an earlier snapshot of the same monitor. Raises InvalidConfig otherwise."""
        if before.elapsed_ns > self.elapsed_ns:
            raise InvalidConfig("the later snapshot comes first: later - earlier")
        old = {vcpu.vcpu_id: vcpu for vcpu in before.vcpus}
        old_io = {item.key: item for item in before.io or ()}
        io = None
        if self.io is not None:
            io = tuple(item - old_io[item.key] if item.key in old_io else item for item in self.io)
        return PerformanceSnapshot(
            elapsed_ns=self.elapsed_ns - before.elapsed_ns,
            vcpus=tuple(vcpu - old[vcpu.vcpu_id] if vcpu.vcpu_id in old else vcpu for vcpu in self.vcpus),
            mapped_bytes=self.mapped_bytes,
            resident_bytes=self.resident_bytes,
            tlb_lookups=_less(self.tlb_lookups, before.tlb_lookups or 0),
            tlb_hits=_less(self.tlb_hits, before.tlb_hits or 0),
            jit_executed=_less(self.jit_executed, before.jit_executed or 0),
            jit_total=_less(self.jit_total, before.jit_total or 0),
            io=io,
            kernel=self.kernel,
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it, with rates and ratios, as plain values for ``json.dumps``."""
        result = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        result["vcpus"] = [
            {**asdict(vcpu), "exits": dict(vcpu.exits), "cpu_utilisation": self.cpu_utilisation_of(vcpu.vcpu_id)}
            for vcpu in self.vcpus
        ]
        result["io"] = None if self.io is None else [asdict(item) for item in self.io]
        result["kernel"] = None if self.kernel is None else dict(self.kernel)
        for name in (
            "exits",
            "exits_total",
            "exits_per_s",
            "run_ns",
            "handler_ns",
            "cpu_ns",
            "cpu_utilisation",
            "tlb_hit_rate",
            "jit_execution_rate",
            "io_read_bytes_per_s",
            "io_written_bytes_per_s",
        ):
            result[name] = getattr(self, name)
        return result
