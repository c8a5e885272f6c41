"""``vm-mem demo``: a real guest's tables, checked against QEMU's walker and timed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from vm_core import Access
from vm_core.command import CliError, examples

from .. import GuestMemory
from ..paging import AddressSpace, Mappings, TranslationArray
from . import options
from .image import open_image
from .machine import MachineOptions, select
from .maps import HEADER, line, rows
from .output import note, print_json, print_table
from .text import count_text, fault_counts, format_name, plural, round_size

EXAMPLES = examples("vm-mem demo", "vm-mem demo guest.elf --count 1000000 --threads 4 --json")

DEFAULT_IMAGE = Path("tests/data/linux_guest.elf.xz")

_BATCH = 1_000_000
_PAGE = 4096
_MAPS_SHOWN = 8


@dataclass(frozen=True)
class Answers:
    """What QEMU said about the same machine; arrays with one element for each address."""

    vaddr: npt.NDArray[np.uint64]
    paddr: npt.NDArray[np.uint64]
    writable: npt.NDArray[np.bool_]
    user: npt.NDArray[np.bool_]
    no_execute: npt.NDArray[np.bool_]
    region: npt.NDArray[np.uint8]
    region_names: npt.NDArray[np.str_]
    registers: npt.NDArray[np.uint64]
    leaves: npt.NDArray[np.int64]
    leaves_sha256: npt.NDArray[np.str_]
    kernel: npt.NDArray[np.str_]
    qemu: npt.NDArray[np.str_]

    @classmethod
    def load(cls, path: Path) -> Answers:
        """Read an .npz file; raises CliError naming what is missing."""
        names = list(cls.__dataclass_fields__)
        try:
            with np.load(path, allow_pickle=False) as file:
                missing = [name for name in names if name not in file]
                if missing:
                    raise CliError(f"{path} lacks {', '.join(missing)}; it was not made for this image")
                return cls(**{name: file[name] for name in names})
        except OSError as error:
            raise CliError(f"{path}: {error.strerror or error}") from None
        except ValueError as error:
            raise CliError(f"{path} is not an .npz file of plain arrays: {error}") from None

    @property
    def efer(self) -> int:
        """The register that the image itself lacks."""
        return int(self.registers[3])


@dataclass(frozen=True)
class Check:
    """How the library's answers compare with QEMU's."""

    many: TranslationArray
    wrong: npt.NDArray[np.bool_]
    leaves: int
    same_leaves: bool

    @property
    def passed(self) -> bool:
        """True when nothing differs."""
        return self.same_leaves and not self.wrong.any()


def compare(space: AddressSpace, answers: Answers) -> Check:
    """Translate what QEMU translated; a difference in address or rights is a mismatch."""
    many = space.translate(answers.vaddr, access=Access.NONE, threads=0)
    wrong = many.paddr != answers.paddr
    wrong |= (many.access & Access.WRITE).astype(bool) != answers.writable
    wrong |= many.user != answers.user
    # QEMU lists the bit of the last entry alone; those above it can only forbid more.
    wrong |= (many.access & Access.EXECUTE).astype(bool) & answers.no_execute
    leaves = space.mappings(merge=False).array
    pairs = np.stack([leaves["vaddr"], leaves["paddr"]], axis=1).astype("<u8")
    digest = hashlib.sha256(pairs.tobytes()).hexdigest()
    return Check(many, wrong, len(leaves), digest == str(answers.leaves_sha256))


@dataclass(frozen=True)
class Speed:
    """One measurement."""

    threads: int
    addresses: int
    seconds: float

    @property
    def rate(self) -> float:
        """Addresses a second."""
        return self.addresses / self.seconds

    def __str__(self) -> str:
        name = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        each = self.seconds / self.addresses * 1e9
        return f"{name}: {self.seconds:.2f} s, {self.rate / 1e6:,.0f} million a second, {each:.2f} ns each"


class Drawer:
    """Draws addresses evenly from the kernel's mapped pages, with where each must lead."""

    def __init__(self, mappings: Mappings) -> None:
        array = mappings.array
        self._array = array[array["user_access"] == 0]
        self._ends = np.cumsum(self._array["size"] // _PAGE)
        self._random = np.random.default_rng(1)

    @property
    def mapped_bytes(self) -> int:
        """Bytes that addresses are drawn from."""
        return int(self._ends[-1]) * _PAGE if len(self._ends) else 0

    def draw(self, count: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """``count`` virtual addresses and their physical ones."""
        pages = self._random.integers(0, self._ends[-1], count, np.uint64)
        index = np.searchsorted(self._ends, pages, side="right")
        first = self._ends[index] - self._array["size"][index] // _PAGE
        offset = (pages - first) * _PAGE + self._random.integers(0, _PAGE, count, np.uint64)
        return self._array["vaddr"][index] + offset, self._array["paddr"][index] + offset


def measure(space: AddressSpace, drawer: Drawer, count: int, thread_counts: list[int]) -> tuple[list[Speed], int]:
    """Time translations of ``count`` addresses, and count those that are not where the list of mappings says.

    Only the calls are timed. Every number of threads gets the same addresses, a million at a time in turn.
    """
    seconds = dict.fromkeys(thread_counts, 0.0)
    wrong = 0
    space.translate(drawer.draw(min(count, _BATCH))[0], threads=max(thread_counts))  # wakes the processor up
    for done in range(0, count, _BATCH):
        vaddr, paddr = drawer.draw(min(_BATCH, count - done))
        for threads in thread_counts:
            start = time.perf_counter()
            many = space.translate(vaddr, threads=threads)
            seconds[threads] += time.perf_counter() - start
            wrong += int(np.count_nonzero(many.paddr != paddr))
            del many  # its memory is there for the next call, as in a program that works batch by batch
    return [Speed(threads, count, spent) for threads, spent in seconds.items()], wrong


def _answers_path(image: Path) -> Path:
    return image.with_suffix("").with_suffix(".npz") if image.suffix == ".xz" else image.with_suffix(".npz")


def _find_answers(image: Path, given: Path | None) -> Answers | None:
    path = given or _answers_path(image)
    if given is None and not path.exists():
        note(f"{path} is not there, so nothing is compared with QEMU's answers")
        return None
    return Answers.load(path)


def _region_rows(answers: Answers, check: Check) -> Iterator[tuple[str, ...]]:
    for number, name in enumerate(answers.region_names.tolist()):
        here = answers.region == number
        counts = (here, here & check.many.ok, here & check.wrong)
        yield name, *(f"{np.count_nonzero(of):,}" for of in counts)


def _print_check(answers: Answers, check: Check) -> None:
    columns = ("region", ">addresses", ">translated", ">mismatches")
    print_table(columns, list(_region_rows(answers, check)))
    size, wrong = check.many.size, int(np.count_nonzero(check.wrong))
    print(f"\n{size:,} addresses compared with the walker of QEMU ({answers.qemu}): {wrong:,} mismatches")
    same = "the same" if check.same_leaves else "NOT the same"
    print(f"{check.leaves:,} leaf mappings listed: {same} as QEMU's {int(answers.leaves):,}")
    print(f"Why {check.many.fault_count:,} do not translate: {count_text(fault_counts(check.many.fault))}")


def _print_guest(image: Path, memory: GuestMemory, space: AddressSpace, answers: Answers | None) -> None:
    kernel = f" of {str(answers.kernel).removesuffix('.deb')}" if answers is not None else ""
    regions = plural(len(memory.regions), "region")
    print(f"{image}: {format_name(memory)}{kernel}, {round_size(memory.size)} in {regions}")
    print(f"{space.config}\n")


def _print_maps(mappings: Mappings) -> None:
    print(f"\nThe first of {len(mappings):,} mappings, {round_size(mappings.size)} in all:\n{HEADER}")
    for row in rows(mappings[:_MAPS_SHOWN]):
        print(line(row))


def _print_speeds(space: AddressSpace, drawer: Drawer, count: int, thread_counts: list[int]) -> tuple[list[Speed], int]:
    engine = space.choose_engine(drawer.draw(min(count, _BATCH))[0])
    drawn = f"{count:,} random addresses in the kernel's {round_size(drawer.mapped_bytes)}"
    print(f"\n{drawn}, a million at a time, all permission checks, engine {engine}:")
    speeds, wrong = measure(space, drawer, count, thread_counts)
    for speed in speeds:
        print(f"  {speed}")
    print(f"  {wrong:,} of them differ from the list of mappings")
    return speeds, wrong


def _check_object(check: Check) -> dict[str, Any]:
    return {
        "compared": check.many.size,
        "mismatches": int(np.count_nonzero(check.wrong)),
        "leaves": check.leaves,
        "same_leaves": check.same_leaves,
        "faults": fault_counts(check.many.fault),
    }


def _thread_counts(threads: int | None) -> list[int]:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return sorted({1, available if threads is None else threads})


def command(
    image: Annotated[
        Path | None,
        typer.Argument(help=f"ELF core with CPU registers, packed with xz if you like (default: {DEFAULT_IMAGE})."),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="QEMU's answers about the image (default: the .npz file beside it)."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Addresses to time.")] = 50_000_000,
    threads: Annotated[int | None, typer.Option(min=1, max=4096, help="Threads (default: one per CPU).")] = None,
    json: options.Json = False,
) -> int:
    """Translate a real guest's addresses, compare with QEMU's own walker, and measure the speed.

    Exit status 1: something differs.
    """
    if image is None and not DEFAULT_IMAGE.exists():
        raise CliError(f"name an image; in a checkout of the repository {DEFAULT_IMAGE} is the default")
    image = image or DEFAULT_IMAGE
    known = _find_answers(image, answers)
    counts = _thread_counts(threads)
    with open_image(image) as memory:
        config, remark = select(memory, MachineOptions(efer=None if known is None else known.efer))
        if remark:
            note(remark)
        space = AddressSpace(memory, config)
        mappings = space.mappings()
        drawer = Drawer(mappings)
        if not drawer.mapped_bytes:
            raise CliError(f"{image}: these tables map nothing for the kernel")
        check = compare(space, known) if known is not None else None
        if json:
            speeds, wrong = measure(space, drawer, count, counts)
            rates = [{"threads": speed.threads, "seconds": speed.seconds, "rate": speed.rate} for speed in speeds]
            compared = None if check is None else _check_object(check)
            print_json({"image": str(image), "check": compared, "addresses": count, "wrong": wrong, "speeds": rates})
        else:
            _print_guest(image, memory, space, known)
            if known is not None and check is not None:
                _print_check(known, check)
            _print_maps(mappings)
            wrong = _print_speeds(space, drawer, count, counts)[1]
    return 0 if wrong == 0 and (check is None or check.passed) else 1
