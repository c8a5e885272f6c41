"""Page streams of real programs: what valgrind's lackey prints, reduced while it is printed."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.python import native
from bench.python.results import PRODUCTS

__all__ = ["HELD_OUT", "WORKLOADS", "Trace", "Workload", "capture"]

FOLDER = PRODUCTS.parent / "traces"
# Pages that are kept, and data references that are looked at: about a minute of valgrind each.
MOST_PAGES = 5_000_000
MOST_REFERENCES = 25_000_000

SOURCE = """
#include <map>
#include <regex>
#include <string>
std::map<std::string, int> count(const std::string& text) {
  std::map<std::string, int> words;
  const std::regex word("[a-z]+");
  for (std::sregex_iterator it(text.begin(), text.end(), word), end; it != end; ++it) ++words[it->str()];
  return words;
}
"""


@dataclass(frozen=True)
class Trace:
    """The pages that a program's data references went to, stripped as lackey_pages.cpp says, and the instructions."""

    name: str
    what: str
    pages: npt.NDArray[np.uint64]
    pcs: npt.NDArray[np.uint64]
    references: int


@dataclass(frozen=True)
class Workload:
    """A program to trace; `command` gets a folder for its input, `references` is how many data references are kept."""

    name: str
    what: str
    command: Callable[[Path], list[str]]
    references: int = MOST_REFERENCES


def _lines(folder: Path) -> Path:
    numbers = random.Random(1)
    path = folder / "lines.txt"
    path.write_text("".join(f"{numbers.getrandbits(48):012x} {i}\n" for i in range(300_000)))
    return path


def _sort(folder: Path) -> list[str]:
    return ["sort", str(_lines(folder)), "-o", os.devnull]


def _words(folder: Path) -> Path:
    numbers = random.Random(2)
    words = [bytes(numbers.choices(b"abcdefghijklmnopqrstuvwxyz", k=numbers.randint(2, 9))) for _ in range(20_000)]
    path = folder / "text.txt"
    path.write_bytes(b" ".join(numbers.choices(words, k=1_000_000)))
    return path


def _compress(folder: Path) -> list[str]:
    return ["xz", "-6", "-k", "-c", str(_words(folder))]


def _compiler(folder: Path) -> list[str]:
    path, unit = folder / "unit.cpp", folder / "unit.ii"
    path.write_text(SOURCE)
    # The driver knows where headers are, and cc1plus alone does not.
    subprocess.run(["g++", "-std=c++17", "-E", str(path), "-o", str(unit)], check=True)
    cc1plus = subprocess.run(["g++", "-print-prog-name=cc1plus"], check=True, capture_output=True, text=True)
    return [cc1plus.stdout.strip(), "-quiet", "-std=c++17", "-O2", "-fpreprocessed", str(unit), "-o", os.devnull]


def _count(folder: Path) -> list[str]:
    program = '$n{$_}++ for split; END { print "$_ $n{$_}\\n" for sort { $n{$b} <=> $n{$a} } keys %n }'
    return ["perl", "-ne", program, str(_words(folder))]


def _block_sort(folder: Path) -> list[str]:
    return ["bzip2", "-9", "-k", "-c", str(_words(folder))]


_ARRAYS = """
import numpy as np
rows = np.arange(1 << 20, dtype="f8").reshape(1024, 1024)
columns = rows.T.copy()
some = np.random.default_rng(1).integers(0, 1 << 20, 200_000)
print(rows.ravel()[some].sum(), np.sort(columns[:64].ravel())[5], rows[::7, ::3].sum())
"""


def _arrays(_folder: Path) -> list[str]:
    return [sys.executable, "-c", _ARRAYS]


WORKLOADS = (
    Workload("sort", "GNU sort of 300,000 random lines, 6 MB", _sort),
    Workload("xz", "xz -6 compresses 6.5 MB of random words", _compress),
    Workload("compiler", "GCC's cc1plus -O2 compiles 8 lines that use std::regex and std::map", _compiler),
)

# The chooser was adjusted on the programs above. Of these, perl was seen before its last change, the others after.
HELD_OUT = (
    Workload("bzip2", "bzip2 -9 compresses the same 6.5 MB", _block_sort),
    Workload("numpy", "NumPy transposes, gathers from and sorts arrays of 8 MB", _arrays, 60_000_000),
    Workload("perl", "perl counts the words of the same 6.5 MB and sorts them", _count),
)


def capture(workload: Workload, references: int | None = None) -> Trace:
    """Trace a program, or read the trace that an earlier run left in build/traces.

    Raises FileNotFoundError when valgrind is missing.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    references = references or workload.references
    path = FOLDER / f"{workload.name}-{references}.npz"
    if not path.exists():
        pages, pcs, seen = _run(workload.command(FOLDER), references)
        np.savez_compressed(path, pages=pages, pcs=pcs, references=seen)
    with np.load(path) as file:
        return Trace(workload.name, workload.what, file["pages"], file["pcs"], int(file["references"]))


def _run(command: list[str], references: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], int]:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise FileNotFoundError("valgrind is missing; on Debian: apt-get install valgrind")
    reduce = native.library("lackey_pages").lackey_pages
    reduce.restype = ctypes.c_size_t
    reduce.argtypes = [ctypes.c_int, ctypes.c_uint64, ctypes.c_size_t, *[ctypes.c_void_p] * 3]
    pages = np.zeros(MOST_PAGES, np.uint64)
    pcs = np.zeros(MOST_PAGES, np.uint64)
    seen = ctypes.c_uint64()
    reading, writing = os.pipe()
    tracing = [valgrind, "--tool=lackey", "--trace-mem=yes", f"--log-fd={writing}", *command]
    environment = os.environ | {"LC_ALL": "C", "PYTHONHASHSEED": "0"}
    with subprocess.Popen(
        tracing, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=[writing], env=environment
    ) as process:
        os.close(writing)
        count = reduce(reading, references, MOST_PAGES, pages.ctypes.data, pcs.ctypes.data, ctypes.addressof(seen))
        if seen.value >= references or count + 2 > MOST_PAGES:
            process.kill()
        elif process.wait():
            raise RuntimeError(f"{command[0]} ended with status {process.returncode} before it had done much")
    return pages[:count], pcs[:count], seen.value
