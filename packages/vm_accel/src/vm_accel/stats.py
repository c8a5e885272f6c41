"""The kernel's own statistics of a VM or a vCPU: ``vm.stats``, ``vcpu.stats``.

KVM counts exits, page faults, halts and much more, and describes what it counts: a header, one descriptor for each
statistic, and the values (Linux, Documentation/virt/kvm/api.rst, 4.133 KVM_GET_STATS_FD). `read_statistics` reads
all of it; `Statistics` keeps the descriptors and reads the values again and again, from any thread.

>>> from vm_accel import available_backends, create_hypervisor
>>> if any(backend.works for backend in available_backends()):
...     with create_hypervisor() as hypervisor, hypervisor.create_vm() as vm:
...         names = sorted(vm.stats)
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from types import TracebackType

from vm_core import ClosedError, InvalidConfig, PlatformError

__all__ = ["Kind", "Statistic", "Statistics", "Unit", "read_statistics"]

_HEADER = struct.Struct("=IIIIII")  # flags, name_size, num_desc, id_offset, desc_offset, data_offset
_DESCRIPTOR = struct.Struct("=IhHII")  # flags, exponent, size, offset, bucket_size; the name follows

# Beyond these a header is not KVM's; Linux 6.18 has about 60 statistics, names of 48 bytes and 1000 buckets at most.
_MOST_DESCRIPTORS = 1 << 16
_LONGEST_NAME = 1 << 12
_MOST_BYTES = 1 << 26


class Kind(IntEnum):
    """What becomes of a value. The kernel's numbers (KVM_STATS_TYPE)."""

    CUMULATIVE = 0
    """Only grows."""
    INSTANT = 1
    """Goes up and down."""
    PEAK = 2
    """The most so far."""
    LINEAR_HISTOGRAM = 3
    """Counts in buckets of ``bucket_size``; the last is for all the rest."""
    LOG_HISTOGRAM = 4
    """Counts in buckets that double: 0, 1, 2 to 3, 4 to 7, ..."""
    UNKNOWN = 15
    """Younger than this library."""


class Unit(IntEnum):
    """What is counted. The kernel's numbers (KVM_STATS_UNIT)."""

    NONE = 0
    BYTES = 1
    SECONDS = 2
    CYCLES = 3
    BOOLEAN = 4
    UNKNOWN = 15
    """Younger than this library."""


@dataclass(frozen=True)
class Statistic:
    """One statistic and its value at one moment."""

    name: str
    kind: Kind
    unit: Unit
    base: int
    """10 or 2; a value stands for ``value * base ** exponent`` units."""
    exponent: int
    """-9 with base 10 and `Unit.SECONDS`: nanoseconds."""
    bucket_size: int
    """Of a linear histogram; 0 for others."""
    values: tuple[int, ...]
    """One, or the buckets of a histogram."""

    @property
    def value(self) -> int:
        """The value as the kernel counts it. Raises InvalidConfig for a histogram with several buckets."""
        if len(self.values) != 1:
            raise InvalidConfig(f"{self.name} is a histogram of {len(self.values)} buckets; read .values")
        return self.values[0]

    @property
    def scaled(self) -> float:
        """The value in whole units: seconds, bytes."""
        return self.value * float(self.base) ** self.exponent

    def __int__(self) -> int:
        return self.value


def _wrong(what: str) -> InvalidConfig:
    return InvalidConfig(f"these are no statistics of KVM: {what}")


def _pread(fd: int, size: int, offset: int, what: str) -> bytes:
    parts = []
    while size > 0:
        try:
            part = os.pread(fd, size, offset)
        except OSError as error:
            text = f"reading {what} of the kernel's statistics: {error}"
            raise PlatformError(text, errno=error.errno or 0) from None
        if not part:
            raise _wrong(f"{what} ends {size} bytes too early")
        parts.append(part)
        size -= len(part)
        offset += len(part)
    return b"".join(parts)


def _enum(kind: Callable[[int], IntEnum], number: int) -> int:
    try:
        return int(kind(number))
    except ValueError:
        return 15


@dataclass(frozen=True)
class _Layout:
    data_offset: int
    data_size: int
    entries: tuple[tuple[Statistic, int], ...]  # with its offset in the data


def _layout(fd: int) -> _Layout:
    _, name_size, count, _, descriptors_at, data_at = _HEADER.unpack(_pread(fd, _HEADER.size, 0, "the header"))
    if not 0 < name_size <= _LONGEST_NAME or count > _MOST_DESCRIPTORS:
        raise _wrong(f"{count} descriptors with names of {name_size} bytes")
    step = _DESCRIPTOR.size + name_size
    table = _pread(fd, count * step, descriptors_at, "the descriptors")
    entries, end = [], 0
    for at in range(0, count * step, step):
        flags, exponent, size, offset, bucket_size = _DESCRIPTOR.unpack_from(table, at)
        raw = table[at + _DESCRIPTOR.size : at + step]
        name = raw.split(b"\0", 1)[0].decode("ascii", "replace")
        if not name or size == 0 or offset + 8 * size > _MOST_BYTES:
            raise _wrong(f"descriptor {at // step} ({name!r}) has {size} values at {offset}")
        statistic = Statistic(
            name=name,
            kind=Kind(_enum(Kind, flags & 0xF)),
            unit=Unit(_enum(Unit, flags >> 4 & 0xF)),
            base=2 if flags >> 8 & 0xF == 1 else 10,
            exponent=exponent,
            bucket_size=bucket_size,
            values=(0,) * size,
        )
        entries.append((statistic, offset))
        end = max(end, offset + 8 * size)
    return _Layout(data_at, end, tuple(entries))


class Statistics:
    """The statistics behind a descriptor, read as often as wanted.

    fd: of ``vm.open_stats()`` or ``vcpu.open_stats()``; closed with this object. Reading is for any thread at any time;
    it sees what the kernel has counted at that moment, each value for itself. Raises InvalidConfig for a descriptor
    of something else.
    """

    def __init__(self, fd: int) -> None:
        self._layout = _layout(fd)
        self._fd = fd

    def read(self) -> dict[str, Statistic]:
        """The statistics by name. Raises ClosedError, PlatformError."""
        if self._fd < 0:
            raise ClosedError("these statistics are closed")
        data = _pread(self._fd, self._layout.data_size, self._layout.data_offset, "the values")
        return {
            statistic.name: replace(statistic, values=struct.unpack_from(f"={len(statistic.values)}Q", data, offset))
            for statistic, offset in self._layout.entries
        }

    def close(self) -> None:
        """Close the descriptor. Twice is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Statistics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()


def read_statistics(fd: int) -> dict[str, Statistic]:
    """All statistics of a descriptor, which stays open. Raises InvalidConfig, PlatformError."""
    layout = _layout(fd)
    data = _pread(fd, layout.data_size, layout.data_offset, "the values")
    return {
        statistic.name: replace(statistic, values=struct.unpack_from(f"={len(statistic.values)}Q", data, offset))
        for statistic, offset in layout.entries
    }
