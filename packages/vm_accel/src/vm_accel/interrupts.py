"""Interrupt controllers, messages, routes, and the events that stand for an interrupt or a write of the guest.

What carries them out is ``vm.interrupts``, ``vm.io_events`` and ``vm_accel.EventFd``.
"""

from ._accel import (
    CoalescedZone,
    GsiRoute,
    Interrupts,
    IoapicRedirection,
    IoapicState,
    IoEvent,
    IoEvents,
    IrqController,
    IrqPin,
    LineStatus,
    Msi,
    MsiDelivery,
    PicState,
    PitChannel,
    PitState,
)

__all__ = [
    "CoalescedZone",
    "GsiRoute",
    "Interrupts",
    "IoEvent",
    "IoEvents",
    "IoapicRedirection",
    "IoapicState",
    "IrqController",
    "IrqPin",
    "LineStatus",
    "Msi",
    "MsiDelivery",
    "PicState",
    "PitChannel",
    "PitState",
]
