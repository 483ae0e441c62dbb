"""Photos as a telephone takes them: a table, a wall, a shadow, noise, and somebody's hand.

It does not know what stands there, or how it is cut out of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.imaging.rounding import to_bytes
from pipeline.mesh.mesh_raster import rasterize_mesh
from pipeline.types import Cameras, FloatArray, UInt8Array
from training.prior.kept_back import paints
from training.prior.kept_back.paints import SIDE, Picture, Rng, tone
from training.prior.kept_back.pictures import Light, Studio, Triangles

PHOTO_SIDE = 768
FIELD_OF_VIEW_DEG = (36.0, 70.0)
ELEVATION_DEG = (-5.0, 50.0)
ROLL_DEG = 3.0


@dataclass(frozen=True)
class Shot:
    """Where a photo is taken from.

    Attributes:
        cameras: one, of `PHOTO_SIDE`; its axis goes through the middle of the object's box in
            the picture, which need not be the middle of the picture.
        elevation_deg: of the axis above the horizon.
        focal: in widths of the picture.
    """

    cameras: Cameras
    elevation_deg: float
    focal: float


def some_light(rng: Rng) -> Light:
    """Daylight in a room: the sky strongest, a window or a lamp, something opposite."""
    warm = np.array([1.0, 1.0 - rng.uniform(0, 0.1), 1.0 - rng.uniform(0, 0.22)])
    cool = np.array([1.0 - rng.uniform(0, 0.12), 1.0 - rng.uniform(0, 0.05), 1.0])
    sky = rng.uniform(0.5, 0.75)
    ground = sky * rng.uniform(0.45, 0.8)
    angle, height = rng.uniform(-1.9, 1.9), rng.uniform(0.6, 1.25)
    other, low = angle + rng.uniform(1.8, 4.4), rng.uniform(0.1, 0.8)
    ways = [
        [np.cos(height) * np.cos(angle), np.cos(height) * np.sin(angle), np.sin(height)],
        [np.cos(low) * np.cos(other), np.cos(low) * np.sin(other), np.sin(low)],
    ]
    lamps = [rng.uniform(0.4, 0.8) * warm, rng.uniform(0.05, 0.22) * cool]
    return Light(
        (sky * cool).astype(np.float32),
        (ground * warm).astype(np.float32),
        np.asarray(ways, np.float32),
        np.asarray(lamps, np.float32),
        rng.uniform(0.04, 0.12),
    )


def some_shot(rng: Rng, vertices: FloatArray, lowest_deg: float) -> Shot:
    """A camera at azimuth 0 that has all of the object in the picture.

    Args:
        lowest_deg: what lies flat is photographed from above.
    """
    low, high = max(lowest_deg, ELEVATION_DEG[0]), ELEVATION_DEG[1]
    elevation_deg = float(np.clip(rng.normal(max(20.0, low + 10), 13), low, high))
    focal = float(0.5 / np.tan(np.deg2rad(rng.uniform(*FIELD_OF_VIEW_DEG)) / 2))
    roll = np.deg2rad(rng.uniform(-ROLL_DEG, ROLL_DEG))
    share, shift = rng.uniform(0.52, 0.74), rng.uniform(-0.06, 0.06, 2)
    e = np.deg2rad(elevation_deg)
    back = np.array([np.cos(e), 0, np.sin(e)])
    right, down = np.array([0.0, 1.0, 0.0]), np.array([np.sin(e), 0, -np.cos(e)])
    level = np.stack([right, down, -back])
    c, s = np.cos(roll), np.sin(roll)
    R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ level
    centre = 2.0 * back
    # Alternately to the side and away, until the object's box is in the middle and has its size.
    for _ in range(30):
        local = (vertices - centre) @ R.T
        seen = local[:, :2] / local[:, 2:] * focal
        low, high = seen.min(0), seen.max(0)
        depth = float(np.median(local[:, 2]))
        centre = centre + (0.5 * (low + high) / focal * depth) @ R[:2]
        grown = float((high - low).max()) / share
        centre = centre + back * depth * np.clip(grown - 1, -0.3, 0.5)
    viewmat = np.eye(4)
    viewmat[:3, :3], viewmat[:3, 3] = R, -R @ centre
    middle = PHOTO_SIDE * (0.5 + shift)
    K = np.array(
        [[focal * PHOTO_SIDE, 0, middle[0]], [0, focal * PHOTO_SIDE, middle[1]], [0, 0, 1]]
    )
    cameras = Cameras(
        viewmat[None].astype(np.float32), K[None].astype(np.float32), PHOTO_SIDE, PHOTO_SIDE
    )
    return Shot(cameras, elevation_deg, focal)


def photographed(
    rng: Rng,
    studio: Studio,
    thing: Triangles,
    light: Light,
    shot: Shot,
    colors: Picture,
    covered: Picture,
) -> UInt8Array:
    """The object somewhere: uint8 [S, S, 3].

    Args:
        colors, covered: the object alone from the shot's camera, as the studio draws it.
    """
    share = covered[..., None]
    room = _room(rng, studio, thing, light, shot.cameras)
    photo = colors * share + room * (1 - share)
    y, x = (np.mgrid[:PHOTO_SIDE, :PHOTO_SIDE] / PHOTO_SIDE - 0.5).astype(np.float32)
    photo = photo * (1 - rng.uniform(0, 0.2) * (x * x + y * y))[..., None]
    grain = rng.standard_normal(photo.shape, np.float32) * np.float32(rng.uniform(0.004, 0.014))
    _, packed = cv2.imencode(
        ".jpg", to_bytes(255 * (photo + grain))[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90]
    )
    taken: UInt8Array = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(taken[..., ::-1])


def _room(rng: Rng, studio: Studio, thing: Triangles, light: Light, cameras: Cameras) -> Picture:
    """sRGB float32 [S, S, 3] of the floor and the wall behind it."""
    floor, tiles = _floor(rng)
    wall = paints.plain(rng, tone(rng.random(), rng.uniform(0, 0.35), rng.uniform(0.35, 0.95)))
    distance, fades = -rng.uniform(0.9, 2.5), rng.random() < 0.4
    K, viewmat = cameras.intrinsics[0], cameras.viewmats[0]
    row, column = np.mgrid[:PHOTO_SIDE, :PHOTO_SIDE].astype(np.float32) + 0.5
    rays = np.stack(
        [(column - K[0, 2]) / K[0, 0], (row - K[1, 2]) / K[1, 1], np.ones_like(row)], -1
    )
    ways = (rays @ viewmat[:3, :3]).reshape(-1, 3)
    centre = cameras.centres[0]
    base = float(thing.vertices[:, 2].min())
    with np.errstate(divide="ignore", invalid="ignore"):
        down = np.where(ways[:, 2] < -1e-4, (base - centre[2]) / ways[:, 2], np.inf)
        far = np.where(ways[:, 0] < -1e-4, (distance - centre[0]) / ways[:, 0], np.inf)
    down = np.where(down > 0, down, np.inf)
    on_floor = down < far
    reach = np.minimum(np.minimum(down, far), 50.0)
    points = (centre + reach[:, None] * ways).astype(np.float32)

    shadow = np.ones(len(points), np.float32)
    shadow[on_floor] = studio.lit(points[on_floor], 0.02)
    shadow = cv2.GaussianBlur(shadow.reshape(PHOTO_SIDE, PHOTO_SIDE), (0, 0), 5.0).reshape(-1)
    lit = light.sky + np.clip(light.ways[0, 2], 0, 1) * light.lamps[0] * shadow[:, None]
    lit = lit * (1 - 0.75 * _contact(thing, points, base))[:, None]
    ground = _tiled(floor.picture, points[:, :2] * tiles) ** 2.2 * lit
    behind = _tiled(wall.picture, points[:, 1:] * 0.3) ** 2.2
    behind = behind * (0.5 * (light.sky + light.ground) + 0.5 * light.lamps[0])
    if fades:
        # A sheet of paper that bends up behind the object.
        backdrop = behind.mean(0) * (0.75 + 0.35 * (points[:, 2:] - base).clip(-0.5, 1))
        plain = backdrop * (lit / lit.max(0))
        share = np.clip((-points[:, :1] - 0.5) / 1.2, 0, 1)
        ground, behind = plain * (1 - share) + backdrop * share, backdrop
    linear = np.where(on_floor[:, None], ground, behind).reshape(PHOTO_SIDE, PHOTO_SIDE, 3)
    return np.asarray(np.clip(linear, 0, 1) ** (1 / 2.2), np.float32)


def _floor(rng: Rng) -> tuple[paints.Paint, float]:
    """What it stands on, and how many of its pictures go into a unit."""
    value = rng.uniform(0.3, 0.95)
    color = tone(rng.random(), rng.uniform(0, 0.3), value)
    kind = int(rng.integers(5))
    if kind == 0:
        return paints.wood(rng), rng.uniform(0.4, 0.9)
    if kind == 1:
        return paints.planks(rng, tone(0.08, rng.uniform(0.2, 0.55), value), 6), 0.5
    if kind == 2:
        return paints.cloth(rng, color, 60), 1.2
    if kind == 3:
        other = tone(rng.random(), 0.1, 0.75 * value)
        return paints.checks(rng, color, other, 6), rng.uniform(0.5, 1.0)
    return paints.plain(rng, color, 0.1, 0.04), 0.6


def _tiled(picture: Picture, at: FloatArray) -> FloatArray:
    """Colours float32 [n, 3] of a repeating picture at [n, 2], one picture per unit."""
    side = int(PHOTO_SIDE**0.5 + 1)
    pixel = ((at % 1) * SIDE).astype(np.float32)
    flat = np.zeros((-(-len(at) // side), side, 2), np.float32)
    flat.reshape(-1, 2)[: len(at)] = pixel
    found = cv2.remap(picture, flat, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(found.reshape(-1, 3)[: len(at)])


def _contact(thing: Triangles, points: FloatArray, base: float) -> FloatArray:
    """How much of the sky is hidden from points of the floor by what stands near it, 0..1."""
    side, half = 128, 1.0
    low = thing.vertices[:, 2].reshape(-1, 3).min(1) < base + 0.1
    if not low.any():
        return np.zeros(len(points), np.float32)
    viewmat = np.array([[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 40.0], [0, 0, 0, 1]], np.float32)
    focal = side / 2 / half * 40
    K = np.array([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1]], np.float32)
    flat = thing.vertices * np.array([1, 1, 0], np.float32)
    nothing = np.zeros((len(flat), 0), np.float32)
    above = Cameras(viewmat[None], K[None], side, side)
    under = rasterize_mesh(flat, thing.faces[low], nothing, above, supersample=2).coverage[0]
    hidden = 0.5 * (cv2.GaussianBlur(under, (0, 0), 2.5) + cv2.GaussianBlur(under, (0, 0), 7.0))
    column = np.clip((points[:, 0] / half + 1) * side / 2, 0, side - 1).astype(np.int64)
    row = np.clip((1 - points[:, 1] / half) * side / 2, 0, side - 1).astype(np.int64)
    return np.asarray(hidden[row, column], np.float32)
