"""Paints a surface with several photos of it: whichever looks at it most directly wins.

It knows cameras and not how the surface was made or the photos were placed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.control import Control
from pipeline.engines.views.cutout_paint import smooth_step, without_fringe
from pipeline.engines.views.outline import silhouette
from pipeline.engines.views.surface_views import ColoredMesh
from pipeline.geometry.projection import pixel_rays, project, to_camera, to_world
from pipeline.imaging.nearest import nearest_known
from pipeline.imaging.rounding import to_bytes
from pipeline.mesh.mesh_raster import rasterize_mesh
from pipeline.types import Cameras, FloatArray, UInt8Array, ViewSet

#: A surface this far behind another one, world units, is hidden by it.
HIDDEN = 0.015
#: Cosines to the line of sight between which a photo begins to tell colours.
FACING = (0.12, 0.4)
#: How sharply the most facing photo wins.
SHARPNESS = 6
#: Width of the seam along a photo's outline, share of its width.
SEAM = 0.01
#: What the colours that were there count beside a photo that faces the surface.
FLOOR = 0.02


@dataclass(frozen=True)
class Projector:
    """A photo as it is thrown back onto the surface.

    Attributes:
        colors: float32 [n, n, 3], 0..1, defined everywhere.
        inner: float32 [n, n], 0..1: 0 at the outline and beyond.
        depth: float32 [n, n], of the surface, z-depth, 0 where it is not.
        camera: one, of n pixels.
        trust: 0..1.
    """

    colors: FloatArray
    inner: FloatArray
    depth: FloatArray
    camera: Cameras
    trust: float


def projector(rgba: UInt8Array, camera: Cameras, mesh: ColoredMesh, trust: float) -> Projector:
    """A cut-out uint8 [n, n, 4] and its camera of n pixels, over the surface it is thrown onto."""
    inside = silhouette(rgba[..., 3]).inside
    distance = ndimage.distance_transform_edt(inside)
    inner = smooth_step(0.5, max(SEAM * len(rgba), 1.0), distance)
    bare = np.zeros((len(mesh.vertices), 0), np.float32)
    depth = rasterize_mesh(mesh.vertices, mesh.faces, bare, camera, supersample=1).depth[0]
    return Projector(without_fringe(rgba, inside), inner, depth, camera, trust)


def normals_of(mesh: ColoredMesh) -> FloatArray:
    """Unit normals of the vertices, float32 [V, 3], outwards, weighted by the faces' areas."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]].astype(np.float64) for i in range(3))
    flat = np.cross(b - a, c - a)
    normals = np.zeros(mesh.vertices.shape)
    for corner in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(
                mesh.faces[:, corner], flat[:, axis], minlength=len(normals)
            )
    length = np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    unit: FloatArray = (normals / length).astype(np.float32)
    return unit


def thrown_onto(
    points: FloatArray, normals: FloatArray, photos: Sequence[Projector]
) -> tuple[FloatArray, FloatArray]:
    """What the photos say of points on the surface.

    Args:
        points, normals: float32 [n, 3], world frame.

    Returns:
        colors: float32 [n, 3], the weighted sum.
        weights: float32 [n], the sum of the weights; 0 where no photo sees the point.
    """
    colors, weights = np.zeros((len(points), 3), np.float32), np.zeros(len(points), np.float32)
    for photo in photos:
        local = to_camera(photo.camera, 0, points)
        z = np.maximum(local[:, 2], 1e-3)
        x, y = (v.astype(np.float32) - 0.5 for v in project(photo.camera, 0, local, z))
        # The farthest surface of the pixels around: at a step either side may be meant.
        depth = cv2.dilate(photo.depth, np.ones((3, 3), np.uint8))
        seen = _sampled(depth, x, y, cv2.INTER_NEAREST)
        towards = photo.camera.centres[0] - points
        towards /= np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-9)
        facing = (towards * normals).sum(1).clip(0, 1)
        weight = smooth_step(*FACING, facing) * facing**SHARPNESS * (z <= seen + HIDDEN)
        weight = photo.trust * weight * _sampled(photo.inner, x, y, cv2.INTER_LINEAR)
        colors += weight[:, None] * _sampled(photo.colors, x, y, cv2.INTER_LINEAR)
        weights += weight
    return colors, weights


def _sampled(plane: FloatArray, x: FloatArray, y: FloatArray, how: int) -> FloatArray:
    """Values [n, ...] of a plane at places in pixels, 0 outside. OpenCV maps no more than 32,767
    places along one axis, so they are folded."""
    count = len(x)
    rows = -(-count // 4096)
    folded = np.full((2, rows * 4096), -10.0, np.float32)
    folded[:, :count] = x, y
    across, down = folded.reshape(2, rows, 4096)
    values = cv2.remap(plane, across, down, how, borderMode=cv2.BORDER_CONSTANT)
    found: FloatArray = values.reshape(rows * 4096, *plane.shape[2:])[:count]
    return found


def painted(mesh: ColoredMesh, photos: Sequence[Projector]) -> tuple[ColoredMesh, FloatArray]:
    """The surface with the photos' colours at its vertices, and how far each is known, float32 [V],
    0..1."""
    colors, weights = thrown_onto(mesh.vertices, normals_of(mesh), photos)
    mixed = (colors + FLOOR * mesh.colors) / (weights + FLOOR)[:, None]
    known: FloatArray = (weights / (weights + FLOOR)).astype(np.float32)
    return replace(mesh, colors=mixed.clip(0, 1).astype(np.float32)), known


def repainted(
    views: ViewSet, mesh: ColoredMesh, photos: Sequence[Projector], control: Control
) -> ViewSet:
    """Views of the surface in the photos' own detail, pixel by pixel.

    Args:
        views: drawn of `mesh`, with their depth.
    """
    assert views.surface_depth is not None, "drawn of a surface"
    normals, images = normals_of(mesh), views.images.copy()
    for view in range(len(views)):
        camera = views.cameras.select([view])
        drawn = rasterize_mesh(mesh.vertices, mesh.faces, normals, camera, supersample=1)
        depth = views.surface_depth[view]
        known = depth > 0
        rays = pixel_rays(camera, 0, np.float32)
        points = to_world(camera, 0, (rays * depth[..., None])[known])
        turned = drawn.attributes[0][known]
        turned /= np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-6)
        colors, weights = thrown_onto(points, turned, photos)
        images[view] = _mixed(images[view], views.alphas[view], known, colors, weights)
        control.step((view + 1) / len(views), f"view {view + 1}")
    return replace(views, images=images)


def _mixed(
    image: UInt8Array,
    alpha: UInt8Array,
    known: npt.NDArray[np.bool_],
    colors: FloatArray,
    weights: FloatArray,
) -> UInt8Array:
    """A picture on white with the photos' colours mixed into those of the object."""
    covered = (alpha / np.float32(255))[..., None]
    own = (image / np.float32(255) - (1 - covered)) / np.maximum(covered, 1e-3)
    mixed = own.astype(np.float32).clip(0, 1)
    mixed[known] = (colors + FLOOR * mixed[known]) / (weights + FLOOR)[:, None]
    if known.any():
        # Pixels that are covered in part have the colours of the nearest ones that are known.
        mixed = np.where(known[..., None], mixed, nearest_known(mixed, known))
    whole: UInt8Array = to_bytes(255 * (mixed * covered + 1 - covered))
    return whole
