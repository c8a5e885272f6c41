"""What gdb is told when the guest stands still."""

from __future__ import annotations

from .._accel import Debugger, Stop

__all__ = ["INTERRUPT", "TRAP", "Ended", "Stopped"]

TRAP, INTERRUPT = 5, 2
"""gdb's numbers of the signals that stand for breakpoints and for Ctrl-C."""


class Stopped:
    """Why the guest stands still, in gdb's words."""

    def __init__(self, signal: int, vcpu: int, detail: str = "") -> None:
        self.signal = signal
        self.vcpu = vcpu
        self.detail = detail

    @classmethod
    def from_stop(cls, stop: Stop, debugger: Debugger) -> Stopped:
        """The words for a stop that is not an exit."""
        if stop.reason == "interrupted":
            return cls(INTERRUPT, stop.vcpu)
        if stop.reason == "breakpoint":
            hardware = any(point.id == stop.id and point.hardware for point in debugger.breakpoints)
            return cls(TRAP, stop.vcpu, "hwbreak:;" if hardware else "swbreak:;")
        if stop.reason == "watchpoint":
            reads = any(point.id == stop.id and point.read for point in debugger.watchpoints)
            return cls(TRAP, stop.vcpu, f"{'awatch' if reads else 'watch'}:{stop.address:x};")
        return cls(TRAP, stop.vcpu)


class Ended:
    """The guest is over."""

    def __init__(self, status: int) -> None:
        self.status = status
