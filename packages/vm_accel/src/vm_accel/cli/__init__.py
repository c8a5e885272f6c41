"""The ``vm-accel`` command.

Importing this package is cheap: the command-line libraries are imported when ``main`` runs.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``vm-accel`` with these arguments (default: the process's own) and return its exit status.

    ``run`` returns the guest's status, 124 when its time was over and 125 when it could not go on; ``info`` returns 1
    when no hypervisor works. 2: bad arguments, a bad image or no hypervisor, told in one line on stderr; 130:
    interrupted.
    """
    from vm_core.command import run

    from .app import app

    return run(app, "vm-accel", argv)
