"""What the counts under one setting say about the cost of another that was not tried."""

from __future__ import annotations

from .cost import Weights
from .phases import Features
from .settings import Setting


def least_ns(weights: Weights, here: Setting, rates: Features, other: Setting) -> float:
    """The least that a translation can cost under ``other``, when it has these ``rates`` under ``here``.

    In the same TLB what misses goes on to miss, unless it is prefetched: then the prefetcher is told, and a walk is
    made ahead. Another TLB might hit every time.
    """
    if here.knobs()[:2] != other.knobs()[:2]:
        return min(weights.lookups[0], weights.bypass)
    bypassed = rates["bypassed"]
    cost, reaching = bypassed * weights.bypass, 1.0 - bypassed
    for level, ns in enumerate(weights.lookups, 1):
        if f"l{level}_hits" not in rates:
            break
        cost += max(reaching, 0.0) * ns
        reaching -= rates[f"l{level}_hits"]
    if here.prefetches:
        return cost  # how many of the hits it would have missed is not known
    walk = min(weights.walks) + weights.walk_cache if other.walks_cached else weights.walks[-1]
    if other.prefetches:
        walk = weights.prefetch_event + min(walk, weights.prefetch_walk)
    return cost + rates["walks"] * walk
