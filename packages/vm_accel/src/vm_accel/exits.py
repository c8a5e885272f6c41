"""Why a vCPU came back, as data: one frozen class per reason, made for ``match``.

>>> match IoOut(port=0x3F8, data=b"hi"):
...     case IoOut(port=0x3F8, data=data):
...         data.decode()
'hi'

Exits compare by value and can be made by hand, which tests of a VMM want. Those that the guest waits at (IoIn,
MmioRead, Hypercall, RdMsr) are answered with ``reply``, once, before the next run.
"""

from __future__ import annotations

from typing import TypeAlias

from ._accel import (
    BusLock,
    Debug,
    DirtyRingFull,
    FailEntry,
    Hlt,
    Hypercall,
    InternalError,
    Interrupted,
    IoapicEoi,
    IoIn,
    IoOut,
    IrqWindowOpen,
    MemoryFault,
    MmioRead,
    MmioWrite,
    Notify,
    RdMsr,
    SetTpr,
    Shutdown,
    SystemEvent,
    Timeout,
    Unknown,
    WrMsr,
)

# Not in __all__: a star import must not replace the built-in of this name.
from ._accel import Exception as Exception

Exit: TypeAlias = (
    BusLock
    | Debug
    | DirtyRingFull
    | Exception
    | FailEntry
    | Hlt
    | Hypercall
    | InternalError
    | Interrupted
    | IoapicEoi
    | IoIn
    | IoOut
    | IrqWindowOpen
    | MemoryFault
    | MmioRead
    | MmioWrite
    | Notify
    | RdMsr
    | SetTpr
    | Shutdown
    | SystemEvent
    | Timeout
    | Unknown
    | WrMsr
)
"""What ``Vcpu.run`` returns: any of the exits."""

__all__ = [
    "BusLock",
    "Debug",
    "DirtyRingFull",
    "Exit",
    "FailEntry",
    "Hlt",
    "Hypercall",
    "InternalError",
    "Interrupted",
    "IoIn",
    "IoOut",
    "IoapicEoi",
    "IrqWindowOpen",
    "MemoryFault",
    "MmioRead",
    "MmioWrite",
    "Notify",
    "RdMsr",
    "SetTpr",
    "Shutdown",
    "SystemEvent",
    "Timeout",
    "Unknown",
    "WrMsr",
]
