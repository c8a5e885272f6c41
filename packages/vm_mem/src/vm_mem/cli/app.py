"""The command-line application: its subcommands, and what becomes of errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command
from vm_core import VmError

from .. import __version__
from . import demo, info, maps, roots, simd, translate
from .text import CliError, examples

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "vm-mem info guest.elf",
        "vm-mem translate guest.elf 0xffffffff81000000",
        "vm-mem COMMAND --help",
    ),
)
for module in (info, translate, maps, roots, demo, simd):
    app.command(module.__name__.rpartition(".")[2], epilog=module.EXAMPLES)(module.command)

_ClickException: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
"""Base of usage errors; where it lives depends on the version of typer."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"vm-mem {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Look into the memory of virtual machines: dumps, page tables, address translation."""
    if context.invoked_subcommand is None:
        context.get_help()


def _fail(message: str, status: int) -> int:
    print("vm-mem:", " ".join(message.split()), file=sys.stderr)
    return status


def run(argv: Sequence[str] | None) -> int:
    """Run the application and return its exit status; errors become one line on stderr."""
    command = get_command(app)
    try:
        result = command.main(args=argv if argv is None else list(argv), prog_name="vm-mem", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except (CliError, VmError, OSError) as error:
        return _fail(str(error), 2)
    except MemoryError:
        return _fail("out of memory", 2)
    except _ClickException as error:
        where = error.ctx.command_path if getattr(error, "ctx", None) else "vm-mem"
        return _fail(f"{error.format_message()} ({where} --help explains)", 2)
    return result if isinstance(result, int) else 0
