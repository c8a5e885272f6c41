"""Devices for run loops: a bus, the devices of a small PC, and how a loop ends.

A device is any object with ``read(offset, width) -> int`` and ``write(offset, width, value)``; those here are written
in C++ and need no interpreter while the guest runs.

>>> bus = DeviceBus()
>>> output = BufferSink()
>>> bus.add_ports(0x3F8, 8, Serial(output), "serial")
>>> bus.ranges[0].device.write(0, 1, ord("x"))
>>> output.data
b'x'
"""

from __future__ import annotations

from ._accel import (
    BufferSink,
    BusRange,
    BusTraffic,
    Cmos,
    DebugExit,
    Device,
    DeviceBus,
    EchoPort,
    EmptyPci,
    FwCfg,
    IgnoredPort,
    IrqLinePorts,
    KeyboardController,
    LoopResult,
    MemoryDevice,
    PageFlushPort,
    PowerOffPort,
    Serial,
    StopReason,
    StopRequest,
)

__all__ = [
    "BufferSink",
    "BusRange",
    "BusTraffic",
    "Cmos",
    "DebugExit",
    "Device",
    "DeviceBus",
    "EchoPort",
    "EmptyPci",
    "FwCfg",
    "IgnoredPort",
    "IrqLinePorts",
    "KeyboardController",
    "LoopResult",
    "MemoryDevice",
    "PageFlushPort",
    "PowerOffPort",
    "Serial",
    "StopReason",
    "StopRequest",
]
