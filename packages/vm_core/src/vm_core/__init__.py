"""The words that every part of the virtual machine speaks: addresses, access rights, errors, facts of this machine.

Holds no memory and runs no guest: guest memory and page tables are in ``vm_mem``, hypervisors in ``vm_accel``.

>>> Access.READ | Access.EXECUTE
<Access.READ|EXECUTE: 5>
>>> describe(FaultReason.NOT_PRESENT)
'not present'
"""

from ._core import (
    Access,
    FaultReason,
    PageSize,
    Privilege,
    __version__,
    align_down,
    align_up,
    describe,
    is_aligned,
)
from .counters import Counters, CounterSnapshot
from .cpu_features import Cache, CpuFeatures
from .error import (
    AccessViolation,
    ClosedError,
    DoubleFree,
    InvalidConfig,
    NotSupported,
    OutOfRange,
    PageFault,
    PlatformError,
    ResourceExhausted,
    VmError,
)
from .topology import Topology

__all__ = [
    "Access",
    "AccessViolation",
    "Cache",
    "ClosedError",
    "CounterSnapshot",
    "Counters",
    "CpuFeatures",
    "DoubleFree",
    "FaultReason",
    "InvalidConfig",
    "NotSupported",
    "OutOfRange",
    "PageFault",
    "PageSize",
    "PlatformError",
    "Privilege",
    "ResourceExhausted",
    "Topology",
    "VmError",
    "__version__",
    "align_down",
    "align_up",
    "describe",
    "is_aligned",
]
