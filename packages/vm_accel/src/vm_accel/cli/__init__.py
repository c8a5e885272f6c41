"""The ``vm-accel`` command.

Importing this package is cheap: the command-line libraries are imported when ``main`` runs.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``vm-accel`` with these arguments (default: the process's own) and return its exit status.

    ``run`` returns the guest's status, 124 when its time was over and 125 when it could not go on; ``info`` returns 1
    when no hypervisor works. 2: bad arguments, a bad image or no hypervisor, told in one line on stderr; 130:
    interrupted.
    """
    if argv is None and hasattr(signal, "SIGPIPE"):
        # A reader that has seen enough ends the command without a word, as any other Unix tool.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    from .app import run

    return run(argv)
