"""The record of what an optimizer decided and why."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .settings import Setting


@dataclass(frozen=True)
class Decision:
    """One decision and what caused it.

    step: the number of the window after which it was taken. phase: the number of the phase. The settings are equal when
    only a phase was named, or the setting in force was confirmed. reason: in words. numbers: those that the reason
    rests on; costs are ns per translation.
    """

    step: int
    phase: int
    from_setting: Setting
    to_setting: Setting
    reason: str
    numbers: Mapping[str, float]


def table(decisions: Iterable[Decision]) -> str:
    """Two lines of text for each: what changed, and why."""
    lines = [f"{'window':>8} {'phase':>5}  decision"]
    for d in decisions:
        changed = d.from_setting != d.to_setting
        change = f"{d.from_setting.name} -> {d.to_setting.name}" if changed else f"stay with {d.to_setting.name}"
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in d.numbers.items())
        lines += [f"{d.step:>8} {d.phase:>5}  {change}", f"{'':16}{d.reason} ({numbers})"]
    return "\n".join(lines)


class Journal:
    """The latest decisions, and how many there were in all."""

    def __init__(self, history: int) -> None:
        self.kept: deque[Decision] = deque(maxlen=history)
        self.count = 0

    def add(self, decision: Decision) -> None:
        """Keep one more; the oldest makes room."""
        self.kept.append(decision)
        self.count += 1
