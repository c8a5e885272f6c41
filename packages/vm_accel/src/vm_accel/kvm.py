"""What KVM, the hypervisor of the Linux kernel, offers on this machine.

A probe only: it opens the device, asks, and closes it; no virtual machine is created.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from . import _accel

__all__ = ["DEFAULT_DEVICE", "KvmInfo", "probe"]

DEFAULT_DEVICE = "/dev/kvm"


@dataclass(frozen=True)
class KvmInfo:
    """The answers of one probe of a KVM device."""

    available: bool
    """True when virtual machines can be created through this device."""
    reason: str
    """Why not, and what to do about it; empty when available."""
    api_version: int
    """12 on every kernel since 2.6.22; -1 when the device could not be asked."""
    capabilities: dict[str, int] = field(default_factory=dict)
    """The kernel's KVM_CAP_* names in lower case without the prefix. 0 means no; the meaning of a larger value is the
    capability's own, often a count. Empty when not available."""
    vcpu_mmap_size: int = 0
    """Bytes of the area that one vCPU shares with user space; 0 when not available."""

    def __bool__(self) -> bool:
        """True when KVM can be used: ``if vm_accel.probe(): ...``."""
        return self.available

    def has(self, name: str) -> bool:
        """True when the capability ``name`` was asked about and the answer was not 0."""
        return self.capabilities.get(name.lower().removeprefix("kvm_cap_"), 0) != 0

    def as_dict(self) -> dict[str, Any]:
        """A copy as plain dicts, strings and numbers, ready for ``json.dumps``."""
        return asdict(self)


def probe(path: str | os.PathLike[str] = DEFAULT_DEVICE) -> KvmInfo:
    """Ask the KVM device at ``path`` what it can do.

    A missing device, a missing permission and a file that is not KVM are answers, not exceptions: ``available`` is
    False and ``reason`` says why. May be called from any number of threads.
    """
    return KvmInfo(*_accel.probe_kvm(path))
