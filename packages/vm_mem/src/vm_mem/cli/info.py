"""``vm-mem info``: what an image holds."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from vm_core.command import examples

from .. import CpuState, GuestMemory, Region
from . import options
from .image import open_image
from .machine import architecture_of, paging_of
from .output import print_json, print_table
from .text import format_name, plural, round_size, size_text

EXAMPLES = examples("vm-mem info guest.elf", "vm-mem info guest.elf --json | jq .cpus[0].registers.cr3")

_CR0 = {0: "PE", 1: "MP", 2: "EM", 3: "TS", 4: "ET", 5: "NE", 16: "WP", 18: "AM", 29: "NW", 30: "CD", 31: "PG"}
_CR4 = {0: "VME", 1: "PVI", 2: "TSD", 3: "DE", 4: "PSE", 5: "PAE", 6: "MCE", 7: "PGE", 8: "PCE", 9: "OSFXSR"}
_CR4 |= {10: "OSXMMEXCPT", 11: "UMIP", 12: "LA57", 13: "VMXE", 14: "SMXE", 16: "FSGSBASE", 17: "PCIDE"}
_CR4 |= {18: "OSXSAVE", 19: "KL", 20: "SMEP", 21: "SMAP", 22: "PKE", 23: "CET", 24: "PKS", 25: "UINTR"}
_FLAGS = {"cr0": _CR0, "cr4": _CR4}
_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "ldt", "tr", "gdt", "idt")
_HIDDEN = {*_SEGMENTS, *(f"{name}_{part}" for name in _SEGMENTS for part in ("limit", "base"))} - {"fs_base", "gs_base"}


def _region_object(region: Region) -> dict[str, Any]:
    return {
        "base": hex(region.base),
        "last": hex(region.last),
        "size": region.size,
        "writable": region.writable,
        "name": region.name,
    }


def _paging_object(state: CpuState) -> dict[str, Any]:
    config, efer, why_not = paging_of(state)
    if config is None:
        return {"enabled": False if efer else None, "reason": why_not}
    return {
        "enabled": True,
        "architecture": architecture_of(config),
        "root": hex(config.root),
        "no_execute": None if efer is None or efer.assumed else config.no_execute,
    }


def _cpu_object(state: CpuState) -> dict[str, Any]:
    return {
        "architecture": state.architecture,
        "paging": _paging_object(state),
        "efer": None if state.efer is None else hex(state.efer),
        "registers": {name: hex(value) for name, value in state.registers.items()},
    }


def _as_object(path: str, memory: GuestMemory) -> dict[str, Any]:
    return {
        "image": path,
        "format": memory.format,
        "size": memory.size,
        "regions": [_region_object(region) for region in memory.regions],
        "cpus": [_cpu_object(state) for state in memory.cpu_states],
    }


def _flag_text(name: str, value: int) -> str:
    flags = _FLAGS.get(name, {})
    return " ".join(text for bit, text in flags.items() if value >> bit & 1)


def _print_cpu(number: int, state: CpuState, everything: bool) -> None:
    config, efer, why_not = paging_of(state)
    print(f"\nCPU {number} ({state.architecture}): {why_not if config is None else config}")
    if efer is not None and efer.assumed:
        known = "long mode is on" if state.architecture == "x86_64" else "long mode is off"
        print(f"  efer is not in the image; {known}, as its machine type says; NXE is not known")
    shown = {name: value for name, value in state.registers.items() if everything or name not in _HIDDEN}
    width = max(map(len, shown), default=0)
    cells = []
    for name, value in shown.items():
        if name in _FLAGS:
            print(f"  {name:<{width}} {value:#018x}  {_flag_text(name, value)}")
        else:
            cells.append(f"  {name:<{width}} {value:#018x}")
    for first in range(0, len(cells), 2):
        print("".join(cells[first : first + 2]))


def _print(path: str, memory: GuestMemory, everything: bool) -> None:
    regions = memory.regions
    holes = regions[-1].last + 1 - regions[0].base - memory.size if regions else 0
    between = f", {round_size(holes)} of holes between them" if holes else ""
    print(f"{path}: {format_name(memory)}, {round_size(memory.size)} in {plural(len(regions), 'region')}{between}")
    rows = [
        (f"{region.base:#018x}-{region.last:#018x}", size_text(region.size), "yes" if region.writable else "no")
        for region in regions
    ]
    print_table(("guest-physical addresses", ">size", "writable"), rows)
    for number, state in enumerate(memory.cpu_states):
        _print_cpu(number, state, everything)
    if not memory.cpu_states:
        print("\nNo CPU registers in this image; `vm-mem roots` looks for page tables.")


def command(
    image: options.Image,
    image_format: options.ImageFormat = None,
    everything: Annotated[bool, typer.Option("--all", help="Show every register, segments too.")] = False,
    json: options.Json = False,
) -> None:
    """Show the format, regions, CPU registers and paging modes of an image."""
    with open_image(image, image_format) as memory:
        if json:
            print_json(_as_object(str(image), memory))
        else:
            _print(str(image), memory, everything)
