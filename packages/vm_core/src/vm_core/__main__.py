"""``python -m vm_core``: what this machine is, as tables or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._core import CpuFeatures, Topology, __version__, cpu_list
from .error import VmError

if TYPE_CHECKING:
    from rich.table import Table

EXAMPLES = """\
examples:
  python -m vm_core                          tables
  python -m vm_core --json | jq .cpu.names   the usable processor features
  python -m vm_core --source sysfs           the topology without hwloc
"""


def _size(size: int) -> str:
    """Bytes in the largest unit that leaves no fraction worth reading."""
    if size == 0:
        return "not known"
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 10 << shift or (size >= 1 << shift and size % (1 << shift) == 0):
            return f"{size >> shift} {unit}"
    return f"{size} bytes"


def _processor_table(features: CpuFeatures) -> Table:
    from rich.table import Table

    table = Table("processor", features.brand or "not known", title=f"vm_core {__version__}")
    numbers = (("family", features.family), ("model", features.model), ("stepping", features.stepping))
    version = ", ".join(f"{name} {number}" for name, number in numbers if number is not None)
    table.add_row("vendor", ", ".join(part for part in (features.vendor, version) if part) or "not known")
    table.add_row("architecture", features.architecture)
    table.add_row("hypervisor", features.hypervisor or "none shows")
    if features.physical_bits is not None:
        table.add_row("address bits", f"{features.physical_bits} physical, {features.virtual_bits} virtual")
    if features.sve_vector_bytes is not None:
        table.add_row("SVE vector", f"{features.sve_vector_bytes} bytes")
    table.add_row("usable features", " ".join(features.names) or "none")
    if features.disabled:
        table.add_row("disabled by the system", " ".join(features.disabled))
    if features.unknown:
        table.add_row("cannot be told", " ".join(features.unknown))
    return table


def _cache_table(topology: Topology) -> Table:
    from rich.table import Table

    table = Table("cache", "size", "line", "ways", "how many", "CPUs on each", title="Caches")
    alike: dict[tuple[int, str, int, int, int, int], int] = {}
    for cache in topology.caches:
        key = (cache.level, cache.type, cache.size, cache.line_size, cache.ways, len(cache.cpus))
        alike[key] = alike.get(key, 0) + 1
    for (level, kind, size, line, ways, cpus), count in alike.items():
        table.add_row(f"level {level} {kind}", _size(size), str(line or ""), str(ways or ""), str(count), str(cpus))
    return table


def _node_table(topology: Topology) -> Table:
    from rich.table import Table

    table = Table("memory node", "size", "CPUs", "distances", title=f"Topology by {topology.source}")
    for index, node in enumerate(topology.nodes):
        distances = " ".join(map(str, topology.distances[index])) if topology.distances else "not known"
        table.add_row(str(node.id), _size(node.memory_bytes), cpu_list(node.cpus), distances)
    table.add_section()
    for name, count in (("packages", len(topology.packages)), ("cores", len(topology.cores))):
        table.add_row(name, str(count or "not known"))
    table.add_row("CPUs", str(len(topology.cpus)), cpu_list(topology.cpus))
    table.add_row("allowed here", str(len(topology.allowed_cpus)), cpu_list(topology.allowed_cpus))
    return table


def _print_tables(features: CpuFeatures, topology: Topology) -> None:
    from rich.console import Console

    console = Console()
    console.print(_processor_table(features))
    if topology.caches:
        console.print(_cache_table(topology))
    console.print(_node_table(topology))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m vm_core",
        description="Print what this machine is: processor features, caches, memory nodes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--source", choices=("hwloc", "sysfs"), help="where to learn the topology (default: the best)")
    arguments = parser.parse_args(argv)
    try:
        features, topology = CpuFeatures.detect(), Topology.detect(source=arguments.source)
    except VmError as error:
        print(f"vm_core: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({"version": __version__, "cpu": features.as_dict(), "topology": topology.as_dict()}, indent=2))
    else:
        _print_tables(features, topology)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
