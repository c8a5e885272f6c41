"""``vm-mem roots``: where page tables begin."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from vm_core.command import examples

from .. import GuestMemory
from ..paging import X86, AArch64, RiscV
from ..roots import RootCandidate, default_root_formats, find_roots
from . import options
from .image import open_image
from .machine import RISCV_MODES, X86_LEVELS, Config, architecture_of, command_options, paging_of
from .options import ArchName
from .output import print_json_array, print_table
from .text import join, number, plural, round_size

EXAMPLES = examples(
    "vm-mem roots guest.elf",
    "vm-mem roots guest.raw --arch x86_64 --arch x86_64_la57 --json",
    "vm-mem roots guest.raw --arch aarch64 --granule 16384",
)

# What the machine type of an ELF core leaves to look for.
_OF_IMAGE = {
    "x86_64": ("x86_64", "x86_64_la57"),
    "i386": ("x86_pae", "x86"),
    "riscv64": ("sv39", "sv48", "sv57"),
    "riscv32": ("sv32",),
    "aarch64": ("aarch64",),
}


def _formats_of(name: str, granule: int | None) -> list[Config]:
    if name in X86_LEVELS:
        return [X86(X86_LEVELS[name])]
    for mode in RISCV_MODES:
        if name == mode:
            return [RiscV(mode)]
    if granule not in (None, 4096):
        return [AArch64(granule)]
    return [config for config in default_root_formats() if isinstance(config, AArch64)]


def formats_for(memory: GuestMemory, names: list[str], granule: int | None = None) -> list[Config]:
    """The formats to look for: those asked for, else what the image's machine can use, else the usual ones."""
    if not names:
        machines = {state.architecture for state in memory.cpu_states}
        names = [name for machine in sorted(machines) for name in _OF_IMAGE.get(machine, ())]
    if not names and granule is not None:
        names = ["aarch64"]
    return [config for name in names for config in _formats_of(name, granule)] or default_root_formats()


def _cpus_by_root(memory: GuestMemory) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for cpu, state in enumerate(memory.cpu_states):
        config = paging_of(state)[0]
        if config is not None:
            found.setdefault(config.root, []).append(cpu)
    return found


def _evidence(candidate: RootCandidate, cpus: list[int]) -> str:
    parts = []
    if candidate.table_of is not None:
        same = candidate.table_of == candidate.root
        parts.append("better read in another format" if same else f"table of {candidate.table_of:#x}")
    if cpus:
        parts.append(f"in use by CPU {' and '.join(map(str, cpus))}")
    if candidate.maps_itself:
        parts.append("maps itself")
    if candidate.self_referring:
        parts.append("refers to itself")
    if candidate.shared_entries:
        shared = "an entry" if candidate.shared_entries == 1 else f"{candidate.shared_entries} entries"
        parts.append(f"shares {shared} with others")
    if candidate.broken_tables:
        parts.append(plural(candidate.broken_tables, "broken table"))
    if candidate.user_pages:
        parts.append(plural(candidate.user_pages, "user page"))
    return join(parts)


def _object(candidate: RootCandidate, cpus: list[int]) -> dict[str, Any]:
    counts = ["entries", "shared_entries", "tables", "broken_tables", "empty_tables", "pages", "accessed_pages"]
    counts += ["kernel_pages", "user_pages", "mapped_bytes", "maps_itself", "self_referring"]
    return {
        "root": hex(candidate.root),
        "architecture": architecture_of(candidate.config),
        "options": command_options(candidate.config),
        "score": round(candidate.score, 2),
        **{name: getattr(candidate, name) for name in counts},
        "table_of": None if candidate.table_of is None else hex(candidate.table_of),
        "cpus": cpus,
    }


@contextmanager
def _progress(wanted: bool) -> Iterator[Callable[[int, int], object] | None]:
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("scanning"), BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("scanning", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _print(image: str, candidates: list[RootCandidate], cpus: dict[int, list[int]]) -> None:
    rows = [
        (
            f"{candidate.score:.1f}",
            f"{candidate.root:#x}",
            architecture_of(candidate.config),
            f"{candidate.tables:,}",
            f"{candidate.pages:,}",
            round_size(candidate.mapped_bytes),
            _evidence(candidate, cpus.get(candidate.root, [])),
        )
        for candidate in candidates
    ]
    print_table((">score", ">root", "format", ">tables", ">pages", ">mapped", "evidence"), rows)
    print(f"\nvm-mem maps {image} {command_options(candidates[0].config)}")


def command(
    image: options.Image,
    arch: Annotated[
        list[ArchName] | None,
        typer.Option(help="Formats to look for (default: what the image's machine can use, else the usual ones)."),
    ] = None,
    granule: Annotated[
        int | None, typer.Option(metavar="NUMBER", parser=number, help="aarch64: 4096, 16384 or 65536.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Candidates to show.")] = 20,
    image_format: options.ImageFormat = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar on a terminal.")] = True,
    json: options.Json = False,
) -> int:
    """Find page-table roots by the tables alone, ranked by how much speaks for them.

    Scores go from 0 to 100. Processes of one kernel are equals; those with more memory of their own come first.
    Exit status 1: nothing was found.
    """
    with open_image(image, image_format) as memory:
        formats = formats_for(memory, [name.value for name in arch or []], granule)
        with _progress(progress) as report:
            candidates = find_roots(memory, formats, limit=limit, progress=report)
        cpus = _cpus_by_root(memory)
        if json:
            print_json_array(_object(candidate, cpus.get(candidate.root, [])) for candidate in candidates)
        elif candidates:
            _print(str(image), candidates, cpus)
        else:
            print("vm-mem: nothing here looks like a page-table root", file=sys.stderr)
    return 0 if candidates else 1
