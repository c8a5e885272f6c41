"""A table that follows a VM, for terminals."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from vm_core import InvalidConfig

from .performance import PerformanceMonitor
from .snapshot import PerformanceSnapshot, VcpuSnapshot

if TYPE_CHECKING:
    from rich.console import Console, Group

__all__ = ["live", "table"]

_BUSIEST_EXITS = 4


def _number(value: float | None, pattern: str = ",.0f") -> str:
    return "-" if value is None else format(value, pattern)


def _bytes(value: float | None) -> str:
    if value is None:
        return "-"
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} GiB"


def _per_s(count: int | None, seconds: float) -> float | None:
    return None if count is None or seconds == 0 else count / seconds


def _state(vcpu: VcpuSnapshot) -> str:
    return f"{vcpu.vcpu_id} (closed)" if vcpu.closed else str(vcpu.vcpu_id)


def table(delta: PerformanceSnapshot, total: PerformanceSnapshot | None = None) -> Group:
    """The figures of a period as something that rich prints; "-" is what nobody measured.

    delta: usually the difference of two snapshots, for rates. total: the whole so far, for the sums.
    """
    from rich.console import Group
    from rich.table import Table

    total = total or delta
    sums = {vcpu.vcpu_id: vcpu for vcpu in total.vcpus}
    vcpus = Table("vCPU", "exits/s", "exits", "in guest", "CPU", "busiest exits/s", title="vCPUs")
    for vcpu in delta.vcpus:
        busiest = sorted(vcpu.exits.items(), key=lambda item: -item[1])[:_BUSIEST_EXITS]
        vcpus.add_row(
            _state(vcpu),
            _number(_per_s(vcpu.exits_total, delta.elapsed_s)),
            _number(sums[vcpu.vcpu_id].exits_total if vcpu.vcpu_id in sums else vcpu.exits_total),
            _number(vcpu.guest_share, ".1%"),
            _number(delta.cpu_utilisation_of(vcpu.vcpu_id), ".1%"),
            ", ".join(f"{name} {_number(_per_s(count, delta.elapsed_s))}" for name, count in busiest),
        )
    machine = Table("guest memory", "resident", "TLB hits", "JIT", "read/s", "written/s", title="VM")
    machine.add_row(
        _bytes(total.mapped_bytes),
        _bytes(total.resident_bytes),
        _number(delta.tlb_hit_rate, ".2%"),
        _number(delta.jit_execution_rate, ".2%"),
        _bytes(delta.io_read_bytes_per_s),
        _bytes(delta.io_written_bytes_per_s),
    )
    if not delta.io:
        return Group(machine, vcpus)
    io = Table("device", "range", "reads/s", "writes/s", "read/s", "written/s", title="I/O")
    for item in delta.io:
        place = f"{item.space} {item.base:#x}" + (f"-{item.base + item.size - 1:#x}" if item.size > 1 else "")
        rates = [_per_s(count, delta.elapsed_s) for count in (item.read_bytes, item.written_bytes)]
        io.add_row(
            item.name,
            place,
            _number(_per_s(item.reads, delta.elapsed_s)),
            _number(_per_s(item.writes, delta.elapsed_s)),
            *map(_bytes, rates),
        )
    return Group(machine, vcpus, io)


def live(
    monitor: PerformanceMonitor,
    *,
    interval: float = 1.0,
    stop: threading.Event | None = None,
    console: Console | None = None,
) -> PerformanceSnapshot:
    """Show the table and renew it every ``interval`` seconds until ``stop`` is set, the VM is closed, or Ctrl-C.

    Each row tells the last interval. Run the VM on other threads. console: where to (default: standard output).
    Returns the last snapshot. Raises InvalidConfig for an interval that is not positive, ClosedError.
    """
    from rich.live import Live

    if not interval > 0:
        raise InvalidConfig(f"an interval is a positive number of seconds, got {interval}")
    stop = stop or threading.Event()
    before = now = monitor.snapshot()
    with Live(table(now), console=console, auto_refresh=False) as display:
        try:
            while True:
                ended = stop.wait(interval) or monitor.vm.closed
                before, now = now, monitor.snapshot()
                display.update(table(now - before, now), refresh=True)
                if ended:
                    return now
        except KeyboardInterrupt:
            return now
