"""The figures of monitors for Prometheus, through prometheus-client: ``pip install vm_accel[prometheus]``.

`PrometheusExporter(monitor, vm="web")` is a collector: register it, or let `serve` do that and answer HTTP::

    server = serve({"web": monitor}, port=9464)
    ...
    server.close()

What nobody measured has no sample. Counters are those of the monitor, so they begin at 0 with it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vm_core import ClosedError, NotSupported

from .performance import PerformanceMonitor
from .snapshot import PerformanceSnapshot

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["MetricsServer", "PrometheusExporter", "serve"]


def _client() -> Any:
    try:
        import prometheus_client
        import prometheus_client.core
    except ImportError as error:
        raise NotSupported(
            "serving metrics needs prometheus-client, which is not installed here; pip install 'vm_accel[prometheus]'"
        ) from error
    return prometheus_client


class _Families:
    """Metrics by name, so that several VMs share a family."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self.families: dict[str, Any] = {}

    def add(self, kind: str, name: str, text: str, labels: Mapping[str, str], value: float | None) -> None:
        if value is None:
            return
        family = self.families.get(name)
        if family is None:
            make = self._core.CounterMetricFamily if kind == "counter" else self._core.GaugeMetricFamily
            family = self.families[name] = make(f"vm_accel_{name}", text, labels=list(labels))
        family.add_metric(list(labels.values()), value)


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e9


def _add_vm(out: _Families, vm: str, seen: PerformanceSnapshot) -> None:
    label = {"vm": vm}
    out.add("gauge", "memory_mapped_bytes", "Guest memory that the VM has.", label, seen.mapped_bytes)
    out.add("gauge", "memory_resident_bytes", "Guest memory that is in host memory.", label, seen.resident_bytes)
    out.add("counter", "tlb_lookups", "TLB look-ups of the attached MMUs.", label, seen.tlb_lookups)
    out.add("counter", "tlb_hits", "TLB hits of the attached MMUs.", label, seen.tlb_hits)
    out.add("counter", "jit_executed", "Executed by compiled code.", label, seen.jit_executed)
    out.add("counter", "jit", "Executed by compiled code or not.", label, seen.jit_total)
    for vcpu in seen.vcpus:
        one = {**label, "vcpu": str(vcpu.vcpu_id)}
        for name, count in vcpu.exits.items():
            out.add("counter", "exits", "Returns of run, by reason.", {**one, "reason": name}, count)
        out.add("counter", "run_seconds", "Time inside run.", one, _seconds(vcpu.run_ns))
        out.add("counter", "handler_seconds", "Time between runs.", one, _seconds(vcpu.handler_ns))
        out.add("counter", "executions", "Recorded pieces of work.", one, vcpu.executions)
        out.add("counter", "execution_seconds", "Time of recorded work.", one, _seconds(vcpu.execution_ns))
        out.add("gauge", "thread_cpu_seconds", "CPU time of the vCPU's thread.", one, _seconds(vcpu.cpu_ns))
        out.add("gauge", "thread_wait_seconds", "Its wait for a processor.", one, _seconds(vcpu.wait_ns))
    for item in seen.io or ():
        place = {**label, "space": item.space, "base": hex(item.base), "size": str(item.size), "device": item.name}
        for direction, accesses, moved in (
            ("read", item.reads, item.read_bytes),
            ("write", item.writes, item.written_bytes),
        ):
            labels = {**place, "direction": direction}
            out.add("counter", "io_accesses", "Accesses of the guest to devices.", labels, accesses)
            out.add("counter", "io_bytes", "Bytes between guest and devices.", labels, moved)
    for name, value in (seen.kernel or {}).items():
        out.add("gauge", "kernel_statistic", "The hypervisor's own figures.", {**label, "name": name}, value)


class PrometheusExporter:
    """A collector of prometheus-client over monitors: ``registry.register(PrometheusExporter({"web": monitor}))``.

    monitors: by the value of the label ``vm``. A monitor that is closed has no samples any more. Each scrape takes a
    snapshot. Raises NotSupported where prometheus-client is missing.
    """

    def __init__(self, monitors: Mapping[str, PerformanceMonitor]) -> None:
        self._core = _client().core
        self._monitors = dict(monitors)

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is depends on the guests. Keeps a registry from scraping when this is registered."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The metrics of this moment."""
        families = _Families(self._core)
        for vm, monitor in self._monitors.items():
            try:
                seen = monitor.snapshot()
            except ClosedError:
                continue
            _add_vm(families, vm, seen)
        return list(families.families.values())


class MetricsServer:
    """An HTTP server for Prometheus, on a thread of its own; made by `serve`."""

    def __init__(self, server: Any, thread: threading.Thread) -> None:
        self._server = server
        self._thread = thread

    @property
    def port(self) -> int:
        """The port on which it answers."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Answer no more. Twice is fine."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()


def serve(monitors: Mapping[str, PerformanceMonitor], port: int = 0, host: str = "127.0.0.1") -> MetricsServer:
    """Answer ``http://host:port/metrics`` from a registry with these monitors only.

    port 0: any that is free; `MetricsServer.port` tells. Other machines reach it only with another ``host``. Raises
    NotSupported where prometheus-client is missing, OSError when the port is taken.
    """
    client = _client()
    registry = client.CollectorRegistry()
    registry.register(PrometheusExporter(monitors))
    server, thread = client.start_http_server(port, addr=host, registry=registry)
    return MetricsServer(server, thread)
