"""Parts with paints, put together to one object. It does not know what the parts make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from training.prior.kept_back.paints import Paint
from training.prior.primitives import box, extrude, rounded_box, tube
from training.prior.solids import Points, Solid, join

Triple = Sequence[float]


@dataclass(frozen=True)
class Assembly:
    """A painted object: z up, its front towards +x, any size.

    Attributes:
        paints: one per slot of `solid`.
    """

    solid: Solid
    paints: tuple[Paint, ...]


class Builder:
    """Collects the parts of one object."""

    def __init__(self) -> None:
        self._parts: list[Solid] = []
        self._paints: list[Paint] = []

    def add(self, solid: Solid, *paints: Paint) -> None:
        """A part: one paint for all of it, or one for each of its slots, the last one for more."""
        slots = []
        for paint in paints:
            known = [k for k, other in enumerate(self._paints) if other is paint]
            if not known:
                self._paints.append(paint)
            slots.append(known[0] if known else len(self._paints) - 1)
        count = int(solid.slots.max()) + 1
        table = [slots[min(k, len(slots) - 1)] for k in range(count)]
        self._parts.append(solid.painted(table))

    def pair(self, solid: Solid, *paints: Paint) -> None:
        """A part and its left-right mirror image."""
        self.add(solid, *paints)
        self.add(solid.mirrored(), *paints)

    def done(self, turn: Points | None = None) -> Assembly:
        """All parts, turned as a whole by a matrix [3, 3]."""
        solid = join(self._parts)
        return Assembly(solid if turn is None else solid.rotated(turn), tuple(self._paints))


def block(size: Triple, centre: Triple, segments: int = 2) -> Solid:
    """A box with crisp edges; slots as `box`."""
    return box(segments).scaled(*size).shifted(*centre)


def pillow(size: Triple, centre: Triple, radius: float) -> Solid:
    """A box with round edges; slots as `box`. Its longest side is one picture long."""
    solid = rounded_box(size, radius)
    side = np.zeros(len(solid.vertices), np.int64)
    side[solid.faces] = solid.slots[:, None]
    x, y, z = solid.vertices.T
    across = np.stack([y, -y, -x, x, y, y])
    down = np.stack([-z, -z, -z, -z, x, x])
    each = np.arange(len(side))
    uv = np.stack([across[side, each], down[side, each]], -1) / max(size) + 0.5
    return replace(solid, uv=uv).shifted(*centre)


def rod(
    path: Sequence[Triple] | Points, radius: float | Sequence[float], columns: int = 14
) -> Solid:
    """A tube with round ends."""
    return tube(path, radius, columns=columns, round_ends=True)


def arc(
    centre: Triple, radii: tuple[float, float], degrees: tuple[float, float], count: int = 18
) -> Points:
    """Points [count, 3] of an ellipse in the x-z plane, angles from +x towards +z."""
    angle = np.deg2rad(np.linspace(*degrees, count))
    x, y, z = centre
    return np.stack(
        [x + radii[0] * np.cos(angle), np.full(count, y), z + radii[1] * np.sin(angle)], -1
    )


def laid(outline: Points, thickness: float, bevel: float = 0.0) -> Solid:
    """A plate that lies: its outline [m, 2] in (x, y)."""
    return extrude(outline, thickness, bevel).deformed(lambda v: v[:, [1, 2, 0]])
