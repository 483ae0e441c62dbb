"""Which points of depth maps lie in the sight of other cameras, by the depth that those have.

It does not know who drew the maps; it needs no tensors.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.geometry.projection import find_pixels, pixel_rays, to_world
from pipeline.types import Cameras, FloatArray

Mask = npt.NDArray[np.bool_]

#: Longest side at which a photo's camera draws the model: a pixel is .005 of the world's unit.
_PHOTO_SIZE = 256

#: A point is seen that lies no further than this behind what the photo's camera sees there, and
#: faces it: the back of a sheet lies no further behind than that.
_TOLERANCE = 0.025

#: Blur of the surface, in pixels, before its normals are taken: the depth of splats has steps.
_NORMAL_BLUR = 1.5


def seen_through(
    photo_depth: FloatArray, photos: Cameras, depth: FloatArray, cameras: Cameras
) -> Mask:
    """Which pixels of some depth maps show what a photo sees, bool [V, H, W].

    Args:
        photo_depth: float32 [P, H', W'], z-depth from the photos' cameras, 0 where nothing is.
        photos: P cameras.
        depth: float32 [V, H, W], of the same object, 0 where there is no surface.
        cameras: V cameras.
    """
    # Where a surface is steep its depth changes within a pixel: the farthest of nine counts.
    reach = [cv2.dilate(plane, np.ones((3, 3), np.uint8)).ravel() for plane in photo_depth]
    seen = np.zeros(depth.shape, bool)
    for view in range(len(depth)):
        at = np.nonzero(depth[view] > 0)
        if not len(at[0]):
            continue
        points, normals = _surface(depth[view], cameras, view)
        points, normals = points[at], normals[at]
        found = np.zeros(len(points), bool)
        for photo, farthest in enumerate(reach):
            inside, pixel, z = find_pixels(photos, photo, points)
            there = farthest[pixel]
            faces = (normals * (photos.centres[photo] - points)).sum(-1) > 0
            found |= inside & faces & (there > 0) & (z < there + _TOLERANCE)
        seen[view][at] = found
    return seen


def _surface(depth: FloatArray, cameras: Cameras, view: int) -> tuple[FloatArray, FloatArray]:
    """World points [H, W, 3] of a depth map, and normals [H, W, 3], of any length, on the side of
    the camera."""
    rays = pixel_rays(cameras, view, np.float32)
    local = rays * depth[..., None]
    weight = cv2.GaussianBlur((depth > 0).astype(np.float32), (0, 0), _NORMAL_BLUR)
    smooth = cv2.GaussianBlur(local, (0, 0), _NORMAL_BLUR) / np.maximum(weight, 1e-6)[..., None]
    normals = np.cross(np.gradient(smooth, axis=1), np.gradient(smooth, axis=0))
    away = (normals * rays).sum(-1, keepdims=True) > 0
    rotation = cameras.viewmats[view, :3, :3]
    points = to_world(cameras, view, local.reshape(-1, 3)).reshape(local.shape)
    return points, np.where(away, -normals, normals) @ rotation


def at_most(cameras: Cameras, side: int = _PHOTO_SIZE) -> Cameras:
    """The same cameras with pictures whose longer side is at most `side`."""
    longest = max(cameras.width, cameras.height)
    if longest <= side:
        return cameras
    width, height = (max(1, round(n * side / longest)) for n in (cameras.width, cameras.height))
    intrinsics = cameras.intrinsics.copy()
    intrinsics[:, 0] *= width / cameras.width
    intrinsics[:, 1] *= height / cameras.height
    return Cameras(cameras.viewmats, intrinsics, width, height)
