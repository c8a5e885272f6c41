"""``vm-accel top``: run a guest image and watch it."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from vm_core.command import examples

from .. import Machine, PerformanceMonitor
from ..monitor import live
from .run_image import KindName, _end, _serial
from .text import memory_size

EXAMPLES = examples(
    "vm-accel top x86/smptest.flat --cpus 2", "vm-accel top bzImage --serial console.log --interval 0.5"
)


def command(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Multiboot, bzImage, PVH, ELF or flat image.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGS]...", help="The guest's command line.", show_default=False)
    ] = None,
    memory: Annotated[
        int, typer.Option("--memory", "-m", metavar="SIZE", parser=memory_size, help="Memory: 128M, 2G.")
    ] = 128 << 20,
    cpus: Annotated[int, typer.Option("--cpus", "-c", min=1, max=255, help="Processors.")] = 1,
    serial: Annotated[str, typer.Option(metavar="FILE", help="Where COM1's output goes; none: nowhere.")] = "none",
    timeout: Annotated[float | None, typer.Option(metavar="S", min=0, help="Seconds that the guest has.")] = None,
    kind: Annotated[KindName, typer.Option(help="What the image is.")] = KindName.automatic,
    initrd: Annotated[
        list[Path] | None, typer.Option(help="Module for the guest: Linux's initrd. Multiboot takes several.")
    ] = None,
    interval: Annotated[float, typer.Option(metavar="S", min=0.01, help="Seconds between two looks.")] = 1.0,
) -> int:
    """Run a guest and show its exits, time, memory and devices as a table that is renewed until it ends.

    The exit status is that of ``run``.
    """
    with ExitStack() as stack:
        machine = stack.enter_context(Machine(memory=memory, cpus=cpus, serial=_serial(serial, stack)))
        machine.load(image, kind=kind.value, command_line=" ".join(arguments or ()), modules=initrd or ())
        monitor = stack.enter_context(PerformanceMonitor(machine.vm))
        monitor.attach_bus(machine.bus)
        ended = threading.Event()
        # Ctrl-C is for the thread that runs the guest.
        watcher = threading.Thread(target=live, args=(monitor,), kwargs={"interval": interval, "stop": ended})
        watcher.start()
        try:
            result = machine.run(timeout)
        finally:
            ended.set()
            watcher.join()
        return _end(result, timeout)
