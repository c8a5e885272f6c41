"""What the commands ``vm-mem`` and ``vm-accel`` share: how one is put together, and what becomes of its errors.

Importing this module is cheap; typer is imported when an application is made or run.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from .error import VmError

if TYPE_CHECKING:
    import typer

__all__ = ["CliError", "application", "examples", "run"]


class CliError(Exception):
    """What the user asked for makes no sense; the message is for them."""


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n\n".join(["Examples:", *lines])


def application(name: str, version: str, description: str, *example_lines: str) -> typer.Typer:
    """An application without commands yet, which knows ``--version`` and shows its help when called with nothing."""
    import typer

    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=examples(*example_lines),
    )

    def print_version(wanted: bool) -> None:
        if wanted:
            print(f"{name} {version}")
            raise typer.Exit

    shown: Any = {"callback": print_version, "is_eager": True, "help": "Print the version and exit."}

    def root(context: typer.Context, version: bool = False) -> None:
        if context.invoked_subcommand is None:
            context.get_help()

    # typer reads annotations as text where they are postponed, and would not find these names.
    root.__annotations__ = {"context": typer.Context, "version": Annotated[bool, typer.Option("--version", **shown)]}
    app.callback(invoke_without_command=True, help=description)(root)
    return app


def run(app: typer.Typer, name: str, argv: Sequence[str] | None) -> int:
    """Run an application and return its exit status: what the command returned, 2 after an error, 130 interrupted.

    ``argv`` without the program's name; None stands for the process's own arguments. An error of the user, of the
    library or of the system becomes one line on standard error.
    """
    import typer
    from typer.main import get_command

    if argv is None and hasattr(signal, "SIGPIPE"):
        # A reader that has seen enough ends the command without a word, as any other Unix tool.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)

    def fail(message: str) -> int:
        print(f"{name}:", " ".join(message.split()), file=sys.stderr)
        return 2

    # The base of usage errors; where it lives depends on the version of typer.
    usage_error: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
    try:
        arguments = argv if argv is None else list(argv)
        result = get_command(app).main(args=arguments, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except (CliError, VmError, OSError) as error:
        return fail(str(error))
    except MemoryError:
        return fail("out of memory")
    except usage_error as error:
        where = error.ctx.command_path if getattr(error, "ctx", None) else name
        return fail(f"{error.format_message()} ({where} --help explains)")
    return result if isinstance(result, int) else 0
