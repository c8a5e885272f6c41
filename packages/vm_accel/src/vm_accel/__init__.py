"""Hypervisors of this machine behind one typed interface.

Today this package answers one question, what the Linux hypervisor KVM offers here::

    >>> import vm_accel
    >>> info = vm_accel.probe()
    >>> info.available or info.reason != ""
    True

It does not run guests yet. ``python -m vm_accel`` prints the answer as a table.
"""

from . import kvm
from ._accel import __version__
from .kvm import KvmInfo, probe

__all__ = ["KvmInfo", "__version__", "kvm", "probe"]
