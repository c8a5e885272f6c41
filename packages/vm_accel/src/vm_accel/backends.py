"""Which hypervisors this build knows, and which of them work here."""

from __future__ import annotations

from dataclasses import dataclass

from . import _accel

__all__ = ["Backend", "available_backends"]


@dataclass(frozen=True)
class Backend:
    """One hypervisor that this build knows."""

    name: str
    """What ``create_hypervisor`` takes: "kvm"."""
    works: bool
    """True when virtual machines can be created here."""
    reason: str
    """Why not, and what to do about it; empty when it works."""


def available_backends() -> tuple[Backend, ...]:
    """Every hypervisor of this build, the preferred ones first, with the reason where one does not work.

    Asks each of them; creates nothing. May be called from any number of threads.
    """
    return tuple(Backend(*answer) for answer in _accel.available_backends())
