"""A surface between a near and a far sheet on the rays of one photo, and how other photos carve it.

It knows cameras and outlines, and neither colours nor how the sheets were guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.engines.views.outline import Mask, Plane
from pipeline.geometry.projection import project, to_camera, to_world
from pipeline.types import Cameras, FloatArray

#: Places along every ray at which a photo says whether something is there.
SAMPLES = 96
#: The least thickness that is left, world units: half a pixel of a view.
LEAST = 0.003
#: Outlines of another photo are believed to so many of its widths: its camera is not exact.
SLACK = 0.006
#: How far a row of a photo from the side may stretch the surface.
STRETCH = (0.4, 2.5)
#: Rows of a photo whose extents are compared, and the blur of these along the rows.
ROWS, ROW_BLUR = 96, 2.0


@dataclass(frozen=True)
class TwoSheets:
    """Points on the rays of a photo.

    Attributes:
        camera: the photo's.
        rays: float64 [P, 3], of depth 1, in the frame of the camera.
        near, far: float64 [P], depth of both sheets, world units.
        build: vertices float32 [V, 3] in the world of near and far points [P, 3] there.
    """

    camera: Cameras
    rays: Plane
    near: Plane
    far: Plane
    build: Callable[[Plane, Plane], FloatArray]

    @property
    def vertices(self) -> FloatArray:
        return self.build(self.at(self.near), self.at(self.far))

    def at(self, depth: Plane) -> Plane:
        """Points [P, 3] in the world at a depth of every ray."""
        return to_world(self.camera, 0, self.rays * depth[:, None])

    def thicker(self, by: float) -> TwoSheets:
        """Stretched along the photo's axis about the origin, which is inside."""
        middle = float(np.linalg.norm(self.camera.centres[0]))
        near, far = (middle + by * (sheet - middle) for sheet in (self.near, self.far))
        return replace(self, near=np.maximum(near, 0.2), far=np.maximum(far, 0.2 + LEAST))


def stretched_to(sheets: TwoSheets, seen_by: Cameras, inside: Mask) -> TwoSheets:
    """As deep as a photo from the side shows it: along every row of that photo across the first
    one's axis both sheets are moved so that they end where its outline does."""
    along, across = _directions(sheets, seen_by)
    ends = []
    for depth in (sheets.near, sheets.far):
        ends.append(_picture_places(seen_by, sheets.at(depth), along, across))
    y, x = np.nonzero(inside)
    pixels = np.stack([x + 0.5, y + 0.5], 1)
    theirs = pixels @ along, pixels @ across
    ours = (np.concatenate([end[0] for end in ends]), np.concatenate([end[1] for end in ends]))
    low, high = float(ours[1].min()), float(ours[1].max())
    rows = [_extents(t, r, low, high) for t, r in (ours, theirs)]
    (a, b), (c, d) = rows
    middle, wanted = 0.5 * (a + b), 0.5 * (c + d)
    factor = ((d - c) / np.maximum(b - a, 1e-3)).clip(*STRETCH)
    moved = []
    for depth, (t, r) in zip((sheets.near, sheets.far), ends, strict=True):
        row = (r - low) / max(high - low, 1e-6) * ROWS - 0.5
        m, w, f = (np.interp(row, np.arange(ROWS), curve) for curve in (middle, wanted, factor))
        ahead, _ = _picture_places(seen_by, sheets.at(depth + 1e-3), along, across)
        slope = (ahead - t) / 1e-3
        slope = np.where(np.abs(slope) < 1e-3, np.inf, slope)
        moved.append(depth + (w + f * (t - m) - t) / slope)
    near, far = np.minimum(*moved), np.maximum(*moved)
    return replace(sheets, near=near, far=np.maximum(far, near + LEAST))


def carved_by(sheets: TwoSheets, seen_by: Cameras, inside: Mask) -> TwoSheets:
    """Without what lies outside of another photo's outline: every ray ends inside of it.

    A ray that is outside all along keeps its place: the photos contradict each other there.
    """
    width = seen_by.width
    roomy = ndimage.distance_transform_edt(~inside) <= SLACK * width
    share = np.linspace(0.0, 1.0, SAMPLES)
    depth = sheets.near[:, None] + share * (sheets.far - sheets.near)[:, None]
    # A place along a ray is where its photo is, and the ray times the depth.
    start, ends = (
        to_camera(seen_by, 0, to_world(sheets.camera, 0, rays))
        for rays in (np.zeros((1, 3)), sheets.rays)
    )
    local = np.stack(
        [s + depth * d[:, None] for s, d in zip(start[0], (ends - start).T, strict=True)], -1
    )
    local = local.reshape(-1, 3)
    z = np.maximum(local[:, 2], 1e-3)
    x, y = (np.floor(v).astype(int) for v in project(seen_by, 0, local, z))
    within = (x >= 0) & (x < width) & (y >= 0) & (y < seen_by.height)
    full = np.zeros(len(x), bool)
    full[within] = roomy[y[within], x[within]]
    rows: Mask = full.reshape(depth.shape)
    some, first = rows.any(1), rows.argmax(1)
    last = SAMPLES - 1 - rows[:, ::-1].argmax(1)
    row = np.arange(len(depth))
    near = np.where(some, depth[row, first], sheets.near)
    far = np.where(some, depth[row, last], sheets.far)
    return replace(sheets, near=near, far=np.maximum(far, near + LEAST))


def _directions(sheets: TwoSheets, seen_by: Cameras) -> tuple[Plane, Plane]:
    """Unit vectors [2] in the picture of `seen_by`: along the first photo's axis, and across."""
    middle = float(np.linalg.norm(sheets.camera.centres[0]))
    ends = np.array([[0.0, 0.0, middle - 0.1], [0.0, 0.0, middle + 0.1]])
    local = to_camera(seen_by, 0, to_world(sheets.camera, 0, ends))
    x, y = project(seen_by, 0, local, np.maximum(local[:, 2], 1e-3))
    along = np.array([x[1] - x[0], y[1] - y[0]])
    along /= max(float(np.linalg.norm(along)), 1e-9)
    return along, np.array([-along[1], along[0]])


def _picture_places(
    seen_by: Cameras, points: Plane, along: Plane, across: Plane
) -> tuple[Plane, Plane]:
    """Pixels [P] along both directions."""
    local = to_camera(seen_by, 0, points)
    x, y = project(seen_by, 0, local, np.maximum(local[:, 2], 1e-3))
    pixels = np.stack([x, y], 1)
    return pixels @ along, pixels @ across


def _extents(t: Plane, r: Plane, low: float, high: float) -> tuple[Plane, Plane]:
    """Where every row of `ROWS` between low and high begins and ends, smooth along the rows."""
    row = np.floor((r - low) / max(high - low, 1e-6) * ROWS).astype(int)
    kept = (row >= 0) & (row < ROWS)
    first, last = np.full(ROWS, np.inf), np.full(ROWS, -np.inf)
    np.minimum.at(first, row[kept], t[kept])
    np.maximum.at(last, row[kept], t[kept])
    known = np.flatnonzero(first <= last)
    curves = [np.interp(np.arange(ROWS), known, curve[known]) for curve in (first, last)]
    smooth: list[npt.NDArray[np.float64]] = [
        ndimage.gaussian_filter1d(curve, ROW_BLUR, mode="nearest") for curve in curves
    ]
    return smooth[0], smooth[1]
