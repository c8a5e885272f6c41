"""What the processor of this machine can do for a program.

``FEATURES`` maps every feature name to one line of words.

>>> features = CpuFeatures.detect()
>>> features.has("sse2") == features.has_sse2
True
>>> FEATURES["avx512f"]
'AVX-512 foundation'
"""

from ._core import FEATURES, Cache, CpuFeatures

__all__ = ["FEATURES", "Cache", "CpuFeatures"]
