"""Watching an ``Mmu`` and giving it another setting when the counted events say so.

This is what the owner sees and calls; what it decides and why is in ``choice``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy.typing as npt
from vm_core import InvalidConfig

from .._mem import Mmu
from .choice import Choice
from .cost import Weights
from .decision import Decision, Journal, table
from .settings import Setting, default_settings
from .watch import Watch

_UNHURRIED = 16
"""Windows of measured time are so many times as long while nothing is suspected: looking takes time as well."""


class Optimizer:
    """Gives an ``Mmu`` the setting that costs least in the present phase of its work. Acts only inside ``step``.

    settings: what to choose among; by default ``default_settings``. What the ``Mmu`` has is always one of them.
    objective: ``"time"``, the time that the owner gives to ``step``; or ``Weights``, a cost of counted events, which
    needs no clock. hysteresis: the part by which another setting has to be cheaper. threshold: how far the features of
    a window (shares and events per translation) may be from those of its phase. window_ns: cost after which a window
    ends and something may be decided, so that a bad setting is tried for no longer than a good one; windows of
    measured time are 16 times as long while nothing is suspected, until two pieces of work in a row (more after false
    alarms) take half as long again as usual, or less than two thirds. patience: windows for which a TLB may fill after
    a change before it is judged. recheck: windows after which one neighbouring setting is tried again, twice as many
    after each vain attempt; 0 is never. history: decisions that are kept.

    Method: a window that fits neither the present phase nor a known one, twice in a row, is a new phase. In a new phase
    the neighbouring settings, those that differ in the fewest knobs, are tried for a window each (two where time is
    measured), unless counts and weights say that they cannot be cheaper; if the best of them is cheaper by the
    hysteresis, its neighbours are tried next (hill climbing). What was found is remembered, and put in force at once
    when the phase comes back; when phases alternate quickly, only a second window in a row counts.

    A change of the TLB empties it, a change of the prefetcher alone does not (``Mmu.reconfigure``). While ``step``
    runs, no other thread may use the ``Mmu`` or the optimizer. Raises InvalidConfig.
    """

    def __init__(
        self,
        mmu: Mmu,
        *,
        settings: Sequence[Setting] | None = None,
        objective: Literal["time"] | Weights = "time",
        hysteresis: float = 0.1,
        threshold: float = 0.2,
        window_ns: float = 2e6,
        patience: int = 16,
        recheck: int = 256,
        history: int = 1000,
    ) -> None:
        _check(hysteresis, threshold, window_ns, patience, recheck, history)
        if objective != "time" and not isinstance(objective, Weights):
            raise InvalidConfig(f"objective is {objective!r}; it is 'time' or Weights")
        weights = objective if isinstance(objective, Weights) else None
        self._settings = list(default_settings(mmu, timed=weights is None) if settings is None else settings)
        if not self._settings:
            raise InvalidConfig("settings is empty; an optimizer needs something to choose among")
        self._watch = Watch(mmu, self._settings, weights, window_ns)
        self._journal = Journal(history)
        self._choice = Choice(
            self._watch,
            self._journal,
            hysteresis=hysteresis,
            threshold=threshold,
            patience=patience,
            recheck=recheck,
        )

    # --- What the owner sees -----------------------------------------------------------------------------------------

    @property
    def mmu(self) -> Mmu:
        """The ``Mmu`` that is watched."""
        return self._watch.mmu

    @property
    def settings(self) -> tuple[Setting, ...]:
        """What there is to choose among."""
        return tuple(self._settings)

    @property
    def setting(self) -> Setting:
        """What is in force."""
        return self._settings[self._watch.setting]

    @property
    def objective(self) -> Literal["time"] | Weights:
        """What is made small."""
        return self._watch.weights or "time"

    @property
    def exploring(self) -> bool:
        """Whether the setting in force is on trial."""
        return self._choice.exploring

    @property
    def phase(self) -> int | None:
        """The number of the present phase, from 0; None before the first window."""
        return self._choice.phase

    @property
    def windows(self) -> int:
        """Windows so far."""
        return self._choice.windows

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The latest decisions, oldest first."""
        return tuple(self._journal.kept)

    @property
    def decision_count(self) -> int:
        """All decisions, those that are no longer kept too."""
        return self._journal.count

    def report(self) -> str:
        """The decisions as a table of text."""
        return table(self._journal.kept)

    # --- What the owner calls ----------------------------------------------------------------------------------------

    def step(self, elapsed_ns: float | None = None, addresses: npt.ArrayLike | None = None) -> Decision | None:
        """Look at what happened since the last call, decide, and return the last decision if there was one.

        To be called between pieces of work; most calls only add to a window. elapsed_ns: what the work took, needed for
        the objective ``"time"``. addresses: some successive addresses of the work, so that phases are told apart by
        what they look like too; 2048 are looked at, once a window.
        """
        if elapsed_ns is not None and elapsed_ns < 0:
            raise InvalidConfig(f"elapsed_ns is {elapsed_ns}; time does not run backwards")
        window = self._watch.add(elapsed_ns, addresses)
        if window is None:
            return None
        decided = self._journal.count
        self._choice.decide(window)
        if self._watch.weights is None:
            self._watch.pace(_UNHURRIED if self._choice.calm else 1)
        return self._journal.kept[-1] if self._journal.count != decided else None

    @contextmanager
    def work(self, addresses: npt.ArrayLike | None = None) -> Iterator[None]:
        """Measure a piece of work by the time of this thread, and ``step`` after it.

        The clock leaves out what other threads and programs do, and costs about a microsecond. A piece that raises is
        counted too.
        """
        start = time.thread_time_ns()
        try:
            yield
        finally:
            self.step(float(time.thread_time_ns() - start), addresses)


def _check(hysteresis: float, threshold: float, window_ns: float, patience: int, recheck: int, history: int) -> None:
    for name, value in (("hysteresis", hysteresis), ("threshold", threshold)):
        if not 0 < value < 1:
            raise InvalidConfig(f"{name} is {value}; it is a part between 0 and 1")
    if not window_ns > 0:
        raise InvalidConfig(f"window_ns is {window_ns}; a window has to last")
    for name, number, least in (("patience", patience, 1), ("recheck", recheck, 0), ("history", history, 1)):
        if number < least:
            raise InvalidConfig(f"{name} is {number}; it is at least {least}")
