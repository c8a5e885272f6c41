"""``vm-accel run``: run a guest image on a small PC."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from time import perf_counter
from typing import IO, Annotated

import typer
from vm_core.command import examples

from .. import InternalError, LoopResult, Machine, Shutdown, Timeout
from .console import input_to
from .text import memory_size

EXAMPLES = examples(
    "vm-accel run x86/smptest.flat --cpus 2",
    "vm-accel run bzImage --memory 1G --initrd initrd.img -- console=ttyS0 panic=-1",
    "vm-accel run loop.bin --kind flat --timeout 5 --stats",
)

TIMED_OUT = 124
"""As timeout(1)."""
CANNOT_GO_ON = 125


class KindName(str, Enum):
    """Kinds of images, as ``boot.load``."""

    automatic = "automatic"
    flat = "flat"
    elf = "elf"
    multiboot = "multiboot"
    bzimage = "bzimage"
    pvh = "pvh"


def _say(message: str) -> None:
    print("vm-accel:", message, file=sys.stderr)


def _end(result: LoopResult, timeout: float | None) -> int:
    """The exit status, with a word about an end that the guest did not choose."""
    if result.stop is not None:
        return result.stop.status & 0xFF if result.stop.kind == "exit" else 0
    match result.exit:
        case Timeout():
            _say(f"the guest did not end within {timeout:g} s")
            return TIMED_OUT
        case Shutdown():
            _say(f"triple fault on vCPU {result.vcpu}: an exception that the guest could not deliver")
        case InternalError(suberror=1, instruction=instruction):
            code = f": {instruction.hex(' ')}" if instruction else ""
            _say(f"the hypervisor cannot emulate an instruction of vCPU {result.vcpu}{code}")
        case exit_:
            _say(f"the guest cannot go on: {exit_!r} on vCPU {result.vcpu}")
    return CANNOT_GO_ON


def _print_stats(machine: Machine, seconds: float) -> None:
    """What happened, on stderr: standard output is the guest's."""
    write = sys.stderr.write
    write(f"\n{seconds:.3f} s, {len(machine.vcpus)} vCPU, {machine.memory.size >> 20} MiB\n")
    for vcpu in machine.vcpus:
        counts = ", ".join(f"{name} {count:,}" for name, count in vcpu.exit_counts.items())
        write(f"vCPU {vcpu.id}: {counts or 'no exits'}\n")
    for used in machine.bus.ranges:
        traffic = used.traffic
        if traffic.reads or traffic.writes:
            write(f"{used.name or 'device'} ({used.space} {used.base:#x}): ")
            write(f"{traffic.reads:,} reads, {traffic.writes:,} writes\n")
    for space, traffic in (("port", machine.bus.unclaimed_ports), ("memory", machine.bus.unclaimed_memory)):
        if traffic.reads or traffic.writes:
            write(f"without a device ({space}): {traffic.reads:,} reads, {traffic.writes:,} writes\n")


def _serial(target: str, stack: ExitStack) -> IO[bytes] | Callable[[bytes], object]:
    if target == "-":
        return sys.stdout.buffer
    if target == "none":
        return lambda _: None
    return stack.enter_context(open(target, "wb"))


def command(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Multiboot, bzImage, PVH, ELF or flat image.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGS]...", help="The guest's command line.", show_default=False)
    ] = None,
    memory: Annotated[
        int, typer.Option("--memory", "-m", metavar="SIZE", parser=memory_size, help="Memory: 128M, 2G.")
    ] = 128 << 20,
    cpus: Annotated[int, typer.Option("--cpus", "-c", min=1, max=255, help="Processors.")] = 1,
    serial: Annotated[
        str, typer.Option(metavar="FILE", help="Where COM1's output goes; -: standard output, none: nowhere.")
    ] = "-",
    source: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="What COM1 receives; -: standard input, none: nothing. Default: what is typed on a terminal.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[float | None, typer.Option(metavar="S", min=0, help="Seconds that the guest has.")] = None,
    kind: Annotated[KindName, typer.Option(help="What the image is.")] = KindName.automatic,
    initrd: Annotated[
        list[Path] | None, typer.Option(help="Module for the guest: Linux's initrd. Multiboot takes several.")
    ] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Tell exits and device traffic on standard error.")] = False,
) -> int:
    """Run a guest until it ends; the exit status is the guest's.

    The guest ends by writing n to port 0xf4 (status 2n + 1), by switching off or by a reset (status 0). Status 124: its
    time was over; 125: it cannot go on, for example after a triple fault.
    """
    with ExitStack() as stack:
        machine = stack.enter_context(Machine(memory=memory, cpus=cpus, serial=_serial(serial, stack)))
        machine.load(image, kind=kind.value, command_line=" ".join(arguments or ()), modules=initrd or ())
        stack.enter_context(input_to(machine.serial, source))
        start = perf_counter()
        try:
            result = machine.run(timeout)
        finally:
            if stats:
                _print_stats(machine, perf_counter() - start)
        return _end(result, timeout)
