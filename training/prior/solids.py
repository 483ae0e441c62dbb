"""Triangles with texture coordinates, of which all made objects are built and joined.

It does not know what the triangles show, how they are painted or who looks at them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Solid:
    """A triangle soup in the object's frame: z up, the side it shows towards +x, any size.

    Parts may overlap: the first and the last hit of a ray with all of them are those of their
    union. The winding of a face is free.

    Attributes:
        vertices: float64 [V, 3].
        faces: int64 [F, 3], indices into `vertices`.
        uv: float64 [V, 2], texture coordinates, one picture per unit, repeating; v runs down.
        slots: int64 [F], which of the object's finishes paints the face.
        smooth: bool [F], shaded with the normals of the vertices instead of the face's own.
    """

    vertices: Points
    faces: Numbers
    uv: Points
    slots: Numbers
    smooth: Flags

    def deformed(self, change: Callable[[Points], Points]) -> Solid:
        """With `change` applied to the vertices."""
        return replace(self, vertices=change(self.vertices))

    def scaled(self, x: float, y: float | None = None, z: float | None = None) -> Solid:
        """One factor for all axes, or one each."""
        factors = np.array([x, x if y is None else y, x if z is None else z])
        return self.deformed(lambda v: v * factors)

    def shifted(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Solid:
        return self.deformed(lambda v: v + np.array([x, y, z]))

    def rotated(self, matrix: Points) -> Solid:
        """By a matrix [3, 3] that maps old to new."""
        return self.deformed(lambda v: v @ matrix.T)

    def turned(self, axis: int, radians: float) -> Solid:
        """About axis 0, 1 or 2 through the origin, counter-clockwise seen from its tip."""
        return self.rotated(axis_rotation(axis, radians))

    def mirrored(self) -> Solid:
        """The left-right mirror image (y to -y)."""
        return self.scaled(1.0, -1.0, 1.0)

    def painted(self, slots: int | Sequence[int]) -> Solid:
        """All faces in one slot, or slot k in `slots[k]`."""
        table = np.asarray(slots, np.int64)
        renumbered = np.full(len(self.faces), table) if table.ndim == 0 else table[self.slots]
        return replace(self, slots=renumbered)

    @property
    def box(self) -> tuple[Points, Points]:
        """Lowest and highest corner, float64 [3] each."""
        return self.vertices.min(0), self.vertices.max(0)


@dataclass(frozen=True)
class Shape:
    """A solid and what each of its slots is made of.

    Attributes:
        finishes: one name per slot, see `training.prior.finishes.FINISHES`.
    """

    solid: Solid
    finishes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.solid.slots) and int(self.solid.slots.max()) >= len(self.finishes):
            raise ValueError(
                f"slot {int(self.solid.slots.max())} has no finish: there are {self.finishes}"
            )


def join(parts: Sequence[Solid]) -> Solid:
    """All parts as one solid."""
    starts = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    return Solid(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)]),
        np.concatenate([part.uv for part in parts]),
        np.concatenate([part.slots for part in parts]),
        np.concatenate([part.smooth for part in parts]),
    )


def assemble(shapes: Sequence[Shape]) -> Shape:
    """Several shapes as one object, each with its own finishes."""
    finishes: list[str] = []
    parts = []
    for shape in shapes:
        slots = [len(finishes) + k for k in range(len(shape.finishes))]
        parts.append(shape.solid.painted(slots))
        finishes += shape.finishes
    return Shape(join(parts), tuple(finishes))


def grid_surface(points: Points, uv: Points, *, slot: int = 0, smooth: bool = True) -> Solid:
    """A surface over a grid of points [n, m, 3] with texture coordinates [n, m, 2]."""
    n, m = points.shape[:2]
    index = np.arange(n * m).reshape(n, m)
    a, b = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
    c, d = index[1:, 1:].ravel(), index[1:, :-1].ravel()
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return Solid(
        points.reshape(-1, 3),
        faces,
        np.broadcast_to(uv, (n, m, 2)).reshape(-1, 2),
        np.full(len(faces), slot),
        np.full(len(faces), smooth),
    )


def axis_rotation(axis: int, radians: float) -> Points:
    """Rotation matrix float64 [3, 3] about axis 0, 1 or 2."""
    i, j = ((1, 2), (2, 0), (0, 1))[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = np.cos(radians)
    matrix[i, j], matrix[j, i] = -np.sin(radians), np.sin(radians)
    return matrix


def signed_volume(solid: Solid) -> float:
    """Enclosed volume; positive when the faces run counter-clockwise as seen from outside."""
    a, b, c = (solid.vertices[solid.faces[:, k]] for k in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c))) / 6


def outward(solid: Solid) -> Solid:
    """Faces counter-clockwise as seen from outside."""
    return solid if signed_volume(solid) >= 0 else replace(solid, faces=solid.faces[:, ::-1])
