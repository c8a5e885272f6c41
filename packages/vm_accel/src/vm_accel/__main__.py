"""``python -m vm_accel``: what the hypervisor of this machine offers, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from .kvm import DEFAULT_DEVICE, KvmInfo, probe


def _print_table(info: KvmInfo, device: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not info:
        console.print(f"KVM is not available: {info.reason}", markup=False, highlight=False)
        return
    table = Table("capability", "answer", title=f"KVM through {device}")
    table.add_row("API version", str(info.api_version))
    table.add_row("shared area of one vCPU", f"{info.vcpu_mmap_size} bytes")
    table.add_section()
    for name, value in info.capabilities.items():
        table.add_row(name, str(value) if value else "no", style=None if value else "dim")
    console.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 when KVM can be used, 1 when not."""
    parser = argparse.ArgumentParser(prog="python -m vm_accel", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--device", default=DEFAULT_DEVICE, help="the KVM device (default: %(default)s)")
    arguments = parser.parse_args(argv)
    info = probe(arguments.device)
    if arguments.json:
        print(json.dumps(info.as_dict(), indent=2))
    else:
        _print_table(info, arguments.device)
    return 0 if info else 1


if __name__ == "__main__":
    raise SystemExit(main())
