"""What was compared, for the summary of a run, and assertions that say both answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest


class Row(NamedTuple):
    """One comparison with QEMU."""

    mode: str
    what: str
    addresses: int
    faults: int
    mismatches: int


@dataclass
class Counts:
    """Every comparison of a run."""

    rows: list[Row] = field(default_factory=list)
    """The library's answers against QEMU's."""
    manuals: list[Row] = field(default_factory=list)
    """Those of the reference walks, which show that what is asked of QEMU is what is meant."""

    def add(
        self, mode: str, what: str, *, addresses: int, faults: int, mismatches: Sequence[str], manual: bool = False
    ) -> None:
        """Records a comparison, then fails with the first mismatches if there are any."""
        (self.manuals if manual else self.rows).append(Row(mode, what, addresses, faults, len(mismatches)))
        who = "the manual's walk" if manual else "the library"
        head = f"{mode}, {what}: {who} differs from QEMU in {len(mismatches)} of {addresses}"
        assert not mismatches, "\n".join([head, *mismatches[:10]])

    @staticmethod
    def _total(name: str, rows: Sequence[Row]) -> Row:
        addresses, faults, mismatches = (sum(row[column] for row in rows) for column in (2, 3, 4))  # type: ignore[misc]
        return Row(name, "", addresses, faults, mismatches)

    def lines(self) -> list[str]:
        """The table."""
        header = ("mode", "what", "addresses", "of them faults", "mismatches")
        totals = [self._total("total", self.rows), self._total("the manuals' walks", self.manuals)]
        table = [
            tuple(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row) for row in [*self.rows, *totals]
        ]
        widths = [max(len(row[column]) for row in [header, *table]) for column in range(len(header))]

        def line(cells: Sequence[str]) -> str:
            left = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
            right = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
            return "  ".join([*left, *right])

        return [line(header), *map(line, table)]


COUNTS = pytest.StashKey[Counts]()
"""Where the configuration of a run keeps what was compared in it."""
