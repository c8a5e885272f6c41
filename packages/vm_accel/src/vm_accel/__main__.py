"""``python -m vm_accel`` is the ``vm-accel`` command; without a command it is ``vm-accel info``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .cli import main as command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: the process's own) and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("--json", "--device"):
        arguments.insert(0, "info")
    return command(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
