"""Ellipsoids melted into one smooth body, and others cut out of it.

It does not know what the body is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from skimage.measure import marching_cubes

from training.prior.solids import Points, Solid, outward

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Blob:
    """One ellipsoid of `melt`.

    Attributes:
        centre, semi_axes: three numbers each.
        rotation: float64 [3, 3], maps the ellipsoid's own axes to the object's.
        slot: finish of the surface that is nearest to it.
        sign: +1 is added, -1 is cut away after all additions.
    """

    centre: Sequence[float] | Points
    semi_axes: Sequence[float] | Points
    rotation: Points = field(default_factory=lambda: np.eye(3))
    slot: int = 0
    sign: int = 1


def melt(blobs: Sequence[Blob], blend: float, cells: int = 40) -> Solid:
    """The smooth union of ellipsoids without those to be cut away, by marching cubes.

    Args:
        blobs: at least one with sign +1.
        blend: width of the seams, in the blobs' units.
        cells: of the grid along its longest side.

    Raises:
        ValueError: nothing is left.
    """
    blobs = sorted(blobs, key=lambda blob: -blob.sign)
    added = [blob for blob in blobs if blob.sign > 0]
    reach = [_reach(blob) for blob in added]
    centres = [np.asarray(blob.centre, np.float64) for blob in added]
    margin = 0.3 * blend
    low = np.min([c - r for c, r in zip(centres, reach, strict=True)], 0) - margin
    high = np.max([c + r for c, r in zip(centres, reach, strict=True)], 0) + margin
    step = float((high - low).max()) / cells
    low = low - 1.5 * step
    counts = np.ceil((high + 1.5 * step - low) / step).astype(int) + 1
    axes = [(low[i] + step * np.arange(counts[i])).astype(np.float32) for i in range(3)]
    field_ = np.full(counts, 10 * (high - low).max(), np.float32)
    for blob in blobs:
        # Farther away than a seam is wide, a blob changes nothing.
        centre, near = np.asarray(blob.centre, np.float64), _reach(blob) + 1.5 * blend + 2 * step
        first = np.clip(np.floor((centre - near - low) / step), 0, None).astype(int)
        last = np.clip(np.ceil((centre + near - low) / step) + 1, 0, counts).astype(int)
        block = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        distance = _distance(np.ix_(*(axes[i][block[i]] for i in range(3))), blob)
        before = field_[block]
        if blob.sign > 0:
            share = np.clip(0.5 + 0.5 * (before - distance) / max(blend, 1e-6), 0, 1)
            field_[block] += (distance - before - np.float32(blend) * (1 - share)) * share
        else:
            field_[block] = np.maximum(before, -distance)
    if field_.min() >= 0:
        raise ValueError("nothing is left of the blobs")
    vertices, faces, _, _ = marching_cubes(field_, 0.0, spacing=(step,) * 3)
    vertices = vertices.astype(np.float64) + low
    middles = tuple(vertices[faces].mean(1).astype(np.float32).T)
    nearest = np.argmin([np.abs(_distance(middles, blob)) for blob in blobs], 0)
    slots = np.array([blob.slot for blob in blobs])[nearest]
    middle, span = (low + high) / 2, float((high - low).max())
    seen = (vertices - middle) / span
    # Upright from the front; the share of x keeps the sides from being streaks.
    uv = np.stack([seen[:, 1] + 0.3 * seen[:, 0] + 0.5, 0.5 - seen[:, 2]], -1)
    smooth = np.ones(len(faces), dtype=np.bool_)
    return outward(Solid(vertices, faces.astype(np.int64), uv, slots.astype(np.int64), smooth))


def _reach(blob: Blob) -> Points:
    """Half extents of the ellipsoid along the object's axes."""
    reach: Points = np.sqrt(((blob.rotation * np.asarray(blob.semi_axes)) ** 2).sum(1))
    return reach


def _distance(points: tuple[Float32, ...], blob: Blob) -> Float32:
    """Signed distance to an ellipsoid, to first order, negative inside.

    Args:
        points: x, y and z, of shapes that go together.
    """
    axes = np.asarray(blob.semi_axes, np.float64)
    own = (blob.rotation / axes).astype(np.float32)
    x, y, z = (p - np.float32(c) for p, c in zip(points, blob.centre, strict=True))
    ratio = slope = np.float32(0)
    for k in range(3):
        squared = (x * own[0, k] + y * own[1, k] + z * own[2, k]) ** 2
        ratio = ratio + squared
        slope = slope + squared * np.float32(1 / axes[k] ** 2)
    ratio = np.sqrt(ratio)
    distance: Float32 = ratio * (ratio - 1) / np.maximum(np.sqrt(slope), np.float32(1e-6))
    return distance
