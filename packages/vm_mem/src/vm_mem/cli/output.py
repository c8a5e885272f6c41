"""Output: tables for people on a terminal, plain columns in a pipe, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

JsonObject = Mapping[str, Any]


def note(message: str) -> None:
    """Tell the user something that is neither the answer nor an error."""
    print("vm-mem: note:", message, file=sys.stderr)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print a table; a column whose name begins with ``>`` is aligned to the right."""
    right = [name.startswith(">") for name in columns]
    names = [name.removeprefix(">") for name in columns]
    if sys.stdout.isatty():
        _print_rich_table(names, right, rows, title)
        return
    if title:
        print(title)
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    for row in (names, *rows):
        cells = zip(row, widths, right, strict=True)
        print("  ".join(cell.rjust(width) if r else cell.ljust(width) for cell, width, r in cells).rstrip())


def _print_rich_table(
    names: Sequence[str], right: Sequence[bool], rows: Sequence[Sequence[str]], title: str | None
) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=escape(title) if title else None, title_justify="left", title_style="bold")
    for name, is_right in zip(names, right, strict=True):
        table.add_column(name, justify="right" if is_right else "left", no_wrap=name != "evidence")
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)


def _write_plain(line: str, _: str) -> None:
    sys.stdout.write(line + "\n")


def line_writer() -> Callable[[str, str], None]:
    """A function that prints a line in a style of rich: on a terminal in colour, elsewhere plain and fast."""
    if not sys.stdout.isatty():
        return _write_plain
    from rich.console import Console
    from rich.text import Text

    console = Console()
    return lambda line, style: console.print(Text(line, style), soft_wrap=True)


def print_json(value: JsonObject) -> None:
    """Print one JSON object."""
    print(json.dumps(value, indent=2))


def print_json_array(items: Iterable[JsonObject]) -> None:
    """Print a JSON array with one element a line, while the elements come."""
    write = sys.stdout.write
    separator = "[\n"
    for item in items:
        write(separator + json.dumps(item))
        separator = ",\n"
    write("[]\n" if separator == "[\n" else "\n]\n")
