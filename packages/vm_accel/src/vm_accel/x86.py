"""The state of an x86 processor and of its CPUID and MSRs, as values.

``vcpu.regs``, ``vcpu.sregs``, ``vcpu.msrs`` and their like return them; the words are those of the processor manuals.
"""

from ._accel import (
    CpuidEntry,
    CpuidTable,
    MsrRange,
    Msrs,
    X86DebugRegs,
    X86DescriptorTable,
    X86Events,
    X86Fpu,
    X86Lapic,
    X86PendingException,
    X86PendingInterrupt,
    X86PendingNmi,
    X86PendingSmi,
    X86Regs,
    X86Segment,
    X86SpecialRegs,
    X86Translation,
    X86Xsave,
    cpuid_features,
    msr_name,
    msr_names,
)

__all__ = [
    "CpuidEntry",
    "CpuidTable",
    "MsrRange",
    "Msrs",
    "X86DebugRegs",
    "X86DescriptorTable",
    "X86Events",
    "X86Fpu",
    "X86Lapic",
    "X86PendingException",
    "X86PendingInterrupt",
    "X86PendingNmi",
    "X86PendingSmi",
    "X86Regs",
    "X86Segment",
    "X86SpecialRegs",
    "X86Translation",
    "X86Xsave",
    "cpuid_features",
    "msr_name",
    "msr_names",
]
