"""The closed surface of a splat model of one part: one component, watertight, positive volume.

It looks at the model from all around, fuses median depths into a volume and walks its zero level.
It does not know colours, and it asks for a model that fills the unit sphere (`pipeline.mesh.build`
sees to that).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
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
from pipeline.mesh.simplify import faces_of, is_closed, simplify_carefully, simplify_surface
from pipeline.mesh.volume import SurfaceViews, VoxelGrid, carve_hull, fuse_depth
from pipeline.splats.render import render_model
from pipeline.types import Cameras, FloatArray, SplatModel

#: More views do not help (64 were no better), fewer leave concavities unseen.
_VIEWS = 32

#: Distance from the centre to the outermost voxels, for an object of radius 1.
_HALF = 1.05

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
_Numbers = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Sampling:
    """How finely an object is looked at.

    Attributes:
        voxels: along each axis of the volume.
        view_size: pixels along each side of a view.
    """

    voxels: int = 128
    view_size: int = 256

    @classmethod
    def of_part(cls, share: float) -> Sampling:
        """For a part whose radius is `share` of the whole object's, 0..1: half as fine again as
        the whole would be sampled, but not finer than an object of its own, and not so coarse that
        its walls vanish."""
        voxels = int(np.clip(8 * np.round(1.5 * 128 * share / 8), 64, 128))
        return cls(voxels, 2 * voxels)

    @property
    def grid(self) -> VoxelGrid:
        return VoxelGrid(self.voxels, _HALF)


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

#: A share of the solid from this on is a part of its own where it stands apart in two densities: a
#: see-through cloud falls into other pieces, or none, once it is denser.
_PART = 0.02


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


class FellApart(Exception):
    """The splats are of several solids, though they lie close to each other.

    Attributes:
        of_splat: int64 [N], the number of the solid next to each splat, from 0 on.
        shares: of all their surface, about, the largest solid first; together 1.
    """

    def __init__(self, of_splat: npt.NDArray[np.int64], shares: tuple[float, ...]) -> None:
        super().__init__(f"{len(shares)} solids")
        self.of_splat, self.shares = of_splat, shares


def extract_surface(
    model: SplatModel,
    face_limit: int,
    control: Control,
    sampling: Sampling | None = None,
    *,
    may_fall_apart: bool = False,
) -> Surface:
    """The surface of a model that fills the unit sphere around the origin.

    Tries denser, then larger splats while the surface is not closed, falls apart or does not have
    the model's outline; at worst it is the visual hull, which has no hollows.

    Args:
        face_limit: most faces; exceeded, with a note, only where so few cannot show its handles.
        sampling: how finely to look; as an object of its own by default.
        may_fall_apart: the caller knows what to do with several solids. If not, the largest is
            the surface.

    Raises:
        FellApart: there are several.
        InvalidInput: nothing of the model is opaque enough to have a surface.
        Cancelled: a stop was asked for.
    """
    sampling = sampling or Sampling()
    control.step(0.0, "surface")
    outlines = _outlines(_render_views(model, sampling, control))
    standing_apart = 1
    for number, attempt in enumerate(_ATTEMPTS):
        control.step(0.1 + 0.2 * number, "surface")
        views = _render_views(_denser(model, attempt), sampling, control)
        control.step(0.2 + 0.2 * number, "volume")
        volume = fuse_depth(views, sampling.grid, _TRUNCATION)
        if may_fall_apart and number < 2:
            pieces, large = _pieces(volume)
            if number == 1 and len(large) == standing_apart > 1:
                raise _fell_apart(model, sampling.grid, pieces, large)
            standing_apart = len(large)
            if number == 0 and standing_apart > 1:
                continue  # what the denser attempt says decides
        for smoothing in _SMOOTHINGS:
            control.check()
            level = _zero_level(volume, sampling.grid, smoothing)
            if level is None or _agreement(level.mesh, views.cameras, outlines) < _MIN_AGREEMENT:
                break  # smoother would not be more alike
            simple = simplify_surface(level.mesh, face_limit, control)
            if simple is not None:
                denser = () if number == 0 else (_DENSER_NOTE.format(number + 1, attempt),)
                return _finish(level, simple, denser)
    control.step(0.9, "visual hull")
    hull, grid = carve_hull(views, sampling.grid), sampling.grid
    level = _zero_level(hull, grid, _SMOOTHINGS[-1]) or _zero_level(hull, grid, _SMOOTHINGS[0])
    if level is None:
        raise InvalidInput("The model has no surface: nothing in it is opaque from all around.")
    simple = simplify_surface(level.mesh, face_limit, control)
    if simple is None:
        simple = simplify_carefully(level.mesh, face_limit, control)
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


def _render_views(model: SplatModel, sampling: Sampling, control: Control) -> SurfaceViews:
    cameras = surround_cameras(_VIEWS, size=sampling.view_size, radius=CAMERA_RADIUS)
    alphas, depths = [], []
    for start in range(0, _VIEWS, 8):
        control.check()
        part = cameras.select(list(range(start, start + 8)))
        # A surface must not open where thin discs are seen at a slant: as viewers draw them.
        drawn = render_model(model, part, with_depth=True, plain=True)
        assert drawn.median_depth is not None, "asked for"
        alphas.append(drawn.alphas)
        depths.append(drawn.median_depth)
    return SurfaceViews(cameras, np.concatenate(alphas), np.concatenate(depths))


@dataclass(frozen=True)
class _Level:
    """A closed zero level, and which share of the solid was left out of it."""

    mesh: TriangleMesh
    left_out: float


def _zero_level(volume: FloatArray, grid: VoxelGrid, smoothing: float) -> _Level | None:
    """The zero level of a volume, or None where there is none or it is not closed."""
    solid, left_out = _solidify(volume)
    if solid is None:
        return None
    smooth = ndimage.gaussian_filter(solid, smoothing)
    if not smooth.min() < 0 < smooth.max():
        return None
    vertices, faces, _, _ = measure.marching_cubes(-smooth, 0.0)
    mesh = trimesh.Trimesh(vertices * grid.voxel - grid.half, faces, process=False)
    mesh = max(mesh.split(only_watertight=False), key=lambda part: len(part.faces), default=mesh)
    if mesh.volume < 0:
        mesh.invert()
    # Taubin 1995 (lambda | mu): smooths without the shrinking of a plain Laplacian.
    trimesh.smoothing.filter_taubin(mesh, lamb=0.5, nu=0.53, iterations=10)
    if not is_closed(mesh):
        return None
    return _Level(TriangleMesh(mesh.vertices.astype(np.float32), faces_of(mesh)), left_out)


def _solidify(volume: FloatArray) -> tuple[FloatArray | None, float]:
    """The volume with one solid without hollows, and which share of all that is solid was dropped.

    What cannot be reached from outside is inside: cavities that no view could look into.
    """
    volume = volume.copy()
    for axis in range(3):  # closed at the border of the grid
        edge = np.moveaxis(volume, axis, 0)
        edge[0] = edge[-1] = 1.0
    parts, sizes = _solids(volume)
    if not sizes.any():
        return None, 0.0
    volume[(volume > 0) & (parts > 0)] = -1.0
    kept = int(sizes.argmax())
    volume[(parts > 0) & (parts != kept)] = 1.0
    return volume, 1 - float(sizes[kept] / sizes.sum())


def _solids(volume: FloatArray) -> tuple[_Numbers, _Numbers]:
    """The number of the solid that each voxel of a volume belongs to, 0 where it is free, and how
    many voxels each has, by its number."""
    free, _ = ndimage.label(volume > 0)
    parts, _ = ndimage.label(free != free[0, 0, 0])
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts, sizes


def _pieces(volume: FloatArray) -> tuple[_Numbers, _Numbers]:
    """The solids of a volume and the numbers of the large ones, the largest first."""
    parts, sizes = _solids(volume)
    order = np.argsort(-sizes, kind="stable")
    return parts, order[sizes[order] >= max(_PART * sizes.sum(), 1)]


def _fell_apart(
    model: SplatModel,
    grid: VoxelGrid,
    pieces: _Numbers,
    large: _Numbers,
) -> FellApart:
    number = np.full(int(pieces.max()) + 1, -1, np.int64)
    number[large] = np.arange(len(large))
    mine = number[pieces]
    nearest = ndimage.distance_transform_edt(mine < 0, return_distances=False, return_indices=True)
    place = np.round((model.means - grid.origin) / grid.voxel).astype(np.int64)
    at = tuple(np.clip(place, 0, grid.size - 1).T)
    of_splat = mine[tuple(axis[at] for axis in nearest)]
    areas = np.bincount(pieces.ravel())[large] ** (2 / 3)
    return FellApart(of_splat, tuple((areas / areas.sum()).tolist()))


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
