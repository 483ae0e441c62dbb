"""How much a thing made of one photo looks like the true object from elsewhere, at its best place.

It does not know how the thing was made or what the object is.

Where an object is and how large it is cannot be seen in one photo. So a thing is compared after
the similarity that suits it best: one scale and one shift in space for all views together, no
rotation. An object that is scaled and shifted looks as it does to a camera that is moved instead,
so nothing but the cameras is ever changed, and triangles and splats are measured alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.mesh.mesh_raster import rasterize_mesh
from pipeline.splats.render import render_model
from pipeline.splats.scores import LpipsLike, view_scores
from pipeline.types import Cameras, FloatArray, SplatModel, ViewSet

Numbers = npt.NDArray[np.float64]

#: Images float32 [V, H, W, 3] on white, 0..1, and coverage float32 [V, H, W], 0..1.
Drawn = tuple[FloatArray, FloatArray]

#: Sides of the pictures in which the similarity is sought, coarse to fine.
LEVELS = (32, 64, 128)
#: Steps of the search in each of them, at most.
STEPS = (5, 4, 2)
#: How much outlines count beside the three colours: white things on white have little else.
OUTLINE_WEIGHT = 0.5
#: A sketch of a thing for pictures of side n is made of triangles of 1 / (.7 n) of its size.
SKETCH_FINENESS = 0.7
SUPERSAMPLE = 3


@dataclass(frozen=True)
class Thing:
    """What is measured: how it is drawn, finely for the scores and quickly for the search."""

    draw: Callable[[Cameras], Drawn]
    sketch: Callable[[Cameras], Drawn]


@dataclass(frozen=True)
class Similarity:
    """A point x of the thing goes to `scale * x + shift`.

    Attributes:
        shift: float64 [3], world units.
    """

    scale: float
    shift: Numbers

    def seen_by(self, cameras: Cameras) -> Cameras:
        """Cameras that see the thing where it is as `cameras` see it where it goes."""
        viewmats = cameras.viewmats.astype(np.float64)
        offsets = viewmats[:, :3, :3] @ self.shift + viewmats[:, :3, 3]
        viewmats[:, :3, 3] = offsets / self.scale
        return replace(cameras, viewmats=viewmats.astype(np.float32))


@dataclass(frozen=True)
class Likeness:
    """Means over the views.

    Attributes:
        psnr: dB, on white.
        ssim: -1..1.
        iou: of the outlines, 0..1.
        lpips: None where the weights of the metric are not installed.
        similarity: the one it was measured after.
    """

    psnr: float
    ssim: float
    iou: float
    lpips: float | None
    similarity: Similarity


def mesh_thing(vertices: FloatArray, faces: npt.NDArray[np.int32], colors: FloatArray) -> Thing:
    """Triangles with a colour per vertex, drawn from both sides.

    Args:
        vertices: float32 [V, 3].
        faces: int32 [F, 3].
        colors: float32 [V, 3], 0..1.
    """
    rough = {size: _coarser(vertices, faces, colors, size * SKETCH_FINENESS) for size in LEVELS}

    def draw(cameras: Cameras) -> Drawn:
        drawn = rasterize_mesh(vertices, faces, colors, cameras, supersample=SUPERSAMPLE)
        return _on_white(drawn.attributes, drawn.coverage)

    def sketch(cameras: Cameras) -> Drawn:
        drawn = rasterize_mesh(*rough[cameras.width], cameras, supersample=2)
        return _on_white(drawn.attributes, drawn.coverage)

    return Thing(draw, sketch)


def splat_thing(model: SplatModel) -> Thing:
    """A splat model, drawn by the product."""

    def draw(cameras: Cameras) -> Drawn:
        drawn = render_model(model, cameras)
        return drawn.images, drawn.alphas

    return Thing(draw, draw)


def likeness(thing: Thing, truth: ViewSet, lpips: LpipsLike | None = None) -> Likeness:
    """Scores against true views after the best similarity.

    Args:
        truth: views on white from cameras of one size.
    """
    similarity = best_similarity(thing, truth)
    images, alphas = thing.draw(similarity.seen_by(truth.cameras))
    wanted = (truth.images / 255).astype(np.float32)
    scores = view_scores(images, wanted, lpips=lpips, rendered_alphas=alphas, alphas=truth.alphas)
    distances = [score.lpips for score in scores if score.lpips is not None]
    overlaps = [score.silhouette_iou for score in scores if score.silhouette_iou is not None]
    return Likeness(
        psnr=float(np.mean([score.psnr for score in scores])),
        ssim=float(np.mean([score.ssim for score in scores])),
        iou=float(np.mean(overlaps)),
        lpips=float(np.mean(distances)) if distances else None,
        similarity=similarity,
    )


def best_similarity(thing: Thing, truth: ViewSet) -> Similarity:
    """The scale and shift after which the thing looks most like the truth.

    Damped least squares on blurred pictures, from coarse to fine, from where the thing is, and
    from where its outlines have the middles and the areas of the true ones.
    """
    coarse, *finer = (_Level(thing, truth, size) for size in LEVELS)
    middle = _by_outlines(thing, truth)
    # A wrong thing may lie best at another size than that of its outlines.
    starts = [np.zeros(4), middle] + [
        middle + np.array([change, 0, 0, 0]) for change in (-0.2, 0.2)
    ]
    starts.sort(key=coarse.error)
    place = min((_descended(coarse, start, STEPS[0]) for start in starts[:2]), key=coarse.error)
    for level, steps in zip(finer, STEPS[1:], strict=True):
        place = _descended(level, place, steps)
    return _similarity(place)


def _similarity(place: Numbers) -> Similarity:
    """Of (logarithm of the scale, shift)."""
    return Similarity(float(np.exp(place[0])), place[1:])


class _Level:
    """The pictures at one size, and how far the thing is from them."""

    def __init__(self, thing: Thing, truth: ViewSet, size: int) -> None:
        self._thing = thing
        self._cameras = sized(truth.cameras, size)
        images = np.stack([_shrunk(image, size) for image in truth.images])
        alphas = np.stack([_shrunk(alpha, size) for alpha in truth.alphas])
        self._wanted = _blurred(images, alphas)
        #: Of place: half a pixel at the middle of the pictures, and as much at an object's rim.
        depth = float(np.linalg.norm(truth.cameras.centres, axis=1).mean())
        pixel = 0.5 * depth / float(self._cameras.intrinsics[0, 0, 0])
        self.probe = np.array([2.5 * pixel, pixel, pixel, pixel])

    def residuals(self, place: Numbers) -> Numbers:
        drawn = self._thing.sketch(_similarity(place).seen_by(self._cameras))
        return _blurred(*drawn) - self._wanted

    def error(self, place: Numbers) -> float:
        rest = self.residuals(place)
        return float(rest @ rest)


def _descended(level: _Level, place: Numbers, steps: int) -> Numbers:
    """Levenberg and Marquardt with differences of the size of half a pixel."""
    rest = level.residuals(place)
    error, damping = float(rest @ rest), 1e-3
    for _ in range(steps):
        columns = []
        for axis in range(4):
            step = np.zeros(4)
            step[axis] = level.probe[axis]
            columns.append((level.residuals(place + step) - rest) / level.probe[axis])
        slopes = np.stack(columns, axis=1)
        normal, down = slopes.T @ slopes, slopes.T @ rest
        if not normal.any():
            return place
        while damping < 1e3:
            change = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), -down)
            # What is far outside of every picture has no slope to come back by.
            change = np.clip(change, -0.3, 0.3)
            tried = level.residuals(place + change)
            if float(tried @ tried) < error:
                break
            damping *= 10
        else:
            return place
        gained = error - float(tried @ tried)
        place, rest, error = place + change, tried, float(tried @ tried)
        damping = max(1e-4, damping / 10)
        if gained < 1e-4 * error or np.abs(change / level.probe).max() < 0.02:
            break
    return place


def _by_outlines(thing: Thing, truth: ViewSet) -> Numbers:
    """Where the middles of the thing's outlines are those of the true ones, and their areas."""
    cameras = sized(truth.cameras, LEVELS[0])
    wanted = np.stack([_shrunk(alpha, LEVELS[0]) for alpha in truth.alphas])
    focal = float(cameras.intrinsics[0, 0, 0])
    depths = np.linalg.norm(cameras.centres, axis=1)
    place = np.zeros(4)
    for _ in range(4):
        _, alphas = thing.sketch(_similarity(place).seen_by(cameras))
        areas, wanted_areas = alphas.sum((1, 2)), wanted.sum((1, 2))
        seen = (areas > 1) & (wanted_areas > 1)
        if not seen.any():
            break
        gap = (_middles(wanted) - _middles(alphas))[seen] * depths[seen, None] / focal
        across = cameras.viewmats[seen, :2, :3].astype(np.float64)
        shift = np.linalg.lstsq(across.reshape(-1, 3), gap.reshape(-1), rcond=None)[0]
        growth = 0.5 * np.log(wanted_areas[seen].sum() / areas[seen].sum())
        # Growing moves what lies off the origin; the next turn of the loop corrects that.
        place = place + np.array([growth, *np.clip(shift, -1, 1)])
    return place


def _middles(alphas: FloatArray) -> Numbers:
    """Centres of gravity [V, 2], column and row in pixels."""
    size = alphas.shape[-1]
    weights = alphas.sum((1, 2)).astype(np.float64) + 1e-9
    at = np.arange(size) + 0.5
    return np.stack([alphas.sum(1) @ at / weights, alphas.sum(2) @ at / weights], axis=1)


def _blurred(images: FloatArray, alphas: FloatArray) -> Numbers:
    """Colours and outlines as one vector; a pixel of blur makes differences of place smooth."""
    planes = np.concatenate([images, OUTLINE_WEIGHT**0.5 * alphas[..., None]], axis=-1)
    soft = [cv2.GaussianBlur(plane, (0, 0), 1.0) for plane in planes]
    return np.stack(soft).reshape(-1).astype(np.float64)


def _shrunk(picture: npt.NDArray[np.uint8], size: int) -> FloatArray:
    scaled = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(scaled / 255, np.float32)


def sized(cameras: Cameras, size: int) -> Cameras:
    """The same square cameras with pictures of another side."""
    intrinsics = cameras.intrinsics.copy()
    intrinsics[:, :2] *= size / cameras.width
    return Cameras(cameras.viewmats, intrinsics, size, size)


def _on_white(colors: FloatArray, coverage: FloatArray) -> Drawn:
    share = coverage[..., None]
    return np.asarray(np.clip(colors * share + 1 - share, 0, 1), np.float32), coverage


def _coarser(
    vertices: FloatArray, faces: npt.NDArray[np.int32], colors: FloatArray, cells: float
) -> tuple[FloatArray, npt.NDArray[np.int32], FloatArray]:
    """With all vertices of a cell of a grid as one, `cells` along the box; faces that vanish go."""
    low = vertices.min(0)
    cell = max(float((vertices.max(0) - low).max()) / cells, 1e-6)
    at = np.floor((vertices - low) / cell).astype(np.int64)
    keys = (at[:, 0] << 40) | (at[:, 1] << 20) | at[:, 2]
    _, member, count = np.unique(keys, return_inverse=True, return_counts=True)
    weights = 1 / count

    def mean(values: FloatArray) -> FloatArray:
        sums = [np.bincount(member, values[:, k], len(count)) for k in range(3)]
        return (np.stack(sums, axis=1) * weights[:, None]).astype(np.float32)

    kept = member[faces]
    a, b, c = kept.T
    kept = kept[(a != b) & (b != c) & (c != a)]
    corners = np.sort(kept, axis=1)
    code = (corners[:, 0] << 42) | (corners[:, 1] << 21) | corners[:, 2]
    kept = kept[np.unique(code, return_index=True)[1]]
    if not len(kept):
        return vertices, faces, colors
    return mean(vertices), kept.astype(np.int32), mean(colors)
