"""The ``vm-mem`` command.

Importing this package is cheap: the command-line libraries are imported when ``main`` runs.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``vm-mem`` with these arguments (default: the process's own) and return its exit status.

    0: done; 1: the answer is "no" (``translate --strict`` met a fault, ``roots`` found nothing, ``demo`` or ``simd`` a
    mismatch); 2: bad arguments or a bad image, told in one line on stderr; 130: interrupted.
    """
    from vm_core.command import run

    from .app import app

    return run(app, "vm-mem", argv)
