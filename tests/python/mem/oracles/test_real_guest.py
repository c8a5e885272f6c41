"""A real Linux guest: the shipped page tables of a dump, and what QEMU said about the machine it was taken from."""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from mem.oracles.harness.report import Counts
from vm_core import Access
from vm_mem import GuestMemory
from vm_mem.paging import X86, AddressSpace

DATA = Path(__file__).resolve().parents[3] / "data"
UNMAPPED = np.uint64((1 << 64) - 1)
MODE = "Linux 6.1, x86 4-level"

Answers = Mapping[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def answers() -> Answers:
    with np.load(DATA / "linux_guest.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestMemory]:
    path = tmp_path_factory.mktemp("guest") / "linux_guest.elf"
    path.write_bytes(lzma.decompress((DATA / "linux_guest.elf.xz").read_bytes()))
    with GuestMemory.open(path) as opened:
        yield opened


@pytest.fixture
def space(memory: GuestMemory, answers: Answers) -> AddressSpace:
    cpu = memory.cpu_states[0]
    cr0, cr3, cr4, efer = answers["registers"].tolist()
    # The dump's notes carry everything but EFER.
    assert (cpu.cr0, cpu.cr3, cpu.cr4) == (cr0, cr3, cr4)
    return AddressSpace(memory, X86.from_registers(cr0=cr0, cr3=cr3, cr4=cr4, efer=efer))


def differing(answers: Answers, wrong: npt.NDArray[np.bool_], what: str) -> list[str]:
    """One line per address on which the two disagree."""
    return [
        f"{vaddr:#018x}: {what}; QEMU says {paddr:#x}"
        for vaddr, paddr in zip(answers["vaddr"][wrong].tolist(), answers["paddr"][wrong].tolist(), strict=True)
    ]


def test_addresses(space: AddressSpace, answers: Answers, record_counts: Counts) -> None:
    """gva2gpa in every region of the kernel and of its init."""
    found = space.translate(answers["vaddr"], access=Access.NONE)
    np.testing.assert_array_equal(found.ok, found.paddr != UNMAPPED)
    for region, name in enumerate(answers["region_names"].tolist()):
        here = answers["region"] == region
        wrong = here & (found.paddr != answers["paddr"])
        faults = int((answers["paddr"][here] == UNMAPPED).sum())
        mismatches = differing(answers, wrong, "another address here")
        record_counts.add(MODE, f"gva2gpa, {name}", addresses=int(here.sum()), faults=faults, mismatches=mismatches)


def test_every_region_is_represented(answers: Answers) -> None:
    """The kernel's text, its data structures and user memory are all in the sample, with pages of all three sizes."""
    mapped = answers["region"][answers["paddr"] != UNMAPPED]
    names = answers["region_names"].tolist()
    counts = dict(zip(names, np.bincount(mapped, minlength=len(names)).tolist(), strict=True))
    for name in ("user", "direct map", "vmalloc", "vmemmap", "CPU entry area", "kernel image", "modules", "fixmap"):
        assert counts[name] > 1000, name


def test_rights(space: AddressSpace, answers: Answers, record_counts: Counts) -> None:
    """What `info mem` and `info tlb` say may be done with each mapped page."""
    supervisor = space.translate(answers["vaddr"], access=Access.NONE)
    user = space.translate(answers["vaddr"], access=Access.READ, user=True)
    mapped = answers["paddr"] != UNMAPPED
    faults = int((~mapped).sum())
    checks = {
        "may write": ((supervisor.access & Access.WRITE) != 0, answers["writable"]),
        "may execute": ((supervisor.access & Access.EXECUTE) != 0, mapped & ~answers["no_execute"]),
        "user may read": (user.ok, answers["user"]),
    }
    for what, (ours, theirs) in checks.items():
        mismatches = differing(answers, (ours != theirs) & mapped, what)
        record_counts.add(MODE, what, addresses=len(mapped), faults=faults, mismatches=mismatches)
    assert set(np.unique(supervisor.page_size[mapped]).tolist()) == {1 << 12, 1 << 21, 1 << 30}


def test_enumeration(space: AddressSpace, answers: Answers, record_counts: Counts) -> None:
    """`mappings` lists the very leaves of `info tlb`."""
    found = space.mappings(merge=False).array
    pairs = np.stack([found["vaddr"], found["paddr"]], axis=1).astype("<u8")
    digest = hashlib.sha256(pairs.tobytes()).hexdigest()
    count = answers["leaves"].item()
    same = len(found) == count and digest == answers["leaves_sha256"].item()
    mismatches = [] if same else [f"{len(found)} leaves here, {count} in info tlb, or other addresses"]
    record_counts.add(MODE, "leaves in info tlb", addresses=count, faults=0, mismatches=mismatches)
