"""Puts an object together part by part, each part in a named finish, parts either apart or melted.

It does not know what the object is meant to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from training.prior.families.limbs import limb_solid
from training.prior.primitives import Blob, box, lathe, melt, pitched, superquadric
from training.prior.solids import Points, Shape, Solid, join

Triple = tuple[float, float, float]

#: Of the grid in which soft bodies are melted, along its longest side.
CELLS = 28


@lru_cache
def unit_ball(rows: int = 13, columns: int = 20) -> Solid:
    """Of radius 1 around the origin."""
    return superquadric(1.0, 1.0, rows=rows, columns=columns).scaled(2.0)


@lru_cache
def _cushion() -> Solid:
    return superquadric(0.3, 0.3, rows=14, columns=28)


@lru_cache
def _block() -> Solid:
    return box(segments=1).painted(0)


class Builder:
    """An object in the making.

    With `soft`, balls and limbs are melted into one skin; all other parts stay as they are.
    """

    def __init__(self, rng: np.random.Generator, *, soft: bool = False) -> None:
        self.rng = rng
        self._soft = soft
        self._parts: list[Solid] = []
        self._finishes: list[str] = []
        self._melting: list[Blob] = []

    def u(self, low: float, high: float) -> float:
        """A number between two."""
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, *options: str) -> str:
        return options[int(self.rng.integers(len(options)))]

    def count(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def slot(self, *finishes: str) -> int:
        """A new slot with one of the finishes."""
        self._finishes.append(self.pick(*finishes))
        return len(self._finishes) - 1

    def add(self, solid: Solid, slot: int | Sequence[int]) -> None:
        """A part, all of it in one slot, or its own slot k in `slot[k]`."""
        self._parts.append(solid.painted(slot))

    def both(self, solid: Solid, slot: int | Sequence[int]) -> None:
        """A part on the left and its mirror image on the right."""
        self.add(solid, slot)
        self.add(solid.mirrored(), slot)

    def slab(self, size: Triple, centre: Triple, slot: int, *, pair: bool = False) -> None:
        """A box; with `pair` also its mirror image."""
        (self.both if pair else self.add)(_block().scaled(*size).shifted(*centre), slot)

    def cushion(self, size: Triple, centre: Triple, slot: int, *, pair: bool = False) -> None:
        """A box with all its edges rounded."""
        (self.both if pair else self.add)(_cushion().scaled(*size).shifted(*centre), slot)

    def ball(
        self,
        axes: Triple,
        centre: Triple,
        slot: int,
        *,
        pitch: float = 0.0,
        pair: bool = False,
        hard: bool = False,
        small: bool = False,
    ) -> None:
        """An ellipsoid by its semi-axes, its front raised by `pitch`; `hard` ones never melt.

        `small` ones have few faces.
        """
        if self._soft and not hard:
            for side in (1.0, -1.0) if pair else (1.0,):
                middle = np.array(centre) * (1.0, side, 1.0)
                self._melting.append(Blob(middle, axes, pitched(pitch), slot))
            return
        unit = unit_ball(8, 10) if small else unit_ball()
        solid = unit.scaled(*axes).rotated(pitched(pitch)).shifted(*centre)
        (self.both if pair else self.add)(solid, slot)

    def limb(
        self,
        path: Sequence[Triple],
        radii: float | Sequence[float],
        slot: int,
        *,
        pair: bool = False,
        columns: int = 12,
        hard: bool = False,
    ) -> None:
        """A round rod along a path with round ends."""
        points = np.array(path, float)
        thick = np.broadcast_to(np.asarray(radii, float), len(points)).copy()
        if self._soft and not hard:
            for side in (1.0, -1.0) if pair else (1.0,):
                self._melting += _sausages(points * (1.0, side, 1.0), thick, slot)
            return
        solid = limb_solid(points, thick, columns)
        (self.both if pair else self.add)(solid, slot)

    def turned(
        self,
        profile: Sequence[tuple[float, float]],
        slot: int | Sequence[int],
        at: Triple = (0.0, 0.0, 0.0),
        *,
        columns: int = 32,
        flat: float = 1.0,
    ) -> None:
        """A solid of revolution about z, its extent along x times `flat`."""
        solid = lathe(np.array(profile, float), columns=columns)
        self.add(solid.scaled(flat, 1.0, 1.0).shifted(*at), slot)

    @property
    def top(self) -> Triple:
        """The highest point so far, of parts that do not melt."""
        points = np.concatenate([part.vertices for part in self._parts])
        return triple(points[points[:, 2].argmax()])

    @property
    def reach(self) -> float:
        """How far the parts that do not melt go to the front."""
        return max(float(part.vertices[:, 0].max()) for part in self._parts)

    def shape(self) -> Shape:
        parts = list(self._parts)
        if self._melting:
            centres = np.stack([np.asarray(blob.centre, float) for blob in self._melting])
            size = max(float(np.ptp(centres, axis=0).max()), 0.1)
            # What is thinner than the grid would come out in crumbs: it stays a part of its own.
            thin = [1.5 * size / CELLS > np.min(blob.semi_axes) for blob in self._melting]
            thick = [blob for blob, is_thin in zip(self._melting, thin, strict=True) if not is_thin]
            parts += [
                unit_ball()
                .scaled(*blob.semi_axes)
                .rotated(blob.rotation)
                .shifted(*blob.centre)
                .painted(blob.slot)
                for blob, is_thin in zip(self._melting, thin, strict=True)
                if is_thin
            ]
            parts.append(melt(thick, size * self.u(0.015, 0.06), cells=CELLS))
        return Shape(join(parts), tuple(self._finishes))


def triple(point: Points) -> Triple:
    return (float(point[0]), float(point[1]), float(point[2]))


def _sausages(path: Points, radii: Points, slot: int) -> list[Blob]:
    """One long ellipsoid per segment of a path."""
    out = []
    for a, b, ra, rb in zip(path[:-1], path[1:], radii[:-1], radii[1:], strict=True):
        along, r = b - a, (ra + rb) / 2
        length = float(np.linalg.norm(along)) + 1e-9
        x = along / length
        y = np.cross((0.0, 0.0, 1.0) if abs(x[2]) < 0.9 else (1.0, 0.0, 0.0), x)
        y /= np.linalg.norm(y)
        axes = np.array([length / 2 + r * 0.9, r * 1.1, r * 1.1])
        turn = np.stack([x, y, np.cross(x, y)], 1)
        out.append(Blob((a + b) / 2, axes, turn, slot))
    return out
