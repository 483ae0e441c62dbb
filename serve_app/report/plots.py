"""Where the parts of small plots lie: numbers over iterations, and shares of a whole.

It knows numbers; not what they measure, and not how `templates/plots.svg` draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

_TICKS = 4


class Mark(NamedTuple):
    """One iteration's number, and where it lies in the plot."""

    x: float
    y: float
    iteration: int
    value: float
    accepted: bool


@dataclass(frozen=True)
class Plot:
    """Numbers over iterations, in user units of the SVG; `ticks` are of the value, `steps` below.

    Attributes:
        ticks: y and the value there.
        steps: x and the iteration there.
    """

    width: ClassVar[int] = 440
    height: ClassVar[int] = 210
    left: ClassVar[int] = 56
    right: ClassVar[int] = 426
    top: ClassVar[int] = 30
    bottom: ClassVar[int] = 176

    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, float], ...]
    steps: tuple[tuple[float, int], ...]


class Share(NamedTuple):
    """A named part of a whole that is 1000 units long."""

    name: str
    value: float
    x: float
    width: float


def plot_over_iterations(points: Sequence[tuple[int, float, bool]]) -> Plot:
    """Iteration, value and whether it was accepted, at their places."""
    values = [value for _, value, _ in points]
    margin = max((max(values) - min(values)) * 0.12, abs(max(values)) * 1e-3, 1e-6)
    low, high = min(values) - margin, max(values) + margin
    last = max(1, *(iteration for iteration, _, _ in points))

    def x_of(iteration: int) -> float:
        return round(Plot.left + (Plot.right - Plot.left) * iteration / last, 1)

    def y_of(value: float) -> float:
        return round(Plot.bottom - (Plot.bottom - Plot.top) * (value - low) / (high - low), 1)

    levels = [low + (high - low) * i / _TICKS for i in range(_TICKS + 1)]
    return Plot(
        tuple(Mark(x_of(iteration), y_of(v), iteration, v, ok) for iteration, v, ok in points),
        tuple((y_of(value), value) for value in levels),
        tuple((x_of(k), k) for k in range(0, last + 1, max(1, -(-last // 10)))),
    )


def stacked_bar(values: Sequence[tuple[str, float]]) -> list[Share]:
    """Named shares of a whole, side by side."""
    total = sum(value for _, value in values) or 1.0
    shares: list[Share] = []
    x = 0.0
    for name, value in values:
        width = 1000 * value / total
        shares.append(Share(name, value, x, width))
        x += width
    return shares
