"""Predict the pages that will be asked for next.

A prefetcher is told of the look-ups that missed a TLB and proposes page numbers (addresses shifted right by the page's
size). It reads neither memory nor page tables: whoever asks walks the tables for each proposal.

>>> strided = Strided()
>>> [strided.observe(page, pc=0x401000) for page in (10, 17, 24, 31)]
[[], [], [31], [38]]
>>> adaptive = Adaptive([Sequential(degree=2), Distance()])
>>> offsets, candidates = adaptive.observe_many(range(1000, 1200))
>>> adaptive.members[adaptive.followed]
'Sequential(degree=2)'
>>> Profile.from_range(0x400000, 0x3000).pages()
array([1024, 1025, 1026], dtype=uint64)
"""

from ._mem import (
    Adaptive,
    Decision,
    Distance,
    FreeNeighbours,
    Markov,
    MemberScore,
    Perceptron,
    Prefetcher,
    PrefetcherStats,
    Profile,
    Sequential,
    Strided,
)

__all__ = [
    "Adaptive",
    "Decision",
    "Distance",
    "FreeNeighbours",
    "Markov",
    "MemberScore",
    "Perceptron",
    "Prefetcher",
    "PrefetcherStats",
    "Profile",
    "Sequential",
    "Strided",
]
