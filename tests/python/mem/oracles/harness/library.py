"""The library's side of a comparison: the same registers, the same tables, the same accesses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from vm_core import Access, FaultReason
from vm_mem import GuestMemory
from vm_mem.paging import X86, AArch64, AddressSpace, RiscV

from . import aarch64, riscv, x86
from .stub import ALTERNATIVE, FETCH, READ, SUCCESS, USER, WRITE, Operations, Outcome

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


@contextmanager
def tables(folder: Path, base: int, content: bytes) -> Iterator[GuestMemory]:
    """Memory that holds the tables and nothing else; writable. It lasts as long as the context."""
    path = folder / "tables"
    path.write_bytes(content)
    try:
        with GuestMemory.file(path, base=base, writable=True) as memory:
            yield memory
    finally:
        path.unlink()


def outcomes(memory: GuestMemory, state: object, done: Operations, turn: int) -> list[Outcome]:
    """The library's answer to each access, A and D being set in `memory`. `turn` says which engine's turn it is."""
    result: list[Outcome | None] = [None] * len(done)
    for kind in np.unique(done["kind"]).tolist():
        config = CONFIGS[type(state)](state, kind)
        space = AddressSpace(memory, config, update_accessed_dirty=True)
        (places,) = np.nonzero(done["kind"] == kind)
        engine: Any = space.engines[turn % len(space.engines)]
        answer = space.translate(
            done["vaddr"][places],
            access=ACCESSES[kind & 3],
            user=bool(kind & USER),
            engine=engine,
        )
        beyond = FaultReason.NOT_CANONICAL if isinstance(state, x86.State) else None
        columns = (answer.ok, answer.paddr, answer.page_size, answer.fault, answer.error_code)
        rows = zip(places.tolist(), *(column.tolist() for column in columns), strict=True)
        for place, ok, paddr, size, fault, code in rows:
            if ok:
                result[place] = Outcome(paddr, SUCCESS, 0, size)
            elif isinstance(state, x86.State):
                status = x86.GENERAL_PROTECTION if fault == beyond else x86.PAGE_FAULT
                result[place] = Outcome(None, status, code)
            else:
                result[place] = Outcome(None, code, code)
    return [outcome for outcome in result if outcome is not None]
