"""Breakpoints, watchpoints, and what of debugging works here; ``vm_accel.Debugger`` uses them."""

from ._accel import (
    Breakpoint,
    DebugAbilities,
    DebugSupport,
    GuestDebug,
    HardwareBreakpoint,
    Stop,
    StopRequest,
    Watchpoint,
    probe_debug,
)

__all__ = [
    "Breakpoint",
    "DebugAbilities",
    "DebugSupport",
    "GuestDebug",
    "HardwareBreakpoint",
    "Stop",
    "StopRequest",
    "Watchpoint",
    "probe_debug",
]
