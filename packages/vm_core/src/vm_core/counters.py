"""Counters that many threads raise, and snapshots of them that add up.

>>> counters = Counters("hits", "misses")
>>> counters.add("hits", 2)
>>> counters.snapshot()
CounterSnapshot(hits=2, misses=0)
"""

from collections.abc import Mapping

from ._core import Counters, CounterSnapshot

__all__ = ["CounterSnapshot", "Counters"]

Mapping.register(CounterSnapshot)
