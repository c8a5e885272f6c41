"""The command-line application: its subcommands."""

from __future__ import annotations

from vm_core.command import application

from .. import __version__
from . import demo, info, maps, roots, simd, translate

app = application(
    "vm-mem",
    __version__,
    "Look into the memory of virtual machines: dumps, page tables, address translation.",
    "vm-mem info guest.elf",
    "vm-mem translate guest.elf 0xffffffff81000000",
    "vm-mem COMMAND --help",
)
for module in (info, translate, maps, roots, demo, simd):
    app.command(module.__name__.rpartition(".")[2], epilog=module.EXAMPLES)(module.command)
