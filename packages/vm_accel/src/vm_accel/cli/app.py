"""The command-line application: its subcommands, and what becomes of errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command
from vm_core import VmError

from .. import __version__
from . import info, run_image
from .text import CliError, examples

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("vm-accel info", "vm-accel run kernel.elf -- console=ttyS0", "vm-accel COMMAND --help"),
)
app.command("run", epilog=run_image.EXAMPLES)(run_image.command)
app.command("info", epilog=info.EXAMPLES)(info.command)

_ClickException: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
"""Base of usage errors; where it lives depends on the version of typer."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"vm-accel {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run guests on the hypervisor of this machine."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def _fail(message: str, status: int) -> int:
    print("vm-accel:", " ".join(message.split()), file=sys.stderr)
    return status


def run(argv: Sequence[str] | None) -> int:
    """Run the application and return its exit status; errors become one line on stderr."""
    command = get_command(app)
    try:
        result = command.main(args=argv if argv is None else list(argv), prog_name="vm-accel", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except (CliError, VmError, OSError) as error:
        return _fail(str(error), 2)
    except MemoryError:
        return _fail("out of memory", 2)
    except _ClickException as error:
        where = error.ctx.command_path if getattr(error, "ctx", None) else "vm-accel"
        return _fail(f"{error.format_message()} ({where} --help explains)", 2)
    return result if isinstance(result, int) else 0
