"""Hypervisors behind one typed interface: run guest code, match on what it does.

>>> from vm_accel import available_backends
>>> for backend in available_backends():
...     assert backend.works or backend.reason
"""

from . import exits, kvm
from ._accel import (
    Hypervisor,
    MemorySlot,
    Vcpu,
    Vm,
    X86DescriptorTable,
    X86Regs,
    X86Segment,
    X86SpecialRegs,
    __version__,
    create_hypervisor,
)
from .backends import Backend, available_backends
from .exits import (
    BusLock,
    Debug,
    DirtyRingFull,
    Exit,
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
from .exits import Exception as Exception
from .kvm import KvmInfo, probe

__all__ = [
    "Backend",
    "BusLock",
    "Debug",
    "DirtyRingFull",
    "Exit",
    "FailEntry",
    "Hlt",
    "Hypercall",
    "Hypervisor",
    "InternalError",
    "Interrupted",
    "IoIn",
    "IoOut",
    "IoapicEoi",
    "IrqWindowOpen",
    "KvmInfo",
    "MemoryFault",
    "MemorySlot",
    "MmioRead",
    "MmioWrite",
    "Notify",
    "RdMsr",
    "SetTpr",
    "Shutdown",
    "SystemEvent",
    "Timeout",
    "Unknown",
    "Vcpu",
    "Vm",
    "WrMsr",
    "X86DescriptorTable",
    "X86Regs",
    "X86Segment",
    "X86SpecialRegs",
    "__version__",
    "available_backends",
    "create_hypervisor",
    "exits",
    "kvm",
    "probe",
]
