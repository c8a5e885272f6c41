"""Cutting what happens in an ``Mmu`` into windows, and putting settings in force.

Not what to do about it: that is ``coordinator``.
"""

from __future__ import annotations

import numpy.typing as npt
from vm_core import InvalidConfig

from .._mem import Mmu
from .cost import Counts, Weights
from .phases import Features, Window, pattern_of
from .settings import Setting

_ANY = (0.0, float("inf"))
_ODD = 1.5
"""A piece of work that takes so many times the usual, or as small a part of it, is odd."""
_LEAST_ODD, _MOST_ODD = 2, 64
"""So many odd ones in a row end a long window: twice as many after each time, half as many after a quiet window."""


class Watch:
    """Counts and costs since the last window.

    setting: the number of the one in force; age: windows since it was put in force. weights: None where time is
    measured. window_ns: cost of a window.

    A long window of measured time is given up, and a short one begun, when pieces of work in a row took another time
    than is usual: such a change is seen without reading a counter.
    """

    def __init__(self, mmu: Mmu, settings: list[Setting], weights: Weights | None, window_ns: float) -> None:
        self.mmu = mmu
        self.settings = settings
        self.weights = weights
        self.window_ns = window_ns
        self.setting = self.age = 0
        self._tlb = mmu.tlb
        self._short_ns = window_ns
        self._before = Counts.of(mmu)
        self._cost_ns = self._mean_ns = 0.0
        self._pieces = self._odd_piece = self._odd_run = 0
        self._odd_enough = _LEAST_ODD
        self._usual_ns = _ANY
        self._addresses: npt.ArrayLike | None = None
        self._adopt()

    def add(self, elapsed_ns: float | None, addresses: npt.ArrayLike | None) -> Window | None:
        """Take in a piece of work. Returns a window when one is full."""
        if addresses is not None:
            self._addresses = addresses
        if self.weights is None:
            if elapsed_ns is None:
                raise InvalidConfig("elapsed_ns is missing; the objective 'time' needs it")
            self._cost_ns += elapsed_ns
            self._pieces += 1
            least, most = self._usual_ns
            if not least <= elapsed_ns <= most:
                self._startle()
            if self._cost_ns < self.window_ns:
                return None  # before anything is read: steps may be as frequent as pieces of work are small
        if self.mmu.tlb is not self._tlb:
            self._adopt()
            return None
        now = Counts.of(self.mmu)
        counts = now - self._before
        if self.weights is not None:
            self._cost_ns = self.weights.cost_ns(counts, walks_cached=self.settings[self.setting].walks_cached)
        if counts.translations == 0 or self._cost_ns < self.window_ns:
            return None
        pattern: Features = {} if self._addresses is None else pattern_of(self._addresses)
        window = Window(self.setting, counts, self._cost_ns / counts.translations, pattern, counts.rates())
        self.age += 1
        self._mean_ns = self._cost_ns / max(self._pieces, 1)
        if self.window_ns > self._short_ns:
            self._odd_enough = max(self._odd_enough // 2, _LEAST_ODD)
        self._begin(now)
        return window

    def pace(self, times: int) -> None:
        """Make windows of measured time ``times`` as long, while pieces take what they took in the last one."""
        self.window_ns = self._short_ns * times
        self._usual_ns = (self._mean_ns / _ODD, self._mean_ns * _ODD) if times > 1 else _ANY

    def _startle(self) -> None:
        self._odd_run = self._odd_run + 1 if self._odd_piece == self._pieces - 1 else 1
        self._odd_piece = self._pieces
        if self._odd_run == self._odd_enough:
            self._odd_enough = min(2 * self._odd_enough, _MOST_ODD)
            self.pace(1)
            self._begin(Counts.of(self.mmu))

    def put_in_force(self, setting: int) -> None:
        """Reconfigure the ``Mmu``, unless it has that setting."""
        if setting == self.setting:
            return
        wanted = self.settings[setting]
        self.mmu.reconfigure(tlb=wanted.tlb, walk_cache=wanted.walk_cache, prefetcher=wanted.prefetcher)
        self._tlb = self.mmu.tlb
        self.setting = setting
        self.age = 0
        self._odd_enough = _LEAST_ODD
        self._begin(Counts.of(self.mmu))

    def _adopt(self) -> None:
        """Take what the ``Mmu`` has as the present setting, whoever gave it that."""
        self._tlb = self.mmu.tlb
        tlb, walk_cache = self._tlb.config, self.mmu.walk_cache
        same = (i for i, s in enumerate(self.settings) if (s.tlb, s.walk_cache) == (tlb, walk_cache))
        self.setting = next(same, len(self.settings))
        if self.setting == len(self.settings):
            self.settings.append(Setting(tlb, walk_cache))
        self.age = 0
        self.pace(1)
        self._begin(Counts.of(self.mmu))

    def _begin(self, before: Counts) -> None:
        self._before = before
        self._cost_ns = 0.0
        self._pieces = self._odd_piece = self._odd_run = 0
        self._addresses = None
