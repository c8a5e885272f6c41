"""The ``vm-mem`` command.

Importing this package is cheap: the command-line libraries are imported when ``main`` runs.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``vm-mem`` with these arguments (default: the process's own) and return its exit status.

    0: done; 1: the answer is "no" (``translate --strict`` met a fault, ``roots`` found nothing, ``demo`` or ``simd`` a
    mismatch); 2: bad arguments or a bad image, told in one line on stderr; 130: interrupted.
    """
    if argv is None and hasattr(signal, "SIGPIPE"):
        # A reader that has seen enough ends the command without a word, as any other Unix tool.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    from .app import run

    return run(argv)
