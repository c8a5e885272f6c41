"""Choosing: which phase a window belongs to, which settings are tried in it, and which is the best.

Not the cutting of windows: that is ``watch``; nor what the owner sees: that is ``coordinator``.
"""

from __future__ import annotations

from collections import deque
from types import MappingProxyType

from .bounds import least_ns
from .decision import Decision, Journal
from .phases import Phase, Window, distance
from .settings import neighbours
from .watch import Watch

MOST_PHASES = 16
"""Phases that are remembered; the one that was seen longest ago makes room."""
_FILLING = 0.02
"""New TLB entries per translation, above which a window after a change says little of what the setting will cost."""
_RISING = 0.02
"""A TLB that is filling goes on to be tried while its hits per translation rise by so much from window to window."""
_HOPELESS = 2.0
"""A trial that costs so many times the best, with a TLB that is full, is not prolonged."""
_LOOKS = 2
"""Windows of measured time by which a setting is judged: one may have been disturbed, or begun in another phase."""
_DWELL = 4
_LONGEST_DWELL = 64
"""Windows between two switches to known phases that one look is enough for: the least and the most."""


class Choice:
    """Phases, trials and the setting in force; the method is in the docstring of ``Optimizer``."""

    def __init__(
        self, watch: Watch, journal: Journal, *, hysteresis: float, threshold: float, patience: int, recheck: int
    ) -> None:
        self._watch, self._journal, self._settings = watch, journal, watch.settings
        self._hysteresis, self._threshold, self._patience, self._recheck = hysteresis, threshold, patience, recheck
        self.windows = 0
        self._phases: list[Phase] = []  # the present one last
        self._phases_named = 0
        self._suspect: Window | None = None
        self._previous: Window | None = None
        self._trials: deque[int] | None = None
        self._last_switch, self._dwell = -_DWELL, _DWELL

    @property
    def exploring(self) -> bool:
        """Whether the setting in force is on trial."""
        return self._trials is not None

    @property
    def phase(self) -> int | None:
        """The number of the present phase."""
        return self._phases[-1].number if self._phases else None

    @property
    def calm(self) -> bool:
        """Whether the best setting of a known phase is in force, and nothing is suspected."""
        if self._trials is not None or self._suspect is not None:
            return False
        return self._phases[-1].explored and self._watch.age > 1

    def _take(self, setting: int, reason: str, **numbers: float) -> None:
        """Note a decision, and carry it out."""
        phase = self._phases[-1]
        settings = self._settings[self._watch.setting], self._settings[setting]
        self._journal.add(Decision(self.windows, phase.number, *settings, reason, MappingProxyType(numbers)))
        phase.quiet = 0
        self._previous = None
        self._watch.put_in_force(setting)

    # --- Phases ------------------------------------------------------------------------------------------------------

    def decide(self, window: Window) -> None:
        """Take in a window, and put in force what it calls for."""
        self.windows += 1
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
        phase.learn(window, self.windows, steady=steady)
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
        return self._previous is None or window.hits > self._previous.hits + _RISING

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
        since = self.windows - self._last_switch
        if not again and since < self._dwell:
            return
        self._dwell = min(2 * self._dwell, _LONGEST_DWELL) if since < 4 * self._dwell else _DWELL
        phase = nearest[1]
        self._enter(phase)
        numbers = {"distance_before": apart, "distance": nearest[0], "cost_ns": window.cost_ns}
        self._take(phase.best, f"phase {phase.number} is back", **numbers)

    def _enter(self, phase: Phase) -> None:
        if phase in self._phases:
            self._phases.remove(phase)
        elif len(self._phases) == MOST_PHASES:
            self._phases.remove(min(self._phases, key=lambda p: p.last_seen))
        self._phases.append(phase)
        self._trials, self._suspect = None, None
        self._last_switch = phase.last_seen = self.windows

    def _name_phase(self, window: Window, reason: str, **numbers: float) -> None:
        phase = Phase(self._phases_named, best=window.setting, recheck=self._recheck)
        self._phases_named += 1
        self._enter(phase)
        self._take(window.setting, reason, **numbers)
        if self._filling(window):
            phase.pattern = window.pattern
        else:
            phase.learn(window, self.windows, steady=True)
            self._explore(window)

    # --- Trials ------------------------------------------------------------------------------------------------------

    def _explore(self, window: Window) -> None:
        """Begin to try the neighbours of the phase's best setting."""
        phase, weights = self._phases[-1], self._watch.weights
        if window.setting != phase.best:
            self._take(phase.best, "the trials of this phase were interrupted", cost_ns=window.cost_ns)
            return
        if weights is None and len(phase.samples[phase.best]) < _LOOKS:
            return
        if weights is not None:
            floor = min(weights.lookups[0], weights.bypass)
            if window.cost_ns * (1 - self._hysteresis) <= floor:
                phase.explored = True
                reason = "no setting can be cheaper by the hysteresis"
                self._take(phase.best, reason, cost_ns=window.cost_ns, least_ns=floor)
                return
        self._next_round()

    def _next_round(self) -> None:
        phase = self._phases[-1]
        self._trials = deque(i for i in self._promising(phase) if i not in phase.samples)
        self._next_trial()

    def _promising(self, phase: Phase) -> list[int]:
        """The neighbours of the best setting, without those that the counts rule out."""
        near = neighbours(self._settings, phase.best)
        weights, rates = self._watch.weights, phase.rates.get(phase.best)
        if weights is None or rates is None:
            return near
        enough_ns = phase.cost_ns(phase.best) * (1 - self._hysteresis)
        best = self._settings[phase.best]
        return [i for i in near if least_ns(weights, best, rates, self._settings[i]) < enough_ns]

    def _next_trial(self) -> None:
        phase, trials = self._phases[-1], self._trials
        best_ns = phase.cost_ns(phase.best)
        if trials:
            candidate = trials.popleft()
            phase.samples.pop(candidate, None)
            rates = phase.rates.get(phase.best, {})
            self._take(candidate, "trial", best_ns=best_ns, **{n: rates[n] for n in ("walks", "l1_hits") if n in rates})
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
        ruled_out = len(neighbours(self._settings, phase.best)) - len(self._promising(phase))
        numbers |= {"ruled_out": float(ruled_out)} if ruled_out else {}
        self._take(phase.best, "none of those tried is cheaper by the hysteresis", **numbers)

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
        self._take(twin.best, f"phase {phase.number} looks like phase {twin.number} in trials", **numbers)

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
            self._take(phase.best, "another setting was put in force", cost_ns=window.cost_ns)
            return
        phase.quiet += 1
        near = self._promising(phase)
        if not near or not self._recheck or phase.quiet < phase.recheck:
            return
        phase.recheck *= 2
        self._trials = deque([min(near, key=lambda i: phase.seen.get(i, -1))])
        self._next_trial()
