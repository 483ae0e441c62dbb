"""The sixty kept-back objects: which there are, their photos and other views, and a cache of them.

It does not know which engine is measured with them.

An object stands in the world as the product's frame has it: the photo's camera looks along the
azimuth 0, from the elevation of the photo, at the middle of what it sees.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

import pipeline
from pipeline.control import Control
from pipeline.engines.background.background_specs import U2NETP
from pipeline.engines.background.removers import U2Net
from pipeline.errors import InvalidImage
from pipeline.geometry.cameras import orbit_cameras
from pipeline.imaging.framing import GIVEN_ALPHA, OBJECT_SHARE, frame_object
from pipeline.imaging.rounding import to_bytes
from pipeline.splats.scores import silhouette_iou
from pipeline.types import Cutout, FloatArray, UInt8Array, ViewSet
from pipeline.weights.folders import find
from training.prior.kept_back import household, outdoors
from training.prior.kept_back.assembly import Assembly
from training.prior.kept_back.pictures import Light, Studio, Triangles, triangles
from training.prior.kept_back.telephone import Shot, photographed, some_light, some_shot

log = logging.getLogger(__name__)

#: Above every seed that anything is trained with.
FIRST_SEED = 2**41

#: Kinds in their order, and how many of each there are.
RECIPES: dict[str, tuple[Callable[[np.random.Generator], Assembly], int]] = {
    "teapot": (household.teapot, 3),
    "watering can": (household.watering_can, 3),
    "mug": (household.mug, 3),
    "desk lamp": (household.desk_lamp, 2),
    "cup on a saucer": (household.cup_on_saucer, 3),
    "books": (household.books, 3),
    "cake": (household.cake, 2),
    "toaster": (household.toaster, 2),
    "dice": (household.dice, 2),
    "egg cup": (household.egg_cup, 2),
    "camera": (household.camera, 3),
    "hammer": (household.hammer, 2),
    "dog": (outdoors.dog, 3),
    "person": (outdoors.person, 3),
    "cactus": (outdoors.cactus, 3),
    "boot": (outdoors.boot, 3),
    "handbag": (outdoors.handbag, 3),
    "pick-up truck": (outdoors.pickup_truck, 3),
    "aeroplane": (outdoors.aeroplane, 2),
    "kitchen chair": (outdoors.kitchen_chair, 2),
    "armchair": (outdoors.armchair, 2),
    "guitar": (outdoors.guitar, 2),
    "barrel": (outdoors.barrel, 2),
    "birdhouse": (outdoors.birdhouse, 2),
}

#: From how far above nobody would photograph them, degrees; the others from anywhere.
LOWEST_DEG = {"hammer": 25.0, "cup on a saucer": 12.0, "cake": 8.0, "books": 8.0}

#: A photo whose cut-out has less than this in common with the object is taken again elsewhere, as
#: anybody would who sees it; so often at most.
GOOD_MATTE, ATTEMPTS = 0.85, 4

#: Azimuth and elevation, degrees, of the views that are compared.
OTHER_VIEWS = ((45, 20), (90, 0), (135, 50), (180, 20), (225, 0), (270, 50), (315, 20), (20, 50))
VIEW_SIDE = 256
#: Of the sphere around the object: all of it is in every view from the rig's distance.
RADIUS = 0.57


@dataclass(frozen=True)
class KeptBack:
    """One object as it is measured with.

    Attributes:
        name: kind and number, such as "teapot 2".
        photo: uint8 [768, 768, 3].
        cutout: what the product's background remover and framing make of the photo.
        clean: the same with the true matte and no background shining through.
        truth: eight other views on white.
        elevation_deg: of the photo's camera, its axis through the middle of the frame.
        focal: in widths of the cut-out's frame.
    """

    name: str
    photo: UInt8Array
    cutout: Cutout
    clean: Cutout
    truth: ViewSet
    elevation_deg: float
    focal: float


def names() -> list[str]:
    """Of all sixty, in an order in which the first n are of many kinds."""
    counts = [(name, count) for name, (_, count) in RECIPES.items()]
    most = max(count for _, count in counts)
    return [f"{name} {k + 1}" for k in range(most) for name, count in counts if k < count]


def kept_back(name: str, folder: Path | None = None) -> KeptBack:
    """One of `names`, made or read from a folder of earlier ones.

    Args:
        folder: files, which are made anew when the code that makes them has changed.

    Raises:
        KeyError: there is no such object.
        Unavailable: the weights of the background remover are not installed.
    """
    if name not in names():
        raise KeyError(f"there is no kept-back object {name!r}")
    if folder is None:
        return _made(name)
    path = folder / f"{name.replace(' ', '-')}-{_digest()}.npz"
    if path.exists():
        return _read(name, path)
    made = _made(name)
    folder.mkdir(parents=True, exist_ok=True)
    _write(made, path)
    return made


def shape_of(name: str) -> Assembly:
    """The painted object alone, in its own frame and size."""
    return _assembled(name)[0]


def _assembled(name: str) -> tuple[Assembly, np.random.Generator]:
    kind, number = name.rsplit(" ", 1)
    seed = FIRST_SEED + 1000 * list(RECIPES).index(kind) + int(number)
    rng = np.random.default_rng(seed)
    return RECIPES[kind][0](rng), rng


def studio_of(name: str) -> Studio:
    """The object as it stands in the world, in its light: to be seen from anywhere."""
    thing, rng = _assembled(name)
    return Studio(_standing(thing), some_light(rng))


def _standing(thing: Assembly) -> Triangles:
    """Centred in the world, in its size there."""
    corners = thing.solid.box
    centred = thing.solid.shifted(*(-0.5 * (corners[0] + corners[1])))
    scale = RADIUS / float(np.linalg.norm(centred.vertices, axis=1).max())
    return triangles(Assembly(centred.scaled(scale), thing.paints))


def _made(name: str) -> KeptBack:
    thing, rng = _assembled(name)
    drawn = _standing(thing)
    light = some_light(rng)
    studio = Studio(drawn, light)
    shot = some_shot(rng, drawn.vertices, LOWEST_DEG.get(name.rsplit(" ", 1)[0], -90.0))
    colors, covered = studio.draw(shot.cameras)
    alpha = to_bytes(255 * covered[0])
    clean = frame_object(to_bytes(255 * colors[0]), alpha, engine=GIVEN_ALPHA)
    photo, cutout = _photo(name, rng, studio, drawn, light, shot, colors[0], covered[0], clean)
    cameras = orbit_cameras(
        [v[0] for v in OTHER_VIEWS], [v[1] for v in OTHER_VIEWS], size=VIEW_SIDE
    )
    views, covered = studio.draw(cameras)
    on_white = views * covered[..., None] + 1 - covered[..., None]
    truth = ViewSet(to_bytes(255 * on_white), to_bytes(255 * covered), cameras, "made")
    rows, columns = np.nonzero(alpha > 8)
    side = max(int(np.ptp(rows)), int(np.ptp(columns))) + 1
    focal = shot.focal * len(photo) / (side / OBJECT_SHARE)
    return KeptBack(name, photo, cutout, clean, truth, shot.elevation_deg, focal)


def _photo(
    name: str,
    rng: np.random.Generator,
    studio: Studio,
    thing: Triangles,
    light: Light,
    shot: Shot,
    colors: FloatArray,
    covered: FloatArray,
    clean: Cutout,
) -> tuple[UInt8Array, Cutout]:
    """The photo, and the cut-out that the product makes of it."""
    best: tuple[float, UInt8Array, Cutout] | None = None
    for _ in range(ATTEMPTS):
        photo = photographed(rng, studio, thing, light, shot, colors, covered)
        try:
            alpha = _remover().remove(photo, Control())
            cutout = frame_object(photo, alpha, engine=_remover().name)
            both = silhouette_iou(cutout.rgba[None, ..., 3] >= 128, clean.rgba[None, ..., 3] >= 128)
            found = float(both[0])
        except InvalidImage as error:
            log.warning("%s: %s", name, error)
            cutout, found = clean, 0.0
        if best is None or found > best[0]:
            best = found, photo, cutout
        if found >= GOOD_MATTE:
            break
    assert best is not None
    return best[1:]


@cache
def _remover() -> U2Net:
    return U2Net(find(U2NETP, None), threads=1)


def _digest() -> str:
    """Of all code that decides what the objects and their pictures are."""
    here = Path(__file__).parent
    product = Path(pipeline.__file__).parent
    sources = [
        *sorted(here.glob("*.py")),
        *(here.parent / f"{name}.py" for name in ("primitives", "polygons", "solids")),
        product / "imaging/framing.py",
        product / "engines/background/removers.py",
        product / "native/mesh.cpp",
    ]
    whole = hashlib.sha256()
    for path in sources:
        whole.update(path.read_bytes())
    return whole.hexdigest()[:12]


def _write(made: KeptBack, path: Path) -> None:
    data = io.BytesIO()
    np.savez_compressed(
        data,
        photo=made.photo,
        cutout=made.cutout.rgba,
        clean=made.clean.rgba,
        images=made.truth.images,
        alphas=made.truth.alphas,
        camera=np.array([made.elevation_deg, made.focal]),
        engine=np.array(made.cutout.engine),
    )
    # Two benches may make the same object: whoever is last replaces a whole file by its equal.
    part = path.with_suffix(f".{os.getpid()}")
    part.write_bytes(data.getvalue())
    part.replace(path)


def _read(name: str, path: Path) -> KeptBack:
    cameras = orbit_cameras(
        [v[0] for v in OTHER_VIEWS], [v[1] for v in OTHER_VIEWS], size=VIEW_SIDE
    )
    with np.load(path) as kept:
        elevation_deg, focal = (float(value) for value in kept["camera"])
        return KeptBack(
            name,
            kept["photo"],
            Cutout(kept["cutout"], str(kept["engine"])),
            Cutout(kept["clean"], GIVEN_ALPHA),
            ViewSet(kept["images"], kept["alphas"], cameras, "made"),
            elevation_deg,
            focal,
        )
