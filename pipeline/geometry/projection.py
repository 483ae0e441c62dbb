"""The pinhole camera: points into a picture, and pixels of a picture back into the world.

It does not know images, depth maps or what the points are.

Frames: the world's, and the camera's with OpenCV axes (x right, y down, z forward); z is the depth.
A pixel's column and row are x and y in pixels, the centre of the first pixel at (0.5, 0.5).
Everything is computed in the dtype of the points (or rays) that are handed in: float32 where the
result is drawn from or looked up with, float64 where it is fitted to. Shapes [..., 3] are kept.

Not here, because they are other formulas: the C++ rasterisers (`pipeline/native`); SyncDreamer's
volumes (`volume_geometry`), whose pixel centres are integers, as its checkpoint was trained; and
`cross_view_error` and the hull's front in `alignment`, which multiply in another order. A sum in
another order is another float, and equal inputs are to give the files they always gave.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.types import Cameras

F = TypeVar("F", np.float32, np.float64)
Mask = npt.NDArray[np.bool_]

#: Depth, world units, from which on a point is in front of a camera.
NEAREST = 1e-3


def to_camera(cameras: Cameras, view: int, points: npt.NDArray[F]) -> npt.NDArray[F]:
    """World points [..., 3] in the frame of one camera."""
    viewmat = cameras.viewmats[view].astype(points.dtype)
    local: npt.NDArray[F] = points @ viewmat[:3, :3].T + viewmat[:3, 3]
    return local


def to_world(cameras: Cameras, view: int, local: npt.NDArray[F]) -> npt.NDArray[F]:
    """The inverse of `to_camera`."""
    viewmat = cameras.viewmats[view].astype(local.dtype)
    points: npt.NDArray[F] = (local - viewmat[:3, 3]) @ viewmat[:3, :3]
    return points


def project(
    cameras: Cameras, view: int, local: npt.NDArray[F], z: npt.NDArray[F]
) -> tuple[npt.NDArray[F], npt.NDArray[F]]:
    """Pixel x and y [n] of points in the camera's frame.

    Args:
        local: [n, 3].
        z: [n], the points' depth made positive: what is behind the camera has no pixel.
    """
    K = cameras.intrinsics[view].astype(local.dtype)
    return local[:, 0] / z * K[0, 0] + K[0, 2], local[:, 1] / z * K[1, 1] + K[1, 2]


def find_pixels(
    cameras: Cameras, view: int, points: npt.NDArray[F]
) -> tuple[Mask, npt.NDArray[np.int64], npt.NDArray[F]]:
    """Where world points [n, 3] fall in one view; nothing hides another.

    Returns:
        inside: bool [n], in front of the camera and inside of the image.
        pixel: int64 [n], flat index into [H, W]; 0 where not inside.
        z: [n], z-depth.
    """
    local = to_camera(cameras, view, points)
    z = local[:, 2]
    front = z > NEAREST
    x, y = (np.floor(v) for v in project(cameras, view, local, np.where(front, z, z.dtype.type(1))))
    inside = front & (x >= 0) & (x < cameras.width) & (y >= 0) & (y < cameras.height)
    return inside, np.where(inside, y * cameras.width + x, 0).astype(np.int64), z


def rays_through(
    cameras: Cameras, view: int, x: npt.NDArray[F], y: npt.NDArray[F]
) -> npt.NDArray[F]:
    """Rays [..., 3] of depth 1 through pixels x, y [...], in the camera's frame.

    Times a depth they are points: `to_world` takes them there.
    """
    K = cameras.intrinsics[view].astype(x.dtype)
    rays = [(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)]
    return np.stack(rays, axis=-1)


def pixel_rays(cameras: Cameras, view: int, dtype: type[F], *, stride: int = 1) -> npt.NDArray[F]:
    """Rays [H // stride, W // stride, 3] through the middles of blocks of that many pixels."""
    shape = cameras.height // stride, cameras.width // stride
    y, x = ((np.mgrid[: shape[0], : shape[1]] + 0.5) * stride).astype(dtype)
    return rays_through(cameras, view, x, y)
