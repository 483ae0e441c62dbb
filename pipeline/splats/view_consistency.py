"""Cross-view consistency: images of one object carried from view to view by depth.

It does not know where depth comes from, usually renders of a model, nor who asks: scores and the
confidence of refinement targets do.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.geometry.projection import NEAREST, rays_through, to_camera, to_world
from pipeline.types import Cameras, FloatArray

#: Neighbours that each view is compared with: those whose cameras are nearest.
_NEIGHBOURS = 4

#: A point is seen by a view whose surface there is no nearer than this, world units.
_DEPTH_TOLERANCE = 0.02

#: Cameras that look in directions more than 75 degrees apart see different sides.
_MIN_COSINE = float(np.cos(np.deg2rad(75.0)))


@dataclass(frozen=True)
class CrossViewError:
    """How far each pixel is from what other views show there.

    Attributes:
        error: float32 [V, H, W], median over the neighbours that see the point of the mean
            absolute difference of the colours, 0..1; 0 where none does.
        known: bool [V, H, W], at least one neighbour sees the point.
    """

    error: FloatArray
    known: npt.NDArray[np.bool_]


def low_pass(images: FloatArray, sigma: float) -> FloatArray:
    """Gaussian blur of float32 [V, H, W, ...] images, `sigma` in pixels."""
    blurred: FloatArray = np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in images])
    return blurred


def cross_view_error(images: FloatArray, depth: FloatArray, cameras: Cameras) -> CrossViewError:
    """Compares every view with its nearest neighbours, pixel by pixel, through the surface.

    Args:
        images: float32 [V, H, W, 3], 0..1; low-pass them where sharpness is not to count.
        depth: float32 [V, H, W], z-depth in world units, 0 where there is no surface.
    """
    V = len(images)
    error, known = np.zeros(depth.shape, np.float32), np.zeros(depth.shape, bool)
    directions = cameras.viewmats[:, 2, :3]
    cosines = directions @ directions.T
    for view in range(V):
        rows, columns = np.nonzero(depth[view] > 0)
        if not len(rows):
            continue
        points = _unproject(view, rows, columns, depth, cameras)
        order = np.argsort(-cosines[view], kind="stable")
        near = [u for u in order if u != view and cosines[view, u] > _MIN_COSINE]
        differences = np.full((max(len(near[:_NEIGHBOURS]), 1), len(rows)), np.nan, np.float32)
        for i, other in enumerate(near[:_NEIGHBOURS]):
            colors, seen = _sample(int(other), points, images, depth, cameras)
            ours = images[view, rows, columns]
            differences[i, seen] = np.abs(ours - colors).mean(axis=1)[seen]
        some = np.isfinite(differences).any(axis=0)
        error[view, rows[some], columns[some]] = np.nanmedian(differences[:, some], axis=0)
        known[view, rows[some], columns[some]] = True
    return CrossViewError(error, known)


def _unproject(
    view: int,
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    depth: FloatArray,
    cameras: Cameras,
) -> FloatArray:
    """World points [P, 3] of pixels of a view."""
    rays = rays_through(cameras, view, columns + 0.5, rows + 0.5)
    local = (rays * depth[view, rows, columns, None]).astype(np.float32)
    return to_world(cameras, view, local)


def _sample(
    view: int, points: FloatArray, images: FloatArray, depth: FloatArray, cameras: Cameras
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """What a view shows at world points: colours [P, 3], and which points it sees [P]."""
    K = cameras.intrinsics[view]
    x, y, z = to_camera(cameras, view, points).T
    ahead = z > NEAREST
    safe = np.where(ahead, z, 1.0)
    # Not `project`, which divides first: the last digits of all scores would be others.
    u = (K[0, 0] * x / safe + K[0, 2] - 0.5).astype(np.float32)
    v = (K[1, 1] * y / safe + K[1, 2] - 0.5).astype(np.float32)
    colors = _look_up(images[view], u, v, cv2.INTER_LINEAR)
    there = _look_up(depth[view], u, v, cv2.INTER_NEAREST)
    seen = ahead & (there > 0) & (np.abs(there - z) < _DEPTH_TOLERANCE)
    return colors, seen


def _look_up(image: FloatArray, u: FloatArray, v: FloatArray, how: int) -> FloatArray:
    """Values [P] or [P, 3] of an image at columns `u` and rows `v`; 0 outside of it."""
    # OpenCV wants maps of less than 2^15 a side: the list is folded into rows.
    P, width = len(u), 4096
    folded = -(-P // width) * width
    map_u, map_v = (
        np.pad(values, (0, folded - P), constant_values=-2).reshape(-1, width) for values in (u, v)
    )
    looked = cv2.remap(image, map_u, map_v, how, borderMode=cv2.BORDER_CONSTANT, borderValue=0.0)
    values: FloatArray = looked.reshape(folded, *image.shape[2:])[:P]
    return values
