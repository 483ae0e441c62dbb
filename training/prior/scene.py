"""Scenes with one made object, and the samples a network is trained with.

It does not know networks, nor what the families of objects are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.types import FloatArray, UInt8Array
from training.prior import raster
from training.prior.families import FAMILIES, Family
from training.prior.finishes import load_bank
from training.prior.light import Light, draw_light
from training.prior.mattes import spoil_both
from training.prior.paint import draw_paint
from training.prior.placing import Viewpoint, deform, draw_viewpoint, rest
from training.prior.raster import Hits, Mesh, Paint
from training.prior.solids import Points

#: Side of the frame as the network looks at it, of the middle it sees, and of its answer.
FRAME_SIDE, SIDE, MAP_SIDE = 128, 112, 56

#: Rays per pixel and direction.
RAYS = 2

#: A shape that cannot be photographed is drawn again, at most this often.
ATTEMPTS = 20

Half = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Scene:
    """An object as it lies there, lit and painted, and the camera that takes the photo.

    Attributes:
        seed, attempt: what it was drawn from.
        family: the name of the object's family.
        mesh: in a world with z up and the camera at azimuth 0, whose unit is the width of the
            frame at the object's middle.
    """

    seed: int
    attempt: int
    family: str
    mesh: Mesh
    paint: Paint
    light: Light
    viewpoint: Viewpoint


@dataclass(frozen=True)
class Sample:
    """What the network sees of a scene, and what it should say.

    Offsets are along the axis of the camera from the middle between the nearest and the farthest
    hit, in frame widths there. Maps cover the middle 112 of the frame's 128 px, half as fine.

    Attributes:
        rgba: uint8 [112, 112, 4], straight alpha, as a telephone and a remover give it.
        front, back: float16 [56, 56], mean offsets of the first and last hits; 0 without hits.
        hit: uint8 [56, 56], the share of rays that truly hit, 255 = all.
        back_color: uint8 [56, 56, 3], of the last hits, seen from behind, in the photo's tones;
            0 without hits.
        inflated: float16 [56, 56], half thickness of the outline of `rgba` inflated, frame widths.
        elevation_deg, focal: of the camera, see `Viewpoint`.
    """

    rgba: UInt8Array
    front: Half
    back: Half
    hit: UInt8Array
    back_color: UInt8Array
    inflated: Half
    elevation_deg: float
    focal: float
    family: str


def make_scene(seed: int, families: Mapping[str, Family] | None = None) -> Scene:
    """A scene, a pure function of its arguments.

    Args:
        seed: at least 0.
        families: what is drawn from; None takes all.

    Raises:
        ValueError: no family gave an object that can be seen.
    """
    known = FAMILIES if families is None else families
    names = list(known)
    odds = np.array([known[name].weight for name in names])
    reason = "there are no families"
    for attempt in range(ATTEMPTS if names else 0):
        rng = np.random.default_rng([seed, attempt])
        family = names[rng.choice(len(names), p=odds / odds.sum())]
        try:
            return _draw(rng, seed, attempt, family, known[family])
        except ValueError as error:
            reason = f"{family}: {error}"
    raise ValueError(f"No scene from seed {seed}; the last reason was: {reason}.")


def _draw(rng: np.random.Generator, seed: int, attempt: int, name: str, family: Family) -> Scene:
    shape = family.make(rng)
    solid = shape.solid
    if not len(solid.faces) or not np.isfinite(solid.vertices).all():
        raise ValueError("its shape is empty or not finite")
    vertices = deform(rng, solid.vertices) @ rest(rng, family.rests).T
    vertices, viewpoint = draw_viewpoint(rng, vertices)
    if not np.isfinite(vertices).all():
        raise ValueError("it cannot be framed")
    light = draw_light(rng, viewpoint.eye / np.linalg.norm(viewpoint.eye))
    paint = draw_paint(rng, shape.finishes, load_bank())
    mesh = raster.make_mesh(vertices, solid.faces, solid.uv, solid.slots, solid.smooth)
    scene = Scene(seed, attempt, name, mesh, paint, light, viewpoint)
    first, _ = raster.trace(_seen(scene), mesh.faces, viewpoint.focal * 64, MAP_SIDE)
    if int((first.faces >= 0).sum()) < 16:
        raise ValueError("almost nothing of it is visible")
    return scene


def _seen(scene: Scene) -> Points:
    """The vertices in the photo's camera."""
    view = scene.viewpoint
    return np.asarray((scene.mesh.vertices - view.eye) @ view.rotation.T)


def _mean(plane: npt.NDArray[Any], side: int) -> FloatArray:
    """Means of square blocks, `side` of them in a row."""
    exact = plane.astype(np.float32, copy=False)
    return np.asarray(cv2.resize(exact, (side, side), interpolation=cv2.INTER_AREA))


def _openness(
    depths: FloatArray, mask: raster.Mask, outward: float, heights: FloatArray, contact: float
) -> FloatArray:
    """How much of the sky reaches each hit: less in hollows and close to the ground.

    Args:
        outward: -1 where nearer is out (the front), 1 where farther is.
        heights: float32 [S, S], above the ground, in frame widths.
    """
    cover = mask.astype(np.float32)
    window = depths.shape[0] // 9 | 1
    known = np.maximum(cv2.blur(cover, (window, window)), 1e-3)
    around = cv2.blur(np.where(mask, depths, 0), (window, window)) / known
    hollow = np.maximum(-outward * (depths - around), 0)
    near = 1 - contact * np.exp(-np.maximum(heights, 0) / 0.06)
    return np.asarray(np.clip(1 - 4 * hollow, 0.35, 1) * near, np.float32)


def _look(scene: Scene) -> raster.Look:
    shadow = raster.cast_shadow(scene.mesh, scene.light.key)
    return raster.Look(scene.mesh, scene.paint, scene.light.numbers, shadow)


def _colors(
    scene: Scene, look: raster.Look, hits: Hits, heights: FloatArray, *, behind: bool
) -> FloatArray:
    """Colours of the hits, premultiplied by 0 or 1, float32 [S, S, 3]."""
    mask = hits.faces >= 0
    opened = _openness(hits.depths, mask, 1 if behind else -1, heights, scene.light.contact)
    return raster.shade(look, hits, scene.viewpoint.eye, opened, behind=behind)


def _heights(scene: Scene, depths: FloatArray) -> FloatArray:
    """How far above the object's lowest point the hits are, float32 [S, S]."""
    view = scene.viewpoint
    side = depths.shape[0]
    at = (np.arange(side, dtype=np.float32) + 0.5 - side / 2) / (view.focal * FRAME_SIDE * RAYS)
    right, down, forward = view.rotation[:, 2].astype(np.float32)
    slope = at * right + (at * down)[:, None] + forward
    floor = float(scene.mesh.vertices[:, 2].min())
    return np.asarray(view.eye[2] - floor + depths * slope, np.float32)


def take(scene: Scene) -> Sample:
    """The sample of a scene, a pure function of it."""
    view = scene.viewpoint
    first, last = raster.trace(
        _seen(scene), scene.mesh.faces, view.focal * FRAME_SIDE * RAYS, SIDE * RAYS
    )
    mask = first.faces >= 0
    cover = mask.astype(np.float32)
    middle = float(first.depths[mask].min() + last.depths[mask].max()) / 2
    width = middle / view.focal

    hit = _mean(cover, MAP_SIDE)
    share = np.where(hit > 0, hit, 1)
    front, back = (
        (_mean(np.where(mask, hits.depths - middle, 0) / width, MAP_SIDE) / share).astype(
            np.float16
        )
        for hits in (first, last)
    )
    look = _look(scene)
    near = _colors(scene, look, first, _heights(scene, first.depths), behind=False)
    far = _colors(scene, look, last, _heights(scene, last.depths), behind=True)

    alpha = _mean(cover, SIDE)
    rgb = np.divide(_mean(near, SIDE), np.where(alpha > 0, alpha, 1)[..., None], dtype=np.float32)
    rng = np.random.default_rng([scene.seed, scene.attempt, 1])
    far_rgb = np.divide(_mean(far, MAP_SIDE), share[..., None], dtype=np.float32)
    seen_rgb, seen_alpha, seen_far = spoil_both(rgb, alpha, far_rgb, rng)
    rgba = _bytes(np.concatenate([seen_rgb, seen_alpha[..., None]], -1))
    return Sample(
        rgba=rgba,
        front=front,
        back=back,
        hit=_bytes(hit),
        back_color=_bytes(np.where(hit[..., None] > 0, seen_far, 0)),
        inflated=inflated(rgba),
        elevation_deg=view.elevation_deg,
        focal=view.focal,
        family=scene.family,
    )


def inflated(rgba: UInt8Array) -> Half:
    """Half thickness of the inflated outline, float16 [S/2, S/2], in widths of the whole frame."""
    side = rgba.shape[0] // 2
    inside = _mean(rgba[..., 3].astype(np.float32), side) >= 127.5
    thickness = raster.inflate(inside) / (side * FRAME_SIDE / SIDE)
    return np.asarray(thickness, np.float16)


def _bytes(plane: npt.NDArray[Any]) -> UInt8Array:
    return np.asarray(np.round(255 * np.clip(plane, 0, 1)), np.uint8)


def photograph(
    scene: Scene, rotation: Points, eye: Points, focal: float, side: int, rays: int = 2
) -> FloatArray:
    """The object from anywhere, float32 [side, side, 4], straight alpha, sRGB 0..1, unspoiled.

    Args:
        rotation: [3, 3], from the scene's world to the camera (x right, y down, z forward).
        eye: [3], in that world.
        focal: in widths of the picture.
        rays: per pixel and direction.
    """
    points = (scene.mesh.vertices - eye) @ rotation.T
    first, _ = raster.trace(points, scene.mesh.faces, focal * side * rays, side * rays)
    mask = first.faces >= 0
    opened = _openness(first.depths, mask, -1, np.ones_like(first.depths), 0.0)
    picture = raster.shade(_look(scene), first, eye, opened)
    alpha = _mean(mask.astype(np.float32), side)
    rgb = _mean(picture, side) / np.where(alpha > 0, alpha, 1)[..., None]
    return np.concatenate([rgb, alpha[..., None]], -1)
