"""``vm-mem translate``: virtual addresses to physical ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from vm_core import FaultReason
from vm_core.command import CliError, examples

from ..paging import AddressSpace, TranslationArray
from . import options
from .addresses import Addresses, check_result_path, read_addresses, rows, write_result
from .image import open_image
from .machine import MachineOptions, select
from .output import line_writer, note, print_json, print_json_array
from .text import (
    RIGHTS,
    count_text,
    fault_counts,
    fault_text,
    number,
    parse_access,
    size_text,
)

EXAMPLES = examples(
    "vm-mem translate guest.elf 0xffffffff81000000 0x400000",
    "vm-mem translate guest.raw --arch x86_64 --root 0x1000 --addresses vaddrs.npy -o answers.npz",
    "grep -o '0xffff[0-9a-f]*' dmesg | vm-mem translate guest.elf --addresses - --access none",
)


def _gather(addresses: list[int] | None, file: Path | None) -> Addresses:
    typed = np.array(addresses or [], np.uint64)
    if file is None:
        if not typed.size:
            raise CliError("no addresses; name some, or a file of them with --addresses")
        return typed
    read = read_addresses(file)
    return np.concatenate([typed, read.ravel()]) if typed.size else read


def _objects(many: TranslationArray) -> Iterator[dict[str, Any]]:
    for vaddr, paddr, page_size, access, user, level, fault, code in rows(many):
        if fault:
            yield {"vaddr": hex(vaddr), "fault": FaultReason(fault).name, "level": level, "error_code": code}
        else:
            rights = RIGHTS[access]
            where = {"vaddr": hex(vaddr), "paddr": hex(paddr), "page_size": page_size}
            yield {**where, "access": rights, "user": user, "level": level}


def _print_lines(many: TranslationArray) -> None:
    write = line_writer()
    write(f"{'virtual':<18}  {'physical':<18}  {'page':>4}  rights", "bold")
    for vaddr, paddr, page_size, access, user, level, fault, code in rows(many):
        if fault:
            write(f"{vaddr:#018x}  fault: {fault_text(fault)} (level {level}, error code {code:#x})", "red")
        else:
            of_user = " user" if user else ""
            write(f"{vaddr:#018x}  {paddr:#018x}  {size_text(page_size):>4}  {RIGHTS[access]}{of_user}", "none")


def _print_summary(many: TranslationArray, output: Path, json: bool) -> None:
    faults = fault_counts(many.fault)
    if json:
        good = many.size - many.fault_count
        print_json({"output": str(output), "addresses": many.size, "translated": good, "faults": faults})
        return
    text = f"{many.size:,} addresses: {many.size - many.fault_count:,} translated"
    print(f"{text}, {many.fault_count:,} faulted{f' ({count_text(faults)})' if faults else ''} -> {output}")


def command(
    image: options.Image,
    addresses: Annotated[
        list[int] | None, typer.Argument(metavar="[ADDRESS]...", parser=number, help="Virtual addresses.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--addresses", metavar="FILE", help="More of them: .npy, or text; - is standard input."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write arrays to a .npz, .npy or .csv file."),
    ] = None,
    access: Annotated[
        str, typer.Option(metavar="RIGHTS", help="Rights wanted, of the letters rwx; none checks no permissions.")
    ] = "r",
    user: Annotated[bool, typer.Option("--user", help="Ask as user code (default: as the supervisor).")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 1 when an address faults.")] = False,
    threads: Annotated[int, typer.Option(min=0, max=4096, help="Threads at most; 0: one per CPU.")] = 0,
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
) -> int:
    """Translate virtual addresses and say why those that fault do.

    A fault is an answer: the exit status is 0 unless --strict is given.
    """
    wanted = parse_access(access)
    if output is not None:
        check_result_path(output)
    with open_image(image, image_format) as memory:
        machine = MachineOptions(arch and arch.value, root, cpu, efer, granule, ttbr0, ttbr1, tcr)
        config, remark = select(memory, machine)
        if remark:
            note(remark)
        vaddrs = _gather(addresses, file)
        many = AddressSpace(memory, config).translate(vaddrs, access=wanted, user=user, threads=threads)
        if output is not None:
            write_result(output, many)
            _print_summary(many, output, json)
        elif json:
            print_json_array(_objects(many))
        else:
            _print_lines(many)
    return 1 if strict and many.fault_count else 0
