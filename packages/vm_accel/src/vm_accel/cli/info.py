"""``vm-accel info``: what this machine offers to those who run guests."""

from __future__ import annotations

import json as json_library
from typing import Annotated, Any

import typer
from vm_core import CpuFeatures, Topology
from vm_core.command import examples

from .. import KvmInfo, __version__, available_backends, probe
from ..kvm import DEFAULT_DEVICE

EXAMPLES = examples("vm-accel info", "vm-accel info --json | jq .kvm.capabilities.guest_memfd")


def _as_object(kvm: KvmInfo) -> dict[str, Any]:
    return {
        "version": __version__,
        "backends": [
            {"name": backend.name, "works": backend.works, "reason": backend.reason} for backend in available_backends()
        ],
        "kvm": kvm.as_dict(),
        "cpu": CpuFeatures.detect().as_dict(),
        "topology": Topology.detect().as_dict(),
    }


def _print_machine() -> None:
    cpu, topology = CpuFeatures.detect(), Topology.detect()
    print(f"\nProcessor: {cpu.brand or cpu.architecture}")
    print(f"  features: {' '.join(cpu.names)}")
    print(f"  {topology!r}")


def _print(kvm: KvmInfo, device: str) -> None:
    from vm_mem.cli.output import print_table

    rows = [(backend.name, "yes" if backend.works else "no", backend.reason) for backend in available_backends()]
    print_table(("backend", "works", "reason"), rows)
    if kvm:
        print(f"\nKVM through {device}, API version {kvm.api_version}")
        print_table(
            ("capability", ">answer"),
            [(name, str(value) if value else "no") for name, value in kvm.capabilities.items()],
        )
    else:
        print(f"\nKVM is not available: {kvm.reason}")
    _print_machine()


def command(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    device: Annotated[str, typer.Option(metavar="PATH", help="The KVM device.")] = DEFAULT_DEVICE,
) -> int:
    """Show the hypervisors that work here, why others do not, and what KVM, the processor and the machine have.

    The exit status is 1 when KVM cannot be used.
    """
    kvm = probe(device)
    if json:
        print(json_library.dumps(_as_object(kvm), indent=2))
    else:
        _print(kvm, device)
    return 0 if kvm else 1
