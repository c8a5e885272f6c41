"""The command-line application: its subcommands."""

from __future__ import annotations

from vm_core.command import application

from .. import __version__
from . import info, run_image, top

app = application(
    "vm-accel",
    __version__,
    "Run guests on the hypervisor of this machine.",
    "vm-accel info",
    "vm-accel run kernel.elf -- console=ttyS0",
    "vm-accel COMMAND --help",
)
app.command("run", epilog=run_image.EXAMPLES)(run_image.command)
app.command("info", epilog=info.EXAMPLES)(info.command)
app.command("top", epilog=top.EXAMPLES)(top.command)
