"""``vm-mem simd --plot``: the speeds of copies as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vm_core import InvalidConfig, NotSupported

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(path: Path) -> Figure:
    """An empty figure that ``save`` can write to `path`: whoever measures for a minute asks before, not after."""
    try:
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise NotSupported("a plot needs matplotlib: pip install vm_mem[plot]") from missing
    figure = Figure(figsize=(8, 5), layout="constrained")
    kinds = sorted(figure.canvas.get_supported_filetypes())
    if path.suffix[1:].lower() not in kinds:
        raise InvalidConfig(f"{path}: the name of a plot ends in one of .{', .'.join(kinds)}")
    if not path.parent.is_dir():
        raise InvalidConfig(f"{path}: there is no folder {path.parent}")
    return figure


def save(figure: Figure, path: Path, title: str, sizes: Sequence[int], speeds: Mapping[str, Sequence[float]]) -> None:
    """Draw bytes per second over sizes in bytes, one line for each name, and write it."""
    axes = figure.subplots()
    for name, values in speeds.items():
        axes.plot(sizes, [value / 1e9 for value in values], marker="o", label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_title(title)
    axes.set_xlabel("bytes copied by one call")
    axes.set_ylabel("GB/s, the call from Python included")
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path)
