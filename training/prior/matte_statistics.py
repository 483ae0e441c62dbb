"""How the product's background remover errs on made objects over made grounds, beside `spoil`.

It does not know how the network is trained; its table is what the ranges of `mattes` come from.
120 scenes from seed 900000 (`--count 120`), quantiles 2%, 50%, 90% and 98%, in px of 128:

    error        u2netp                       spoil, all samples
    overlap      0.594 0.986 0.996 0.997      0.871 0.981 0.996 0.998
    shift        -0.06 0.00 0.10 0.25         -0.50 0.00 0.36 0.77
    wobble       0.05 0.13 0.35 0.82          0.00 0.15 0.50 0.99
    width        1.49 1.83 2.38 3.25          1.44 1.92 2.75 4.12
    haze         0.000 0.000 0.000 0.003      0.000 0.000 0.003 0.043
    kept_below   0.000 0.000 0.000 0.000      0.000 0.000 0.003 0.117
    lost_deep    0.000 0.000 0.018 0.335      0.000 0.000 0.000 0.020
    lost_thin    0.002 0.039 0.134 0.332      0.000 0.042 0.220 0.587
    filled       0.003 0.089 1.000 1.000      0.000 0.088 1.000 1.000

The remover's outline is good to an eighth of a pixel; it errs in whole parts. `spoil` errs a little
more along the outline, since photos are harder than what is composed here, and never loses half
of the object: such a photo is taken again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.control import Control
from pipeline.engines.background.background_specs import U2NETP
from pipeline.engines.background.removers import U2Net
from pipeline.errors import InvalidImage
from pipeline.ports import BackgroundEngine
from pipeline.types import UInt8Array
from pipeline.weights.folders import find
from training.prior.mattes import MIDDLE, spoil
from training.prior.scene import make_scene, photograph

Plane = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

#: Side of the frame that errors are measured in, and of the object's longest side there.
FRAME, OBJECT = 128, 100
#: Outlines are compared on a grid this much finer.
FINER = 4
#: Side of a composed photo.
PHOTO = 640
#: Photos of materials, of scikit-image, that objects lie on.
MATERIALS = ("gravel.png", "grass.png", "brick.png", "page.png", "ihc.png", "moon.png")


@dataclass(frozen=True)
class Errors:
    """One matte against the true alpha, in a frame where the object is 100 px long.

    Attributes:
        overlap: intersection over union at one half.
        shift: how far the outline lies outside the true one, px, median along the true outline.
        wobble: half the spread (16% to 84%) of that distance along the outline, px.
        width: over how many px alpha rises from 0 to 1 at the outline, mean.
        haze: mean alpha 3 to 10 px outside the true outline where it is below one half.
        kept_below: share of the ground 1.5 to 10 px outside that is object for the matte, in the
            lower fifth of the object's height and below.
        kept_else: the same elsewhere.
        lost_deep: share of the object deeper than 3 px that the matte has not.
        faint_deep: mean of 1 - alpha there where it is above one half.
        lost_thin: share of the parts thinner than 6 px that the matte has not; nan if there are
            less than 2% of them.
        filled: share of the holes that are object for the matte; nan without holes.
        lost_length: by how much the box of what is at least one half is shorter than the true
            one, share of the longest side; negative when it is longer.
    """

    overlap: float
    shift: float
    wobble: float
    width: float
    haze: float
    kept_below: float
    kept_else: float
    lost_deep: float
    faint_deep: float
    lost_thin: float
    filled: float
    lost_length: float


def compare(found: Plane, true: Plane) -> Errors:
    """Both float32 [FRAME, FRAME] in 0..1; the true one has an object."""
    fine = (FINER * FRAME, FINER * FRAME)
    found, true = (
        np.clip(cv2.resize(plane, fine, interpolation=cv2.INTER_CUBIC), 0, 1)
        for plane in (found, true)
    )
    solid, matte = true >= 0.5, found >= 0.5
    depth, of_matte = _depth(solid), _depth(matte)
    outside = cv2.morphologyEx(
        solid.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)
    )
    rim = (outside > 0) & solid
    near = of_matte[rim] - depth[rim]
    along = near[np.abs(near) < 4]
    along = along if len(along) else near
    low, middle, high = np.quantile(along, [0.16, 0.5, 0.84])
    band = np.abs(of_matte) < 4
    length = max(1.0, float((np.abs(of_matte) < 1).sum()) / (2 * FINER**2))
    around = (depth < -1.5) & (depth > -10)
    rows = np.flatnonzero(solid.any(1))
    bottom = rows[-1] - 0.2 * (rows[-1] - rows[0])
    below = around & (np.arange(len(solid))[:, None] > bottom)
    ring = (depth < -3) & (depth > -10)
    deep = depth > 3
    thin = solid & (_opened(solid, 3 * FINER) == 0)
    holes = _holes(solid)
    return Errors(
        overlap=float((matte & solid).sum() / (matte | solid).sum()),
        shift=float(middle),
        wobble=float((high - low) / 2),
        width=float(6 * (found * (1 - found))[band].sum() / (length * FINER**2)),
        haze=_mean(found[ring & ~matte]),
        kept_below=_mean(matte[below]),
        kept_else=_mean(matte[around & ~below & ~holes]),
        lost_deep=_mean(~matte[deep]),
        faint_deep=_mean(1 - found[deep & matte]),
        lost_thin=_mean(~matte[thin]) if thin.sum() > 0.02 * solid.sum() else np.nan,
        filled=_mean(matte[holes]) if holes.sum() > 12 * FINER**2 else np.nan,
        lost_length=(_longest(solid) - _longest(matte)) / _longest(solid),
    )


def _mean(values: npt.NDArray[np.generic]) -> float:
    return float(values.mean()) if values.size else 0.0


def _longest(solid: Mask) -> float:
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    if not len(rows):
        return 0.0
    return float(max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1)


def _depth(solid: Mask) -> Plane:
    """Signed distance to the outline in pixels of the frame, positive inside."""
    inner = cv2.distanceTransform(solid.astype(np.uint8), cv2.DIST_L2, 5)
    outer = cv2.distanceTransform((~solid).astype(np.uint8), cv2.DIST_L2, 5)
    depth: Plane = (np.where(solid, inner - 0.5, 0.5 - outer) / FINER).astype(np.float32)
    return depth


def _opened(solid: Mask, radius: int) -> UInt8Array:
    size = 2 * radius + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    opened: UInt8Array = cv2.morphologyEx(solid.astype(np.uint8), cv2.MORPH_OPEN, disc)
    return opened


def _holes(solid: Mask) -> Mask:
    _, labels = cv2.connectedComponents((~solid).astype(np.uint8), connectivity=4)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    holes: Mask = ~solid & ~np.isin(labels, edge)
    return holes


# ------------------------------------------------------------------------------- photos
def compose(render: UInt8Array, rng: np.random.Generator) -> tuple[UInt8Array, Plane]:
    """A photo of the object on a ground, and its true alpha.

    Args:
        render: uint8 [S, S, 4] with straight alpha.

    Returns:
        uint8 [PHOTO, PHOTO, 3] and float32 [PHOTO, PHOTO] in 0..1.
    """
    alpha = render[..., 3]
    rows, columns = np.flatnonzero((alpha > 127).any(1)), np.flatnonzero((alpha > 127).any(0))
    longest = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    scale = rng.uniform(0.4, 0.85) * PHOTO / longest
    centre = np.array([columns[0] + columns[-1], rows[0] + rows[-1]]) / 2
    free = max(0.0, PHOTO - scale * longest) / 4
    to = PHOTO / 2 + rng.uniform(-free, free, 2)
    move = np.hstack([np.eye(2) * scale, (to - scale * centre)[:, None]])
    straight = render.astype(np.float32) / 255
    straight[..., :3] *= straight[..., 3:]
    placed = cv2.warpAffine(straight, move, (PHOTO, PHOTO), flags=cv2.INTER_AREA)
    true = np.clip(placed[..., 3], 0, 1)
    foot = scale * (rows[-1] - centre[1]) + to[1]
    ground = _ground(foot, rng)
    if rng.random() < 0.3:  # little stands out: the ground takes the object's colour
        own = placed[..., :3][true > 0.5].mean(0)
        ground += rng.uniform(0.4, 0.95) * (own - ground.mean((0, 1)))
    ground *= 1 - rng.uniform(0.2, 0.75) * _shadow(true, foot, rng)[..., None]
    photo = placed[..., :3] + np.clip(ground, 0, 1) * (1 - true[..., None])
    photo = cv2.GaussianBlur(photo, (0, 0), rng.uniform(0.4, 1.6))  # the lens
    gains = 2.0 ** rng.normal(0, 0.2) * np.exp(rng.normal(0, 0.06, 3))
    photo = photo * gains + rng.normal(0, rng.uniform(0.002, 0.02), photo.shape)
    coded = np.round(255 * np.clip(photo, 0, 1)).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 95))]
    stream = cv2.imencode(".jpg", coded, quality)[1]
    return np.asarray(cv2.imdecode(stream, cv2.IMREAD_COLOR), np.uint8), true


def _ground(foot: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A table before a wall, a sheet of paper, a floor of some material; [PHOTO, PHOTO, 3]."""
    kind = rng.choice(["sheet", "table", "table", "material"])
    if kind == "sheet":
        return _surface(rng, rough=0.02)
    if kind == "material":
        return np.clip(_material(rng) * rng.uniform(0.6, 1.3), 0, 1)
    wall = _surface(rng, rough=0.05)
    table = _material(rng) if rng.random() < 0.4 else _surface(rng, rough=0.08)
    edge = foot - rng.uniform(0.05, 0.6) * PHOTO
    step = (np.arange(PHOTO) - edge + rng.normal(0, 0.03) * PHOTO) / rng.uniform(1, 12)
    share = np.clip(step, 0, 1)[:, None, None]
    return np.asarray(wall + share * (table - wall))


def _surface(rng: np.random.Generator, rough: float) -> npt.NDArray[np.float64]:
    """One colour with slow light and some grain along one direction."""
    colour = np.clip(rng.uniform(0.1, 0.95) + rng.normal(0, 0.12, 3), 0.02, 0.98)
    light = _noise(rng, (3, 3)) * rng.uniform(0, 0.12)
    grain = _noise(rng, (int(rng.integers(3, 120)), int(rng.integers(3, 120)))) * rough
    return np.clip(colour * (1 + light + grain)[..., None], 0, 1)


def _noise(rng: np.random.Generator, cells: tuple[int, int]) -> npt.NDArray[np.float64]:
    coarse = rng.standard_normal(cells)
    return np.asarray(cv2.resize(coarse, (PHOTO, PHOTO), interpolation=cv2.INTER_CUBIC))


@lru_cache(maxsize=1)
def _materials() -> tuple[UInt8Array, ...]:
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    return tuple(np.asarray(Image.open(folder / name).convert("RGB")) for name in MATERIALS)


def _material(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    picture = _materials()[rng.integers(len(MATERIALS))]
    side = int(rng.integers(100, min(picture.shape[:2])))
    y, x = (int(rng.integers(0, n - side + 1)) for n in picture.shape[:2])
    part = cv2.resize(picture[y : y + side, x : x + side], (PHOTO, PHOTO)).astype(np.float64)
    soft = cv2.GaussianBlur(part, (0, 0), rng.uniform(0.5, 12))  # out of focus
    return np.asarray(soft / 255)


def _shadow(true: Plane, foot: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Dark where the object touches the ground, and a longer soft one to one side."""
    squash, aside = rng.uniform(0.1, 0.35), rng.normal(0, 0.3)
    move = np.array([[1, -aside * squash, aside * squash * foot], [0, squash, foot * (1 - squash)]])
    flat = cv2.warpAffine(true, move, true.shape[::-1]).astype(np.float64)
    near = cv2.GaussianBlur(flat, (0, 0), rng.uniform(3, 8))
    far = cv2.GaussianBlur(flat, (0, 0), rng.uniform(8, 40))
    return np.asarray(np.clip(0.7 * near + 0.5 * far, 0, 1))


# ------------------------------------------------------------------------------- the table
def framed(alpha: Plane, true: Plane) -> Plane:
    """`alpha` in the frame where the true object's longest side is OBJECT px of FRAME."""
    rows, columns = np.flatnonzero((true >= 0.5).any(1)), np.flatnonzero((true >= 0.5).any(0))
    longest = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    scale = OBJECT / longest
    soft = alpha if scale >= 1 else cv2.GaussianBlur(alpha, (0, 0), 0.35 / scale)
    middle = np.array([columns[0] + columns[-1] + 1, rows[0] + rows[-1] + 1]) / 2
    # Pixel centres are at halves: (x + .5) maps to (x + .5) * scale.
    offset = FRAME / 2 - scale * middle + 0.5 * scale - 0.5
    move = np.hstack([np.eye(2) * scale, offset[:, None]])
    small: Plane = cv2.warpAffine(soft, move, (FRAME, FRAME), flags=cv2.INTER_LINEAR)
    return np.clip(small, 0, 1)


def measure_remover(
    renders: Iterable[UInt8Array], remover: BackgroundEngine, seed: int
) -> tuple[list[Errors], int]:
    """The remover's errors, and how many photos it refused."""
    errors, refused = [], 0
    for number, render in enumerate(renders):
        photo, true = compose(render, np.random.default_rng([seed, number]))
        try:
            found = remover.remove(photo, Control())
        except InvalidImage:
            refused += 1
            continue
        alpha = found.astype(np.float32) / np.float32(255)
        errors.append(compare(framed(alpha, true), framed(true, true)))
    return errors, refused


def measure_spoiled(renders: Iterable[UInt8Array], seed: int) -> list[Errors]:
    """The same of made mattes."""
    errors = []
    for number, render in enumerate(renders):
        alpha = render[..., 3].astype(np.float32) / np.float32(255)
        true = framed(alpha, alpha)
        edge = (FRAME - MIDDLE) // 2
        middle = np.ascontiguousarray(true[edge:-edge, edge:-edge])
        rgb = np.full((MIDDLE, MIDDLE, 3), 0.5, np.float32)
        _, found = spoil(rgb, middle, np.random.default_rng([seed, number]))
        errors.append(compare(np.pad(found, edge), true))
    return errors


def table(title: str, errors: list[Errors]) -> str:
    """Quantiles of every error, one line each."""
    shares = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
    lines = [f"{title}, {len(errors)} mattes: quantiles " + " ".join(f"{s:7.2f}" for s in shares)]
    for field in fields(Errors):
        values = np.array([getattr(e, field.name) for e in errors])
        values = values[np.isfinite(values)]
        quantiles = np.quantile(values, shares) if len(values) else [np.nan] * len(shares)
        numbers = " ".join(f"{q:7.3f}" for q in quantiles)
        lines.append(f"  {field.name:12s} ({len(values):4d})  {numbers}")
    return "\n".join(lines)


def renders(count: int, seed: int) -> list[UInt8Array]:
    """Pictures of scenes from `seed` on, uint8 [512, 512, 4], straight alpha."""
    pictures = []
    for number in range(seed, seed + count):
        scene = make_scene(number)
        view = scene.viewpoint
        picture = photograph(scene, view.rotation, view.eye, view.focal, 4 * FRAME)
        pictures.append(np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8))
    return pictures


def main(arguments: list[str]) -> str:
    """Measure both and give the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=150, help="scenes")
    parser.add_argument("--seed", type=int, default=900_000, help="of the first scene")
    chosen = parser.parse_args(arguments)
    pictures = renders(chosen.count, chosen.seed)
    found, refused = measure_remover(pictures, U2Net(find(U2NETP)), chosen.seed)
    made = measure_spoiled(pictures * 4, chosen.seed)
    return "\n".join(
        [table("u2netp", found), f"  refused: {refused}", table("spoil, all samples", made)]
    )


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1:]) + "\n")
