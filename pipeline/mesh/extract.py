"""The closed surface of a splat model: one component, watertight, with a positive volume.

It looks at the model from all around, fuses median depths into a volume and walks its zero level.
It does not know colours, and it asks for a model that fills the unit sphere (`pipeline.mesh.build`
sees to that).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import fast_simplification
import numpy as np
import numpy.typing as npt
import trimesh
from scipy import ndimage, special
from skimage import measure

from pipeline.control import Control
from pipeline.errors import InvalidInput
from pipeline.geometry.cameras import surround_cameras
from pipeline.geometry.neighbours import neighbour_distance
from pipeline.geometry.unit_frame import CAMERA_RADIUS
from pipeline.mesh.mesh_raster import rasterize_mesh
from pipeline.mesh.mesh_types import TriangleMesh
from pipeline.mesh.volume import SurfaceViews, VoxelGrid, carve_hull, fuse_depth
from pipeline.splats.render import render_model
from pipeline.types import Cameras, FloatArray, SplatModel

#: More views do not help (64 were no better), fewer leave concavities unseen.
_VIEWS, _VIEW_SIZE = 32, 256

_GRID = VoxelGrid(size=128, half=1.05)

#: Not less than .065 for an object of radius 1, whatever the voxel: a truncation that shrinks
#: with the voxel lets the back of a thin wall carve its front.
_TRUNCATION = 0.066

#: Standard deviations in voxels of the smoothing before the zero level is walked. The second is for
#: surfaces so riddled with holes and bridges that they cannot be simplified without tearing.
_SMOOTHINGS = (0.7, 1.7)

#: A surface whose silhouettes agree less than this with those of the model (intersection over
#: union, mean over views) is tried again. Good ones reach .9 to .98; one that fell apart, .5.
_MIN_AGREEMENT = 0.85


Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Attempt:
    """Splats are made denser for the geometry only: what is half transparent is still a wall.

    Attributes:
        boost: opacity o becomes 1 - (1 - o)^boost, as if so many splats lay on each other.
        growth: factor on the scales.
        reach: scales are at least this share of the distance to the neighbours, so that a thin
            cloud becomes a wall.
    """

    boost: float
    growth: float = 1.0
    reach: float = 0.0

    def __str__(self) -> str:
        grown = f" and larger (x{self.growth:g})" if self.growth > 1 else ""
        filled = ", each as large as the gap to its neighbours" if self.reach else ""
        return f"made denser (x{self.boost:g}){grown}{filled}"


#: In order; the visual hull comes after them.
_ATTEMPTS = (
    _Attempt(3.0),
    _Attempt(6.0),
    _Attempt(6.0, growth=1.2),
    _Attempt(6.0, growth=1.2, reach=0.7),
)

_DENSER_NOTE = "The surface closed at attempt {}, with splats {}."
_HULL_NOTE = (
    "The splats do not form a closed surface; the mesh is their visual hull, which has no hollows."
)

#: A share of the solid below this is dust that nobody misses.
_DUST = 0.001


@dataclass(frozen=True)
class Surface:
    """A closed surface and how it was found.

    Attributes:
        full_faces: how many faces it had before it was simplified.
        notes: sentences for the user; empty when the first attempt did.
    """

    mesh: TriangleMesh
    full_faces: int
    notes: tuple[str, ...]


def extract_surface(model: SplatModel, face_limit: int, control: Control) -> Surface:
    """The surface of a model that fills the unit sphere around the origin.

    Tries denser, then larger splats while the surface is not closed, falls apart or does not have
    the model's outline; at worst it is the visual hull, which has no hollows.

    Args:
        face_limit: most faces; exceeded, with a note, only where the surface would tear.

    Raises:
        InvalidInput: nothing of the model is opaque enough to have a surface.
        Cancelled: a stop was asked for.
    """
    control.step(0.0, "surface")
    outlines = _outlines(_render_views(model, control))
    for number, attempt in enumerate(_ATTEMPTS):
        control.step(0.1 + 0.2 * number, "surface")
        views = _render_views(_denser(model, attempt), control)
        control.step(0.2 + 0.2 * number, "volume")
        volume = fuse_depth(views, _GRID, _TRUNCATION)
        for smoothing in _SMOOTHINGS:
            control.check()
            level = _zero_level(volume, smoothing)
            if level is None or _agreement(level.mesh, views.cameras, outlines) < _MIN_AGREEMENT:
                break  # smoother would not be more alike
            simple = simplify_surface(level.mesh, face_limit, control)
            if simple is not None:
                denser = () if number == 0 else (_DENSER_NOTE.format(number + 1, attempt),)
                return _finish(level, simple, denser)
    control.step(0.9, "visual hull")
    hull = carve_hull(views, _GRID)
    level = _zero_level(hull, _SMOOTHINGS[-1]) or _zero_level(hull, _SMOOTHINGS[0])
    if level is None:
        raise InvalidInput("The model has no surface: nothing in it is opaque from all around.")
    simple = simplify_surface(level.mesh, face_limit, control)
    how: tuple[str, ...] = (_HULL_NOTE,)
    if simple is None:
        simple = level.mesh
        how += (f"It would tear with {face_limit:,} faces and has {len(simple.faces):,} instead.",)
    return _finish(level, simple, how)


def _finish(level: _Level, simple: TriangleMesh, how: tuple[str, ...]) -> Surface:
    if level.left_out > _DUST:
        how += (
            f"{level.left_out:.1%} of the solid is not connected to the rest and was left out.",
        )
    return Surface(simple, len(level.mesh.faces), how)


def _denser(model: SplatModel, attempt: _Attempt) -> SplatModel:
    """The model of the geometry pass; colours are left out."""
    # 1 - (1 - o)^k in logits, exact where o is close to 1: 1 - o = expit(-logit).
    log_transparency = attempt.boost * special.log_expit(-model.logit_opacities.astype(np.float64))
    opaque = -np.expm1(log_transparency)
    logits = np.log(np.maximum(opaque, 1e-30)) - log_transparency
    log_scales = model.log_scales + np.float32(np.log(attempt.growth))
    if attempt.reach:
        gap = neighbour_distance(model.means)
        # A stray splat has a large gap around it and must not become a ball.
        gap = np.log(attempt.reach * np.clip(gap, 1e-6, 2 * np.median(gap) + 1e-6))
        # The flat side of a disc stays flat: axes of less than half the longest do not grow.
        flat = log_scales < log_scales.max(axis=1, keepdims=True) - np.log(2)
        log_scales = np.where(flat, log_scales, np.maximum(log_scales, gap[:, None]))
    return replace(
        model,
        log_scales=log_scales.astype(np.float32),
        logit_opacities=np.clip(logits, -60, 60).astype(np.float32),
        sh=np.zeros((len(model), 1, 3), np.float32),
    )


def _render_views(model: SplatModel, control: Control) -> SurfaceViews:
    cameras = surround_cameras(_VIEWS, size=_VIEW_SIZE, radius=CAMERA_RADIUS)
    alphas, depths = [], []
    for start in range(0, _VIEWS, 8):
        control.check()
        part = cameras.select(list(range(start, start + 8)))
        drawn = render_model(model, part, with_depth=True)
        assert drawn.median_depth is not None, "asked for"
        alphas.append(drawn.alphas)
        depths.append(drawn.median_depth)
    return SurfaceViews(cameras, np.concatenate(alphas), np.concatenate(depths))


@dataclass(frozen=True)
class _Level:
    """A closed zero level, and which share of the solid was left out of it."""

    mesh: TriangleMesh
    left_out: float


def _zero_level(volume: FloatArray, smoothing: float) -> _Level | None:
    """The zero level of a volume, or None where there is none or it is not closed."""
    solid, left_out = _solidify(volume)
    if solid is None:
        return None
    smooth = ndimage.gaussian_filter(solid, smoothing)
    if not smooth.min() < 0 < smooth.max():
        return None
    vertices, faces, _, _ = measure.marching_cubes(-smooth, 0.0)
    mesh = trimesh.Trimesh(vertices * _GRID.voxel - _GRID.half, faces, process=False)
    mesh = max(mesh.split(only_watertight=False), key=lambda part: len(part.faces), default=mesh)
    if mesh.volume < 0:
        mesh.invert()
    # Taubin 1995 (lambda | mu): smooths without the shrinking of a plain Laplacian.
    trimesh.smoothing.filter_taubin(mesh, lamb=0.5, nu=0.53, iterations=10)
    if not is_closed(mesh):
        return None
    return _Level(TriangleMesh(mesh.vertices.astype(np.float32), _faces_of(mesh)), left_out)


def _solidify(volume: FloatArray) -> tuple[FloatArray | None, float]:
    """The volume with one solid without hollows, and which share of all that is solid was dropped.

    What cannot be reached from outside is inside: cavities that no view could look into.
    """
    volume = volume.copy()
    for axis in range(3):  # closed at the border of the grid
        edge = np.moveaxis(volume, axis, 0)
        edge[0] = edge[-1] = 1.0
    free, _ = ndimage.label(volume > 0)
    outside = free == free[0, 0, 0]
    volume[(volume > 0) & ~outside] = -1.0
    parts, count = ndimage.label(~outside)
    if count == 0:
        return None, 0.0
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept = int(sizes.argmax())
    volume[(parts > 0) & (parts != kept)] = 1.0
    return volume, 1 - float(sizes[kept] / sizes.sum())


def is_closed(mesh: trimesh.Trimesh) -> bool:
    """One component, watertight, consistently wound, with a positive volume."""
    return bool(
        len(mesh.faces) > 0
        and mesh.is_watertight
        and mesh.is_winding_consistent
        and mesh.volume > 0
        and mesh.body_count == 1
    )


def _outlines(views: SurfaceViews) -> Mask:
    """Silhouettes [C, H, W] without the pinholes of a thin cloud."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    masks = (views.alphas >= 0.5).astype(np.uint8)
    return np.stack([cv2.morphologyEx(m, cv2.MORPH_CLOSE, disc) for m in masks]).astype(bool)


def _agreement(mesh: TriangleMesh, cameras: Cameras, outlines: Mask) -> float:
    """Intersection over union of the mesh's silhouettes with `outlines`, mean over views, 0..1."""
    some = list(range(0, len(cameras), 4))
    none = np.empty((len(mesh.vertices), 0), np.float32)
    drawn = rasterize_mesh(mesh.vertices, mesh.faces, none, cameras.select(some), supersample=1)
    ours, theirs = drawn.coverage > 0.5, outlines[some]
    union, overlap = (ours | theirs).sum(axis=(1, 2)), (ours & theirs).sum(axis=(1, 2))
    return float(np.mean(overlap / np.maximum(union, 1)))


def simplify_surface(mesh: TriangleMesh, face_limit: int, control: Control) -> TriangleMesh | None:
    """At most `face_limit` faces, still closed; None when no setting keeps it closed.

    Quadric error metrics (Garland and Heckbert 1997), slower and more careful until it holds.
    Raises Cancelled, between two settings: one takes .1 s for 100,000 faces.
    """
    if len(mesh.faces) <= face_limit:
        return mesh
    for aggressiveness in (7.0, 4.0, 2.0):
        control.check()
        vertices, faces = fast_simplification.simplify(
            mesh.vertices, mesh.faces, target_count=face_limit, agg=aggressiveness
        )
        simple = trimesh.Trimesh(vertices, faces, process=True)
        if len(simple.faces) <= face_limit and is_closed(simple):
            return TriangleMesh(np.asarray(simple.vertices, np.float32), _faces_of(simple))
    return None


def _faces_of(mesh: trimesh.Trimesh) -> npt.NDArray[np.int32]:
    return np.asarray(mesh.faces, np.int32)
