"""What the learned prior would say of an object if it knew everything, and the photo it says it of.

The last surface behind a pixel is found with the rasteriser that finds the first: a projective map
of the camera's space turns the order of depths round and keeps pixels and planes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.engines.views.prior.guess import GUESS_SIZE, Guess
from pipeline.imaging.nearest import nearest_known
from pipeline.mesh.mesh_raster import rasterize_mesh
from pipeline.types import Cameras, Cutout, FloatArray
from tests.oracles.objects import Object

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrueGuess:
    """A framed photo of an object and the truth about it.

    Attributes:
        cutout: the object's longest side is 200/256 of it, centred.
        guess: both sides and the back as they are, errors 0.
        viewmat: world of the object to the photo's camera.
        middle: depth of the object's middle in that camera.
    """

    cutout: Cutout
    guess: Guess
    viewmat: Matrix
    middle: float

    def object_seen_by(self, thing: Object, camera: Cameras, middle: float) -> FloatArray:
        """The object's vertices in another world, where `camera` took the same photo.

        Args:
            middle: depth of the object's middle in `camera`.
        """
        local = (thing.vertices @ self.viewmat[:3, :3].T + self.viewmat[:3, 3]) * (
            middle / self.middle
        )
        other = camera.viewmats[0].astype(np.float64)
        return ((local - other[:3, 3]) @ other[:3, :3]).astype(np.float32)


def true_guess(
    thing: Object, elevation_deg: float, *, distance: float = 1.5, size: int = 512
) -> TrueGuess:
    """A photo from so far away and the truth; the elevation is met within a few degrees.

    The camera's axis goes through the middle of the frame, which is not the object's own.
    """
    viewmat, focal = _framed(thing.vertices.astype(np.float64), elevation_deg, distance)
    seen = rasterize_mesh(
        thing.vertices, thing.faces, thing.colors, _camera(viewmat, focal, size), supersample=3
    )
    colors = nearest_known(seen.attributes[0], seen.coverage[0] > 0.5)
    rgba = np.round(255 * np.concatenate([colors, seen.coverage[0][..., None]], -1))

    coarse = _camera(viewmat, focal, GUESS_SIZE)
    first = rasterize_mesh(thing.vertices, thing.faces, thing.colors, coarse, supersample=1)
    last, last_colors = _last(thing, viewmat, coarse)
    known = (first.depth[0] > 0) & (last > 0)
    middle = 0.5 * float(first.depth[0][known].min() + last[known].max())
    front, back = (
        nearest_known((depth - middle) * focal / middle, known).astype(np.float32)
        for depth in (first.depth[0], last)
    )
    nothing = np.zeros((GUESS_SIZE, GUESS_SIZE), np.float32)
    guess = Guess(
        front=front,
        back=np.maximum(front, back),
        front_error=nothing,
        back_error=nothing,
        back_colors=nearest_known(last_colors, known)[None],
        back_copies=nothing[None],
        elevation_deg=float(np.rad2deg(np.arcsin(-viewmat[2, 2]))),
        elevation_error_deg=0.0,
        focal=focal,
        focal_error=0.0,
    )
    return TrueGuess(Cutout(rgba.astype(np.uint8), "given"), guess, viewmat, middle)


def _framed(points: Matrix, elevation_deg: float, distance: float) -> tuple[Matrix, float]:
    """A camera whose axis goes through the middle of the points' frame, and its focal length."""
    elevation = np.deg2rad(elevation_deg)
    eye = distance * np.array([np.cos(elevation), 0.0, np.sin(elevation)])
    target = np.zeros(3)
    for _ in range(12):
        ahead = (target - eye) / np.linalg.norm(target - eye)
        right = np.cross(ahead, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        viewmat = np.eye(4)
        viewmat[:3, :3] = np.stack([right, np.cross(ahead, right), ahead])
        viewmat[:3, 3] = -viewmat[:3, :3] @ eye
        local = points @ viewmat[:3, :3].T + viewmat[:3, 3]
        seen = local[:, :2] / local[:, 2:]
        low, high = seen.min(0), seen.max(0)
        target = eye + np.array([*(0.5 * (low + high)), 1.0]) @ viewmat[:3, :3]
    return viewmat, float(200 / 256 / (high - low).max())


def _camera(viewmat: Matrix, focal: float, size: int) -> Cameras:
    K = np.array([[focal * size, 0, size / 2], [0, focal * size, size / 2], [0, 0, 1]])
    return Cameras(viewmat[None].astype(np.float32), K[None].astype(np.float32), size, size)


def _last(thing: Object, viewmat: Matrix, camera: Cameras) -> tuple[Matrix, FloatArray]:
    """Depth [H, W] and colours of the last surface, 0 where there is none."""
    local = thing.vertices @ viewmat[:3, :3].T + viewmat[:3, 3]
    # 1 / z' = bound - 1 / z falls as z grows.
    z = local[:, 2:]
    bound = 1.05 / float(z.min())
    turned = (local / (bound * z - 1.0)).astype(np.float32)
    eye = Cameras(np.eye(4, dtype=np.float32)[None], camera.intrinsics, camera.width, camera.height)
    seen = rasterize_mesh(turned, thing.faces, thing.colors, eye, supersample=1)
    inverse = bound - 1.0 / np.maximum(seen.depth[0], 1e-6)
    return np.where(seen.depth[0] > 0, 1.0 / np.maximum(inverse, 1e-6), 0.0), seen.attributes[0]
