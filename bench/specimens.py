"""Objects made in code with known truth, and models of them, good ones and spoiled ones.

It does not know how a model is judged. Sixty objects are those that nothing is trained on; thirty
others come from the families of the learned prior, by seeds that its training only looks at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.control import UNATTENDED
from pipeline.engines.registry import EngineChoice
from pipeline.engines.views.surface_views import render_views
from pipeline.flow.local import LocalPorts, build_ports
from pipeline.geometry.cameras import orbit_cameras, rig_cameras
from pipeline.imaging.framing import GIVEN_ALPHA, frame_object
from pipeline.imaging.rounding import to_bytes
from pipeline.mesh.mesh_raster import rasterize_mesh
from pipeline.requests import ViewRequest
from pipeline.types import Cameras, Cutout, DepthMaps, UInt8Array, ViewSet
from training.prior.kept_back.fixed_set import (
    OTHER_VIEWS,
    RADIUS,
    VIEW_SIDE,
    kept_back,
    names,
    shape_of,
    studio_of,
)
from training.prior.recipe import FIRST_CHECK_SEED
from training.prior.scene import Scene, make_scene, photograph
from training.prior.solids import Points
from training.prior.surfaces import card

ENGINES = ("prior", "relief", "card")

#: How many objects the rule is fitted to, and how many others check it.
FITTED, CHECKED = 60, 30

_PHOTO_SIDE = 512
#: Objects that spoiled views show instead, and where they are kept.
_FOREIGN, _FOREIGN_CACHE = (3, 7, 12), Path("out/kept-back")
#: Views of the rig that show the side away from the photo.
_BACK = range(4, 13)


@dataclass(frozen=True)
class Specimen:
    """An object: what is known of it, its cut-out, and eight views from elsewhere."""

    name: str
    cutout: Cutout
    truth: ViewSet


def specimen(name: str, cache_folder: Path) -> Specimen:
    """One of `fitted_names` or `checked_names`."""
    if name.startswith("made "):
        return _made(name)
    thing = kept_back(name, cache_folder)
    return Specimen(name, thing.cutout, thing.truth)


def fitted_names() -> list[str]:
    return names()[:FITTED]


def checked_names() -> list[str]:
    return [f"made {number}" for number in range(CHECKED)]


def _made(name: str) -> Specimen:
    scene = _scene(name)
    view = scene.viewpoint
    photo = photograph(scene, view.rotation, view.eye, view.focal, _PHOTO_SIDE)
    pixels = to_bytes(255 * photo)
    cutout = frame_object(pixels[..., :3], pixels[..., 3], engine=GIVEN_ALPHA)
    cameras = orbit_cameras(
        [v[0] for v in OTHER_VIEWS], [v[1] for v in OTHER_VIEWS], size=VIEW_SIDE
    )
    return Specimen(name, cutout, _seen_from(scene, cameras))


def _scene(name: str) -> Scene:
    return make_scene(FIRST_CHECK_SEED + int(name.removeprefix("made ")))


def true_views(name: str, cameras: Cameras) -> ViewSet:
    """What an object looks like from cameras in the frame of its truth."""
    if name.startswith("made "):
        return _seen_from(_scene(name), cameras)
    colors, covered = studio_of(name).draw(cameras)
    on_white = colors * covered[..., None] + 1 - covered[..., None]
    views = ViewSet(to_bytes(255 * on_white), to_bytes(255 * covered), cameras, "true")
    solid = shape_of(name).solid
    corners = solid.box
    centred = solid.shifted(*(-0.5 * (corners[0] + corners[1])))
    scale = RADIUS / float(np.linalg.norm(centred.vertices, axis=1).max())
    return _with_depth(views, centred.scaled(scale).vertices, solid.faces)


def _with_depth(views: ViewSet, vertices: Points, faces: npt.NDArray[np.int32]) -> ViewSet:
    """The views and the true depth of their surface."""
    points = vertices.astype(np.float32)
    drawn = rasterize_mesh(points, faces.astype(np.int32), points, views.cameras)
    forward = views.cameras.viewmats[:, 2, :3]
    depth = np.einsum("vhwc,vc->vhw", drawn.attributes, forward)
    depth += views.cameras.viewmats[:, 2, 3][:, None, None]
    known = (drawn.coverage > 0.5) & (views.alphas > 127)
    return replace(views, surface_depth=np.where(known, depth, 0).astype(np.float32))


def _seen_from(scene: Scene, cameras: Cameras) -> ViewSet:
    """From cameras that look at the object as large as a kept-back one is."""
    vertices = scene.mesh.vertices.astype(np.float64)
    middle = (vertices.max(0) + vertices.min(0)) / 2
    size = RADIUS / float(np.linalg.norm(vertices - middle, axis=1).max())
    drawn = []
    for viewmat, centre in zip(cameras.viewmats, cameras.centres, strict=True):
        focal = float(cameras.intrinsics[0, 0, 0]) / cameras.width
        rotation, eye = viewmat[:3, :3].astype(np.float64), middle + centre / size
        drawn.append(photograph(scene, rotation, eye, focal, cameras.width))
    seen = np.stack(drawn)
    on_white = seen[..., :3] * seen[..., 3:] + 1 - seen[..., 3:]
    views = ViewSet(to_bytes(255 * on_white), to_bytes(255 * seen[..., 3]), cameras, "true")
    return _with_depth(views, (vertices - middle) * size, scene.mesh.faces)


# Views, as engines make them and as they should not be.


@cache
def ports_of(engine: str) -> LocalPorts:
    """One core, so that several of these can run beside each other."""
    views = "relief" if engine == "card" else engine
    return build_ports(EngineChoice(views=views, enhancer="unsharp", threads=1))


def views_of(cutout: Cutout, engine: str, seed: int = 0) -> ViewSet:
    """What an engine of `ENGINES` makes of a cut-out."""
    if engine == "card":
        # Its views are as flat as it is.
        return render_views(card(cutout).mesh, rig_cameras(), "card", UNATTENDED)
    port = ports_of(engine).views
    assert port is not None
    return port.engine.synthesize(ViewRequest(cutout, None, seed), UNATTENDED)


Spoil = Callable[[ViewSet, ViewSet, np.random.Generator], ViewSet]


def blurred(views: ViewSet, other: ViewSet, rng: np.random.Generator) -> ViewSet:
    """Without detail."""
    sigma = rng.uniform(2, 6)
    return replace(
        views, images=np.stack([cv2.GaussianBlur(i, (0, 0), sigma) for i in views.images])
    )


def shifted(views: ViewSet, other: ViewSet, rng: np.random.Generator) -> ViewSet:
    """Each view moved on its own, as an engine does that is not sure where the object is."""
    most = rng.uniform(4, 14)
    moves = rng.uniform(-most, most, (len(views), 2)).round().astype(int)

    def moved(planes: np.ndarray, empty: float) -> np.ndarray:
        out = np.full_like(planes, empty)
        for plane, result, (down, right) in zip(planes, out, moves, strict=True):
            shift = np.float32([[1, 0, right], [0, 1, down]])
            size = (plane.shape[1], plane.shape[0])
            result[:] = cv2.warpAffine(
                plane, shift, size, flags=cv2.INTER_NEAREST, borderValue=(empty,) * 3
            )
        return out

    depth = views.surface_depth
    return replace(
        views,
        images=moved(views.images, 255),
        alphas=moved(views.alphas, 0),
        surface_depth=None if depth is None else moved(depth, 0),
        surface_confidence=None,
        auxiliary=None,
    )


def wrong(views: ViewSet, other: ViewSet, rng: np.random.Generator) -> ViewSet:
    """Some views show another object."""
    count = int(rng.integers(2, 7))
    return _mixed(views, other, [int(v) for v in rng.choice(len(views), count, replace=False)])


def foreign_back(views: ViewSet, other: ViewSet, rng: np.random.Generator) -> ViewSet:
    """Everything behind is of another object."""
    return _mixed(views, other, list(_BACK))


def recoloured_back(views: ViewSet, other: ViewSet, rng: np.random.Generator) -> ViewSet:
    """The back has the right shape and colours that no photo showed."""
    images = views.images.copy()
    tint = rng.uniform(0.2, 1.0, 3)
    order = rng.permutation(3)
    for v in _BACK:
        alpha = views.alphas[v, ..., None] / 255
        color = views.images[v] / 255 - (1 - alpha)
        images[v] = np.round(255 * (color[..., order] * tint + 1 - alpha).clip(0, 1))
    return replace(views, images=images, auxiliary=None)


def _mixed(views: ViewSet, other: ViewSet, which: list[int]) -> ViewSet:
    images, alphas = views.images.copy(), views.alphas.copy()
    images[which], alphas[which] = other.images[which], other.alphas[which]
    depth = views.surface_depth
    if depth is not None and other.surface_depth is not None:
        depth = depth.copy()
        depth[which] = other.surface_depth[which]
    return replace(views, images=images, alphas=alphas, surface_depth=depth, auxiliary=None)


SPOILS: dict[str, Spoil] = {
    "blurred": blurred,
    "shifted": shifted,
    "wrong": wrong,
    "foreign back": foreign_back,
    "recoloured back": recoloured_back,
}


def several_photos(name: str, sides: int) -> ViewSet:
    """True views and photos of two or four sides: what is known of an object that was seen. With
    two of them the flanks are flat guesses: mixtures of their neighbours."""
    views = true_views(name, rig_cameras())
    azimuths = [0.0, 180.0] if sides == 2 else [0.0, 90.0, 180.0, 270.0]
    photos = true_views(name, orbit_cameras(azimuths, [20.0] * sides))
    if sides == 2:
        images, alphas = views.images.copy(), views.alphas.copy()
        for flank in (4, 12):
            for k, share in ((-1, 0.25), (0, 0.5), (1, 0.75)):
                near, far = flank - 2, (flank + 2) % 16
                for plane, whole in ((images, views.images), (alphas, views.alphas)):
                    mixed = (1 - share) * whole[near].astype(float) + share * whole[far]
                    plane[flank + k] = np.round(mixed)
        views = replace(views, images=images, alphas=alphas)
    return replace(views, photos=photos)


#: Of so many objects, the first ones, both models are of one photo.
ONE_PHOTO_FITTED, ONE_PHOTO_CHECKED = 24, 12


def cases_of(index: int, one_photo: bool) -> list[tuple[str, str]]:
    """Engine and spoil ("" is none) of the two models of an object.

    Args:
        one_photo: one as it should be, and one spoiled or a card. Otherwise one of these two, and
            one that was seen from two or four sides.
    """
    flaws = [*SPOILS, "card"]
    flaw = flaws[index // (2 if one_photo else 4) % len(flaws)]
    engine = ("prior", "relief")[(index if one_photo else index // 4) % 2]
    clean, worse = (engine, ""), ("card", "") if flaw == "card" else (engine, flaw)
    if one_photo:
        return [clean, worse]
    return [(clean, worse)[index // 2 % 2], ("true", ("4 photos", "2 photos")[index % 2])]


def views_of_case(thing: Specimen, engine: str, flaw: str, index: int) -> ViewSet:
    """The views of one of `cases_of`."""
    if engine == "true":
        return several_photos(thing.name, int(flaw[0]))
    views = views_of(thing.cutout, engine)
    if not flaw:
        return views
    return SPOILS[flaw](views, foreign_views(index), np.random.default_rng([index, len(flaw)]))


@cache
def foreign_views(index: int) -> ViewSet:
    """Of another object."""
    name = fitted_names()[_FOREIGN[index // 2 % len(_FOREIGN)]]
    return views_of(specimen(name, _FOREIGN_CACHE).cutout, "relief")


def depths_of(views: ViewSet) -> DepthMaps:
    """Of the surface that the views' engine knows; unknown where it knows none."""
    if views.surface_depth is None:
        unknown = np.zeros(views.alphas.shape, np.float32)
        return DepthMaps(unknown, unknown, "none")
    port = ports_of("relief").depth
    assert port is not None
    return port.engine.estimate_many([views], UNATTENDED)[0]


def pictures(one: Specimen) -> list[UInt8Array]:
    """For a contact sheet: the cut-out and the true views."""
    return [one.cutout.rgba, *one.truth.images]
