"""Watching an ``Mmu`` and giving it another setting when the counted events say so.

Not the settings, the costs or the phases themselves: those are ``settings``, ``cost`` and ``phases``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Literal

import numpy.typing as npt
from vm_core import InvalidConfig

from .._mem import Mmu
from .cost import Weights
from .decision import Decision, table
from .phases import Phase, Window, distance
from .settings import Setting, default_settings, neighbours
from .watch import Watch

MOST_PHASES = 16
"""Phases that are remembered; the one that was seen longest ago makes room."""
_FILLING = 0.02
"""New TLB entries per translation, above which a window after a change says little of what the setting will cost."""
_HOPELESS = 2.0
"""A trial that costs so many times the best, with a TLB that is full, is not prolonged."""
_UNHURRIED = 4
"""Windows of measured time are so many times as long while nothing is suspected: looking takes time as well."""
_DWELL = 4
_LONGEST_DWELL = 64
"""Windows between two switches to known phases that one look is enough for: the least and the most."""


class Optimizer:
    """Gives an ``Mmu`` the setting that costs least in the present phase of its work. Acts only inside ``step``.

    settings: what to choose among; by default ``default_settings``. What the ``Mmu`` has is always one of them.
    objective: ``"time"``, the time that the owner gives to ``step``; or ``Weights``, a cost of counted events, which
    needs no clock. hysteresis: the part by which another setting has to be cheaper. threshold: how far the features of
    a window (shares and events per translation) may be from those of its phase. window_ns: cost after which a window
    ends and something may be decided, so that a bad setting is tried for no longer than a good one; windows of
    measured time are four times as long while nothing is suspected. patience: windows for which a TLB may fill after a
    change before it is judged. recheck: windows after which one neighbouring setting is tried again, twice as many
    after each vain attempt; 0 is never. history: decisions that are kept.

    Method: a window that fits neither the present phase nor a known one, twice in a row, is a new phase. In a new phase
    the neighbouring settings, those that differ in the fewest knobs, are tried for a window each (two where time is
    measured); if the best of them is cheaper by the hysteresis, its neighbours are tried next (hill climbing). What was
    found is remembered, and put in force at once when the phase comes back; when phases alternate quickly, only a
    second window in a row counts.

    A change empties the TLB and the walk cache (``Mmu.reconfigure``): while ``step`` runs, no other thread may use the
    ``Mmu`` or the optimizer. Raises InvalidConfig.
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
        self._window_ns = window_ns
        self._hysteresis, self._threshold, self._patience, self._recheck = hysteresis, threshold, patience, recheck
        self._decisions: deque[Decision] = deque(maxlen=history)
        self._decision_count = 0
        self._windows = 0
        self._phases: list[Phase] = []  # the present one last
        self._phases_named = 0
        self._suspect: Window | None = None
        self._previous: Window | None = None
        self._trials: deque[int] | None = None
        self._last_switch, self._dwell = -_DWELL, _DWELL

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
        return self._trials is not None

    @property
    def phase(self) -> int | None:
        """The number of the present phase, from 0; None before the first window."""
        return self._phases[-1].number if self._phases else None

    @property
    def windows(self) -> int:
        """Windows so far."""
        return self._windows

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The latest decisions, oldest first."""
        return tuple(self._decisions)

    @property
    def decision_count(self) -> int:
        """All decisions, those that are no longer kept too."""
        return self._decision_count

    def report(self) -> str:
        """The decisions as a table of text."""
        return table(self._decisions)

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
        self._windows += 1
        decided = self._decision_count
        self._decide(window)
        calm = self._watch.weights is None and self._trials is None and self._suspect is None
        calm = calm and self._phases[-1].explored and self._watch.age > 1
        self._watch.window_ns = self._window_ns * (_UNHURRIED if calm else 1)
        return self._decisions[-1] if self._decision_count != decided else None

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

    # --- Phases ------------------------------------------------------------------------------------------------------

    def _record(self, setting: int, reason: str, **numbers: float) -> None:
        """Note a decision, and carry it out."""
        phase = self._phases[-1]
        settings = self.setting, self._settings[setting]
        self._decisions.append(Decision(self._windows, phase.number, *settings, reason, MappingProxyType(numbers)))
        self._decision_count += 1
        phase.quiet = 0
        self._previous = None
        self._watch.put_in_force(setting)

    def _decide(self, window: Window) -> None:
        if not self._phases:
            self._name_phase(window, "the first phase", cost_ns=window.cost_ns)
            return
        phase = self._phases[-1]
        filling = self._filling(window)
        apart = phase.differs_from(window, pattern_only=filling) or 0.0
        if apart > self._threshold:
            self._look_elsewhere(window, apart)
            return
        self._suspect = None
        steady = not filling or (self._previous is not None and window.differs_from(self._previous) <= self._threshold)
        if self._worth_waiting(window, filling):
            self._previous = window
            return
        phase.learn(window, self._windows, steady=steady)
        if self._trials is not None:
            self._judge(window)
        elif not phase.explored:
            self._explore(window)
        else:
            self._keep_watching(window)

    def _filling(self, window: Window) -> bool:
        return window.growth > _FILLING and self._watch.age <= self._patience

    def _worth_waiting(self, window: Window, filling: bool) -> bool:
        """Whether another window would say more: the TLB is still filling, or a clock may have been disturbed."""
        if self._trials is not None:
            phase = self._phases[-1]
            if not filling and window.cost_ns > _HOPELESS * phase.cost_ns(phase.cheapest()):
                return False
            if self._watch.weights is None and self._previous is None:
                return True
        if not filling:
            return False
        return self._previous is None or window.cost_ns < self._previous.cost_ns * (1 - self._hysteresis / 2)

    def _look_elsewhere(self, window: Window, apart: float) -> None:
        """The window does not fit: find the phase that it belongs to, or wait for another one like it."""
        before, self._suspect = self._suspect, window
        again = (
            before is not None and before.setting == window.setting and before.differs_from(window) <= self._threshold
        )
        known = [(found, p) for p in self._phases[:-1] if (found := p.differs_from(window)) is not None]
        nearest = min(known, key=lambda pair: pair[0], default=None)
        old = self._phases[-1].number
        if nearest is None or nearest[0] > self._threshold:
            if again:
                reason = f"two windows unlike phase {old} and like no other"
                self._name_phase(window, reason, distance=apart, cost_ns=window.cost_ns)
            return
        since = self._windows - self._last_switch
        if not again and since < self._dwell:
            return
        self._dwell = min(2 * self._dwell, _LONGEST_DWELL) if since < 4 * self._dwell else _DWELL
        phase = nearest[1]
        self._enter(phase)
        numbers = {"distance_before": apart, "distance": nearest[0], "cost_ns": window.cost_ns}
        self._record(phase.best, f"phase {phase.number} is back", **numbers)

    def _enter(self, phase: Phase) -> None:
        if phase in self._phases:
            self._phases.remove(phase)
        elif len(self._phases) == MOST_PHASES:
            self._phases.remove(min(self._phases, key=lambda p: p.last_seen))
        self._phases.append(phase)
        self._trials, self._suspect = None, None
        self._last_switch = phase.last_seen = self._windows

    def _name_phase(self, window: Window, reason: str, **numbers: float) -> None:
        phase = Phase(self._phases_named, best=window.setting, recheck=self._recheck)
        self._phases_named += 1
        self._enter(phase)
        self._record(window.setting, reason, **numbers)
        if self._filling(window):
            phase.pattern = window.pattern
        else:
            phase.learn(window, self._windows, steady=True)
            self._explore(window)

    # --- Trials ------------------------------------------------------------------------------------------------------

    def _explore(self, window: Window) -> None:
        """Begin to try the neighbours of the phase's best setting."""
        phase, weights = self._phases[-1], self._watch.weights
        if window.setting != phase.best:
            self._record(phase.best, "the trials of this phase were interrupted", cost_ns=window.cost_ns)
            return
        if weights is not None:
            floor = min(weights.lookups[0], weights.bypass)
            if window.cost_ns * (1 - self._hysteresis) <= floor:
                phase.explored = True
                reason = "no setting can be cheaper by the hysteresis"
                self._record(phase.best, reason, cost_ns=window.cost_ns, least_ns=floor)
                return
        self._next_round()

    def _next_round(self) -> None:
        phase = self._phases[-1]
        self._trials = deque(i for i in neighbours(self._settings, phase.best) if i not in phase.samples)
        self._next_trial()

    def _next_trial(self) -> None:
        phase, trials = self._phases[-1], self._trials
        best_ns = phase.cost_ns(phase.best)
        if trials:
            candidate = trials.popleft()
            phase.samples.pop(candidate, None)
            rates = phase.rates.get(phase.best, {})
            self._record(
                candidate, "trial", best_ns=best_ns, **{n: rates[n] for n in ("walks", "l1_hits") if n in rates}
            )
            return
        cheapest = phase.cheapest()
        if phase.cost_ns(cheapest) < best_ns * (1 - self._hysteresis):
            phase.best = cheapest
            phase.recheck = self._recheck
            self._next_round()
            return
        self._trials = None
        phase.explored = True
        others = [phase.cost_ns(i) for i in phase.samples if i != phase.best]
        numbers = {"cost_ns": best_ns, "tried": float(len(phase.samples))}
        numbers |= {"best_other_ns": min(others)} if others else {}
        self._record(phase.best, "none of those tried is cheaper by the hysteresis", **numbers)

    def _judge(self, window: Window) -> None:
        """One trial is over."""
        phase = self._phases[-1]
        twin = next((p for p in self._phases[:-1] if self._same(p, phase)), None)
        if twin is None:
            self._next_trial()
            return
        self._phases.remove(phase)
        self._enter(twin)
        numbers = {"settings_compared": float(len(twin.rates.keys() & phase.rates.keys())), "cost_ns": window.cost_ns}
        self._record(twin.best, f"phase {phase.number} looks like phase {twin.number} in trials", **numbers)

    def _same(self, a: Phase, b: Phase) -> bool:
        common = a.rates.keys() & b.rates.keys()
        return (
            len(common) > 1
            and (not a.pattern or not b.pattern or distance(a.pattern, b.pattern) <= self._threshold)
            and all(distance(a.rates[i], b.rates[i]) <= self._threshold for i in common)
        )

    def _keep_watching(self, window: Window) -> None:
        """Look again, now and then, whether the best is still the best."""
        phase = self._phases[-1]
        if window.setting != phase.best:
            self._record(phase.best, "another setting was put in force", cost_ns=window.cost_ns)
            return
        phase.quiet += 1
        near = neighbours(self._settings, phase.best)
        if not near or not self._recheck or phase.quiet < phase.recheck:
            return
        phase.recheck *= 2
        self._trials = deque([min(near, key=lambda i: phase.seen.get(i, -1))])
        self._next_trial()


def _check(hysteresis: float, threshold: float, window_ns: float, patience: int, recheck: int, history: int) -> None:
    for name, value in (("hysteresis", hysteresis), ("threshold", threshold)):
        if not 0 < value < 1:
            raise InvalidConfig(f"{name} is {value}; it is a part between 0 and 1")
    if not window_ns > 0:
        raise InvalidConfig(f"window_ns is {window_ns}; a window has to last")
    for name, number, least in (("patience", patience, 1), ("recheck", recheck, 0), ("history", history, 1)):
        if number < least:
            raise InvalidConfig(f"{name} is {number}; it is at least {least}")
