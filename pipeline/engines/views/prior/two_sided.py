"""A closed surface from what is guessed of one photo: its front, its back, and walls between them.

It knows the photo's camera and nothing about colours or about how the guess was made.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.engines.views.outline import Mask, Plane
from pipeline.engines.views.outline_sheet import Indices, Sheet
from pipeline.engines.views.prior.guess import Guess
from pipeline.geometry.cameras import photo_camera, rig_cameras
from pipeline.imaging.nearest import nearest_known
from pipeline.rig import FOCAL_AT_256, RADIUS
from pipeline.types import Cameras, FloatArray

#: Width of the photo's frame in the world, at the middle of the object, before it is fitted in.
FRAME_WIDTH = RADIUS * 256 / FOCAL_AT_256
#: The back lies at least this far behind the front, in frame widths: half a pixel of a view.
MIN_THICKNESS = 0.002
#: Offsets end at this share of the distance to the photo's camera.
REACH = 0.8
#: A pixel of the guess shows the object alone where so much of it is inside the outline.
SURE_SHARE = 0.95
#: Rings along the outline, in pixels of the guess, that tell how the thickness goes on to it, and
#: along how much of the outline they are taken together.
RIM_RINGS = ((0.0, 2.5), (3.0, 6.0))
RIM_BLUR = 3.0
#: How far around a pixel of the guess its tangent is taken, and how far it goes, pixels.
TANGENT_BLUR = 1.0
TANGENT_REACH = 3.0
#: Where walls have vertices between the rim of the front (0) and that of the back (1).
WALL_ROWS = (0.0, 0.12, 0.5, 0.88, 1.0)
#: Pixels of every view of the rig that stay free around the object.
VIEW_MARGIN = 2.0


@dataclass(frozen=True)
class TwoSided:
    """Vertices in the world, faces, and the camera that took the photo.

    Attributes:
        vertices: float32 [V, 3]: P of the front and P of the back, one for each point of the sheet,
            then the inner rows of the walls, M each, one for each point on the outline.
        faces: int32 [F, 3], counter-clockwise seen from outside.
        camera: the photo's own, as large as the cut-out.
    """

    vertices: FloatArray
    faces: Indices
    camera: Cameras


@dataclass(frozen=True)
class Sides:
    """Offsets of both sides at the points of a sheet, float64 [P], in frame widths."""

    front: Plane
    back: Plane


def sure_pixels(inside: Mask, size: int) -> Mask:
    """bool [size, size]: pixels of a coarser grid over `inside` that show nothing but the object.

    Parts that are too thin for any have those that they fill best.
    """
    share = cv2.resize(inside.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    sure: Mask = share >= SURE_SHARE
    for least in (0.5, 0.02):
        near = ndimage.binary_dilation(sure, np.ones((5, 5), bool))
        sure |= (share >= least) & ~near
    return sure


def sampled(plane: npt.NDArray[np.floating], points: Plane, size: int) -> Plane:
    """Values of a coarse plane [n, n] over a picture at points [P, 2] in its pixels, linearly."""
    scale = len(plane) / size
    rows, columns = (points[:, ::-1] * scale - 0.5).T
    values: Plane = ndimage.map_coordinates(
        plane.astype(np.float64), [rows, columns], order=1, mode="nearest"
    )
    return values


def sides_of(guess: Guess, inside: Mask, sheet: Sheet) -> Sides:
    """Both sides at every point of the sheet, carried out to the outline.

    Along the outline the guess mixes object and ground, so it is taken from pixels that surely
    show the object. Between the last of those and the outline the square of the thickness goes on
    as it did before: that of a ball falls to nothing along a straight line, that of a box stays.

    A back that is in front is `MIN_THICKNESS` behind it.
    """
    reach = REACH * guess.focal
    front, back = (
        np.clip(side.astype(np.float64), -reach, reach) for side in (guess.front, guess.back)
    )
    size, cells = inside.shape[0], front.shape[0]
    sure = sure_pixels(inside, cells)
    squared = np.maximum(back - front, 0.0) ** 2
    depth = ndimage.distance_transform_edt(inside)
    depth_of_cell = cv2.resize(depth, (cells, cells), interpolation=cv2.INTER_AREA) * cells / size
    at_rim = np.minimum(_squared_at_rim(squared, depth_of_cell, sure), squared)

    middle = sampled(_continued(0.5 * (front + back), sure), sheet.points, size)
    squared, at_rim, known_depth = (
        sampled(nearest_known(plane, sure), sheet.points, size)
        for plane in (squared, at_rim, depth_of_cell)
    )
    own_depth = np.zeros(len(sheet.points))
    own_depth[: len(sheet.pixels)] = depth[sheet.pixels[:, 0], sheet.pixels[:, 1]] * cells / size
    share = np.clip(own_depth / np.maximum(known_depth, 1e-6), 0.0, 1.0)
    share = np.where(known_depth < RIM_RINGS[0][1], share, 1.0)
    squared = at_rim + share * (squared - at_rim)
    half = 0.5 * np.maximum(np.sqrt(np.maximum(squared, 0.0)), MIN_THICKNESS)
    nearest = np.clip(middle - half, -reach, reach - MIN_THICKNESS)
    return Sides(nearest, np.clip(middle + half, nearest + MIN_THICKNESS, reach))


def _continued(plane: Plane, known: Mask) -> Plane:
    """`plane` with each pixel that is not known on the tangent of the nearest one that is.

    Without it what leans has a rim of steps. Tangents are those of the known pixels around.
    """
    size = len(plane)
    y, x = np.mgrid[:size, :size] - 0.5 * size
    weight = known.astype(np.float64)

    def around(values: Plane) -> Plane:
        smooth: Plane = ndimage.gaussian_filter(values * weight, TANGENT_BLUR)
        return smooth

    total = np.maximum(around(np.ones_like(plane)), 1e-9)
    mean_x, mean_y, mean = (around(values) / total for values in (x, y, plane))
    xx, xy, yy, xz, yz = (
        around(a * b) / total - mean_a * mean_b
        for a, b, mean_a, mean_b in (
            (x, x, mean_x, mean_x),
            (x, y, mean_x, mean_y),
            (y, y, mean_y, mean_y),
            (x, plane, mean_x, mean),
            (y, plane, mean_y, mean),
        )
    )
    # The ridge keeps the slope across a part that is too thin to show one at 0.
    xx, yy = xx + 0.02, yy + 0.02
    scale = xx * yy - xy * xy
    slope_x, slope_y = (yy * xz - xy * yz) / scale, (xx * yz - xy * xz) / scale
    rows, columns = ndimage.distance_transform_edt(
        ~known, return_distances=False, return_indices=True
    )
    right, down = x - x[rows, columns], y - y[rows, columns]
    step = slope_x[rows, columns] * right + slope_y[rows, columns] * down
    # Far from the object no tangent means anything.
    step /= np.maximum(np.hypot(right, down) / TANGENT_REACH, 1.0)
    continued: Plane = plane[rows, columns] + step
    return continued


def _squared_at_rim(squared: Plane, depth: Plane, sure: Mask) -> Plane:
    """The square of the thickness on the nearest outline, from two rings at some depth inside."""

    def mean_of_ring(low: float, high: float) -> tuple[Plane, Plane, Plane]:
        weight = (sure & (depth >= low) & (depth < high)).astype(np.float64)
        total = np.maximum(ndimage.gaussian_filter(weight, RIM_BLUR), 1e-9)
        means = [ndimage.gaussian_filter(p * weight, RIM_BLUR) / total for p in (squared, depth)]
        return means[0], means[1], total

    outer, outer_depth, outer_weight = mean_of_ring(*RIM_RINGS[0])
    inner, inner_depth, inner_weight = mean_of_ring(*RIM_RINGS[1])
    slope = (inner - outer) / np.maximum(inner_depth - outer_depth, 1.0)
    on = np.where(np.minimum(outer_weight, inner_weight) > 1e-6, outer - slope * outer_depth, outer)
    clipped: Plane = np.clip(on, 0.0, outer)
    return clipped


def close_with_walls(sheet: Sheet) -> Indices:
    """Faces int32 [F, 3] of both sides and the walls between them; vertices as in `TwoSided`."""
    count, pixels = len(sheet.points), len(sheet.pixels)
    rim = count - pixels
    front = sheet.triangles[:, ::-1].astype(np.int64)
    # Only the outline joins two of its points; walls take its edges in the other direction.
    edges = np.concatenate([front[:, [0, 1]], front[:, [1, 2]], front[:, [2, 0]]])
    outline = edges[(edges >= pixels).all(1)]
    rows = [outline]
    rows += [outline - pixels + 2 * count + i * rim for i in range(len(WALL_ROWS) - 2)]
    rows.append(outline + count)
    walls = []
    for (a, b), (c, d) in ((near.T, far.T) for near, far in pairwise(rows)):
        walls += [np.stack([b, a, c], 1), np.stack([b, c, d], 1)]
    back = sheet.triangles.astype(np.int64) + count
    return np.concatenate([front, back, *walls]).astype(np.int32)


def with_walls(front: npt.NDArray[np.floating], back: npt.NDArray[np.floating], rim: int) -> Plane:
    """Values [P, ...] of both sides and, linearly between, those of the walls, as `TwoSided`."""
    between = [front[-rim:] + t * (back[-rim:] - front[-rim:]) for t in WALL_ROWS[1:-1]]
    return np.concatenate([front, back, *between])


def place_in_world(
    sheet: Sheet, sides: Sides, size: int, focal: float, elevation_deg: float
) -> TwoSided:
    """The closed surface, centred in the world; the camera sees the photo of it.

    Every point lies on the ray of its pixel. The middle of the bounding box is the origin. The
    frame is `FRAME_WIDTH` wide at the object's middle unless a view of the rig or the unit box
    would not hold all of it: then it is smaller.

    Args:
        size: side of the picture in pixels.
        focal: in frame widths.
    """
    eye = photo_camera(elevation_deg, size)
    R = eye.viewmats[0, :3, :3].astype(np.float64)
    focal_px = focal * size
    rays = np.ones((len(sheet.points), 3))
    rays[:, :2] = (sheet.points - size / 2) / focal_px
    near, far = (
        rays * (FRAME_WIDTH * (focal + offsets))[:, None] for offsets in (sides.front, sides.back)
    )
    world = with_walls(near, far, len(sheet.points) - len(sheet.pixels)) @ R
    middle = 0.5 * (world.min(0) + world.max(0))
    world -= middle
    scale = _scale_to_fit(world.astype(np.float32))
    viewmat = np.eye(4)
    viewmat[:3, :3] = R
    viewmat[:3, 3] = scale * (R @ middle)
    K = np.array([[focal_px, 0, size / 2], [0, focal_px, size / 2], [0, 0, 1]])
    camera = Cameras(viewmat[None].astype(np.float32), K[None].astype(np.float32), size, size)
    return TwoSided((scale * world).astype(np.float32), close_with_walls(sheet), camera)


def _scale_to_fit(points: FloatArray) -> float:
    """The largest scale up to 1 at which points [n, 3] are inside all views and the unit box."""
    rig = rig_cameras()
    focal, half = float(rig.intrinsics[0, 0, 0]), rig.width / 2 - VIEW_MARGIN
    # Scaled by s a point (x, y, z) of a camera's axes from the origin is at depth RADIUS + s z: it
    # is inside while s (f x - half z) <= half RADIUS, and so for -x, y and -y.
    right, down, ahead = (
        focal
        * rig.viewmats[:, :3, :3].transpose(1, 0, 2)
        / np.array([[[1.0]], [[1.0]], [[focal / half]]], np.float32)
    )
    limits = np.concatenate([side - ahead for side in (right, -right, down, -down)])
    need = max(float((points @ limit).max()) for limit in limits)
    box = float(np.abs(points).max())
    return min(1.0, half * RADIUS / max(need, 1e-9), 0.5 / max(box, 1e-9))
