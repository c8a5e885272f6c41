"""What Linux tells about threads and memory of this process, from files that a test can fake."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["ThreadTimes", "resident_bytes", "thread_times"]

_PRESENT = np.uint64(1 << 63)
_CHUNK_PAGES = 1 << 17  # 1 MiB of the map at a time


@dataclass(frozen=True)
class ThreadTimes:
    """The time of one thread, since it began."""

    cpu_ns: int
    wait_ns: int | None


def thread_times(tid: int, proc: Path) -> ThreadTimes | None:
    """CPU time of a thread of this process; None when there is no such thread or nothing to read.

    From ``schedstat``, which counts nanoseconds and the wait for a processor (Linux, scheduler/sched-stats.rst); on a
    kernel without it from ``stat``, in clock ticks (proc_pid_stat(5), fields 14 and 15).
    """
    folder = proc / "self" / "task" / str(tid)
    try:
        cpu_ns, wait_ns = (int(word) for word in (folder / "schedstat").read_text().split()[:2])
        return ThreadTimes(cpu_ns, wait_ns)
    except (OSError, ValueError):
        pass
    try:
        text = (folder / "stat").read_text()
        words = text[text.rindex(")") + 2 :].split()  # the name in field 2 may hold anything
        ticks = int(words[11]) + int(words[12])
    except (OSError, ValueError, IndexError):
        return None
    return ThreadTimes(ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK"), None)


def resident_bytes(ranges: list[tuple[int, int]], proc: Path) -> int | None:
    """How much of some (address, size) ranges of this process its page tables show present.

    From ``/proc/self/pagemap``, bit 63 (Linux, admin-guide/mm/pagemap.rst), because neighbouring mappings share one
    entry of ``smaps``. A page that two ranges show counts twice. None where the map cannot be read.
    """
    page = os.sysconf("SC_PAGESIZE")
    present = 0
    try:
        with (proc / "self" / "pagemap").open("rb", buffering=0) as pagemap:
            for address, size in ranges:
                first, last = address // page, (address + size + page - 1) // page
                while first < last:
                    count = min(last - first, _CHUNK_PAGES)
                    entries = np.frombuffer(os.pread(pagemap.fileno(), 8 * count, 8 * first), np.uint64)
                    if entries.size == 0:
                        return None
                    present += int(np.count_nonzero(entries & _PRESENT))
                    first += entries.size
    except (OSError, ValueError):
        return None
    return present * page
