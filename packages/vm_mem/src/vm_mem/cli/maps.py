"""``vm-mem maps``: everything that an address space maps, as /proc/PID/maps shows a process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from vm_core import Access
from vm_core.command import examples

from ..paging import AddressSpace, Mappings
from . import options
from .image import open_image
from .machine import MachineOptions, select
from .output import line_writer, note, print_json_array
from .text import RIGHTS, number, size_text

EXAMPLES = examples(
    "vm-mem maps guest.elf",
    "vm-mem maps guest.raw --arch x86_64 --root 0x1000 --start 0xffff800000000000",
    "vm-mem maps guest.elf --json | jq -c '.[] | select(.user_access == \"rwx\")'",
)

HEADER = f"{'virtual addresses':<37}  kernel  user  {'size':>9}  {'pages':>13}  physical"

_CHUNK = 4096
_WRITABLE_AND_EXECUTABLE = int(Access.WRITE | Access.EXECUTE)


def rows(mappings: Mappings) -> Iterator[tuple[int, int, int, int, int, int]]:
    """vaddr, paddr, size, page size, access, user's access of each mapping."""
    for first in range(0, len(mappings), _CHUNK):
        yield from mappings.array[first : first + _CHUNK].tolist()


def line(row: tuple[int, int, int, int, int, int]) -> str:
    """One mapping for people."""
    vaddr, paddr, size, page_size, access, user_access = row
    pages = f"{size // page_size} x {size_text(page_size)}"
    rights = f"{RIGHTS[access]:<6}  {RIGHTS[user_access]:<4}"
    return f"{vaddr:#018x}-{vaddr + size - 1:#018x}  {rights}  {size_text(size):>9}  {pages:>13}  {paddr:#x}"


def _objects(mappings: Mappings) -> Iterator[dict[str, Any]]:
    for vaddr, paddr, size, page_size, access, user_access in rows(mappings):
        where = {"vaddr": hex(vaddr), "paddr": hex(paddr), "size": size, "page_size": page_size}
        yield {**where, "access": RIGHTS[access], "user_access": RIGHTS[user_access]}


def _print(mappings: Mappings) -> None:
    write = line_writer()
    write(HEADER, "bold")
    for row in rows(mappings):
        both = row[4] & _WRITABLE_AND_EXECUTABLE == _WRITABLE_AND_EXECUTABLE
        write(line(row), "yellow" if both else "none")


def command(
    image: options.Image,
    start: Annotated[int, typer.Option(metavar="NUMBER", parser=number, help="First address of interest.")] = 0,
    stop: Annotated[
        int | None, typer.Option(metavar="NUMBER", parser=number, help="First address after them (default: the end).")
    ] = None,
    merge: Annotated[bool, typer.Option(help="Join pages that continue each other with equal rights.")] = True,
    limit: Annotated[int, typer.Option(min=1, help="Give up beyond so many mappings or tables.")] = 1 << 24,
    image_format: options.ImageFormat = None,
    arch: options.Arch = None,
    root: options.Root = None,
    cpu: options.Cpu = None,
    efer: options.Efer = None,
    granule: options.Granule = None,
    ttbr0: options.Ttbr0 = None,
    ttbr1: options.Ttbr1 = None,
    tcr: options.Tcr = None,
    json: options.Json = False,
) -> None:
    """List what page tables map: addresses, rights, sizes, where to."""
    with open_image(image, image_format) as memory:
        machine = MachineOptions(arch and arch.value, root, cpu, efer, granule, ttbr0, ttbr1, tcr)
        config, remark = select(memory, machine)
        if remark:
            note(remark)
        mappings = AddressSpace(memory, config).mappings(start, stop, merge=merge, limit=limit)
        if json:
            print_json_array(_objects(mappings))
        else:
            _print(mappings)
