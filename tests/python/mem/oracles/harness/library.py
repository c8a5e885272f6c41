"""The library's side of a comparison: the same registers, the same tables, the same accesses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from vm_core import Access, FaultReason
from vm_mem import GuestMemory
from vm_mem.paging import X86, AArch64, AddressSpace, RiscV

from . import aarch64, riscv, x86
from .stub import ALTERNATIVE, FETCH, READ, SUCCESS, USER, WRITE, Operations, Outcome

StateT = TypeVar("StateT")

ACCESSES = {READ: Access.READ, WRITE: Access.WRITE, FETCH: Access.EXECUTE}


def x86_config(state: x86.State, kind: int = READ) -> X86:
    """`state` in the library's words."""
    return X86(
        levels=state.levels,
        root=state.root,
        write_protect=state.write_protect,
        no_execute=state.no_execute,
        smep=state.smep,
        smap=state.smap,
        ac=state.ac,
        pse=state.pse,
        protection_keys=state.protection_keys,
        pkru=state.pkru,
        supervisor_keys=state.supervisor_keys,
        pkrs=state.pkrs,
        physical_bits=x86.PHYSICAL_BITS,
    )


def riscv_config(state: riscv.State, kind: int = READ) -> RiscV:
    """`state` in the library's words. QEMU 7.2 sets A and D itself."""
    return RiscV(
        state.mode,
        root=state.root,
        sum=state.sum,
        mxr=state.mxr,
        svnapot=state.svnapot,
        svpbmt=state.svpbmt,
        svadu=True,
    )


def aarch64_config(state: aarch64.State, kind: int = READ) -> AArch64:
    """`state` in the library's words. PAN counts only for the AT instructions that heed it, and for fetches."""
    return AArch64(
        granule=state.granule,
        ttbr0=state.ttbr(0),
        ttbr1=state.ttbr(1),
        tcr=state.tcr(),
        wxn=state.wxn,
        pan=state.pan and bool(kind & ALTERNATIVE or kind & 3 == FETCH),
    )


CONFIGS: dict[type, Callable[..., X86 | RiscV | AArch64]] = {
    x86.State: x86_config,
    riscv.State: riscv_config,
    aarch64.State: aarch64_config,
}


def open_tables(path: Path, base: int, *, writable: bool = False) -> GuestMemory:
    """The memory that holds the tables, and nothing else."""
    return GuestMemory.file(path, base=base, writable=writable)


def outcomes(memory: GuestMemory, state: object, done: Operations, *, update: bool = False) -> list[Outcome]:
    """The library's answer to each access; with `update`, A and D are set in `memory`."""
    result: list[Outcome | None] = [None] * len(done)
    for kind in np.unique(done["kind"]).tolist():
        config = CONFIGS[type(state)](state, kind)
        space = AddressSpace(memory, config, update_accessed_dirty=update)
        (places,) = np.nonzero(done["kind"] == kind)
        answer = space.translate(done["vaddr"][places], access=ACCESSES[kind & 3], user=bool(kind & USER))
        beyond = FaultReason.NOT_CANONICAL if isinstance(state, x86.State) else None
        for place, ok, paddr, fault, code in zip(
            places.tolist(),
            answer.ok.tolist(),
            answer.paddr.tolist(),
            answer.fault.tolist(),
            answer.error_code.tolist(),
            strict=True,
        ):
            if ok:
                result[place] = Outcome(paddr, SUCCESS, 0)
            elif isinstance(state, x86.State):
                status = x86.GENERAL_PROTECTION if fault == beyond else x86.PAGE_FAULT
                result[place] = Outcome(None, status, code)
            else:
                result[place] = Outcome(None, code, code)
    return [outcome for outcome in result if outcome is not None]
