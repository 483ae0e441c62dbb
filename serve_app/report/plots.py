"""Small plots as inline SVG: numbers over iterations, and shares of a whole.

It knows numbers and labels; not what they measure. Every text is escaped here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Point", "plot_over_iterations", "stacked_bar"]

_WIDTH, _HEIGHT = 440, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 30, 34
_TICKS = 4


@dataclass(frozen=True)
class Point:
    """One iteration's number."""

    iteration: int
    value: float
    accepted: bool


def plot_over_iterations(title: str, unit: str, points: Sequence[Point], digits: int) -> str:
    """Accepted points are filled and joined; those that were rolled back are crosses."""
    low, high = _padded([point.value for point in points])
    last = max(1, *(point.iteration for point in points))

    def at(point: Point) -> tuple[float, float]:
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * point.iteration / last
        y = _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (point.value - low) / (high - low)
        return round(x, 1), round(y, 1)

    parts = [f'<text class="t" x="{_LEFT}" y="16">{escape(title)} <tspan>{escape(unit)}</tspan>'
             "</text>"]  # fmt: skip
    for i in range(_TICKS + 1):
        value = low + (high - low) * i / _TICKS
        y = at(Point(0, value, True))[1]
        parts.append(f'<line class="g" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<text class="a" x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">'
            f"{value:.{digits}f}</text>"
        )
    step = max(1, -(-last // 10))
    for k in range(0, last + 1, step):
        x = at(Point(k, low, True))[0]
        parts.append(f'<text class="a" x="{x}" y="{_HEIGHT - 12}" text-anchor="middle">{k}</text>')
    line = " ".join("{},{}".format(*at(point)) for point in points if point.accepted)
    parts.append(f'<polyline class="l" points="{line}"/>')
    for point in points:
        x, y = at(point)
        word = "accepted" if point.accepted else "rolled back"
        told = f"<title>iteration {point.iteration}: {point.value:.{digits}f}, {word}</title>"
        if point.accepted:
            parts.append(f'<circle class="ok" cx="{x}" cy="{y}" r="5">{told}</circle>')
        else:
            cross = f"M{x - 5} {y - 5}l10 10M{x - 5} {y + 5}l10 -10"
            parts.append(f'<path class="no" d="{cross}">{told}</path>')
    label = escape(f"{title} by iteration")
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = max((high - low) * 0.12, abs(high) * 1e-3, 1e-6)
    return low - margin, high + margin


def stacked_bar(shares: Sequence[tuple[str, float]]) -> str:
    """Named shares of a whole, side by side; the labels belong into a legend in this order."""
    total = sum(value for _, value in shares) or 1.0
    x, parts = 0.0, []
    for i, (name, value) in enumerate(shares):
        width = 1000 * value / total
        parts.append(
            f'<rect class="c{i % 8}" x="{x:.2f}" width="{width:.2f}" height="26">'
            f"<title>{escape(name)}: {value:.1f} s</title></rect>"
        )
        x += width
    return (
        '<svg class="bar" viewBox="0 0 1000 26" preserveAspectRatio="none" role="img" '
        f'aria-label="shares of the time">{"".join(parts)}</svg>'
    )
