"""Addresses from files, and translations into files."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
from vm_core import FaultReason
from vm_core.command import CliError

from ..paging import TranslationArray
from .text import RIGHTS, parse_number

Addresses = npt.NDArray[np.uint64]

_FIELDS = ("vaddr", "paddr", "page_size", "access", "user", "level", "fault", "error_code")
_CHUNK = 1 << 16


def _read_text(lines: Iterable[str], source: str) -> Addresses:
    """Numbers between white space; # begins a comment."""
    found = array("Q")
    for line_number, line in enumerate(lines, 1):
        for word in line.partition("#")[0].split():
            try:
                found.append(parse_number(word))
            except ValueError as error:
                raise CliError(f"{source}, line {line_number}: {error}") from None
    return np.array(found, np.uint64)


def _read_npy(path: Path) -> Addresses:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CliError(f"{path} is not a .npy file of numbers: {error}") from None
    if not isinstance(values, np.ndarray):
        raise CliError(f"{path} is an archive of arrays; save one array with numpy.save")
    if values.dtype.kind not in "ui":
        raise CliError(f"{path} holds {values.dtype}; addresses are integers")
    if values.dtype.kind == "i" and values.size and values.min() < 0:
        raise CliError(f"{path} holds negative numbers; save addresses as uint64")
    return values.astype(np.uint64)


def read_addresses(path: Path) -> Addresses:
    """The addresses in a .npy file (of any shape), a text file, or with ``-`` in standard input as text."""
    if str(path) == "-":
        return _read_text(sys.stdin, "standard input")
    try:
        with path.open("rb") as file:
            is_npy = file.read(6) == b"\x93NUMPY"
        if is_npy or path.suffix == ".npy":
            return _read_npy(path)
        with path.open(encoding="ascii", errors="replace") as lines:
            return _read_text(lines, str(path))
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None


def fields(many: TranslationArray) -> dict[str, Any]:
    """Everything about translations, as arrays by name."""
    return {name: getattr(many, name) for name in _FIELDS}


def _write_npz(path: Path, many: TranslationArray) -> None:
    with path.open("wb") as file:
        np.savez(file, **fields(many))


def _write_npy(path: Path, many: TranslationArray) -> None:
    arrays = fields(many)
    records = np.empty(many.shape, [(name, values.dtype) for name, values in arrays.items()])
    for name, values in arrays.items():
        records[name] = values
    with path.open("wb") as file:
        np.save(file, records)


def rows(many: TranslationArray) -> Iterator[tuple[int, int, int, int, bool, int, int, int]]:
    """One tuple of ``fields`` for each address, in C order."""
    columns = [values.ravel() for values in fields(many).values()]
    for first in range(0, many.size, _CHUNK):
        yield from zip(*(column[first : first + _CHUNK].tolist() for column in columns), strict=True)


def _write_csv(path: Path, many: TranslationArray) -> None:
    with path.open("w", encoding="ascii") as file:
        _write_csv_rows(file, many)


def _write_csv_rows(file: TextIO, many: TranslationArray) -> None:
    names = {int(reason): reason.name.lower() for reason in FaultReason}
    file.write(",".join(_FIELDS) + "\n")
    for vaddr, paddr, page_size, access, user, level, fault, code in rows(many):
        if fault:
            file.write(f"{vaddr:#x},,,,,{level},{names[fault]},{code:#x}\n")
        else:
            file.write(f"{vaddr:#x},{paddr:#x},{page_size},{RIGHTS[access]},{user:d},{level},,\n")


_WRITERS: Mapping[str, Callable[[Path, TranslationArray], None]] = {
    ".npz": _write_npz,
    ".npy": _write_npy,
    ".csv": _write_csv,
}


def check_result_path(path: Path) -> None:
    """Raise CliError, before any work is done, when results cannot be written there."""
    if path.suffix not in _WRITERS:
        raise CliError(f"{path}: results go to files that end in {', '.join(_WRITERS)}")
    if not path.parent.is_dir():
        raise CliError(f"{path}: there is no folder {path.parent}")


def write_result(path: Path, many: TranslationArray) -> None:
    """Write translations in the format that the file's name asks for."""
    try:
        _WRITERS[path.suffix](path, many)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None
