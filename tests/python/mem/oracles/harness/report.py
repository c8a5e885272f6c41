"""What was compared, for the summary of a run, and assertions that say both answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Row(NamedTuple):
    """One comparison."""

    mode: str
    what: str
    addresses: int
    faults: int
    mismatches: int


@dataclass
class Counts:
    """Every comparison of a run."""

    rows: list[Row] = field(default_factory=list)

    def add(self, mode: str, what: str, *, addresses: int, faults: int, mismatches: Sequence[str]) -> None:
        """Records a comparison, then fails with the first mismatches if there are any."""
        self.rows.append(Row(mode, what, addresses, faults, len(mismatches)))
        assert not mismatches, f"{mode}, {what}: {len(mismatches)} of {addresses} differ\n" + "\n".join(mismatches[:10])

    def lines(self) -> list[str]:
        """The table."""
        header = ("mode", "what", "addresses", "of them faults", "mismatches")
        total = ("total", "", *(sum(row[column] for row in self.rows) for column in (2, 3, 4)))  # type: ignore[misc]
        table = [
            tuple(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row) for row in [*self.rows, total]
        ]
        widths = [max(len(row[column]) for row in [header, *table]) for column in range(len(header))]

        def line(cells: Sequence[str]) -> str:
            left = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
            right = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
            return "  ".join([*left, *right])

        return [line(header), *map(line, table)]
