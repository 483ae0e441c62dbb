"""Splats on surfaces whose distance, normal and colour are known at every point.

The sphere has radius .4 and the torus radii .3 and .125, both in the unit cube of the product.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import trimesh
from scipy.spatial.transform import Rotation

from pipeline.types import SH_C0, SplatModel

Points = npt.NDArray[np.float64]
Kind = Literal["sphere", "torus"]

RADIUS, RING, TUBE = 0.4, 0.3, 0.125
#: Longest extent of each shell.
SIZE = {"sphere": 2 * RADIUS, "torus": 2 * (RING + TUBE)}
GENUS = {"sphere": 0, "torus": 1}


def distance(points: Points, kind: Kind) -> Points:
    """Signed distance [N] to the surface, positive outside."""
    if kind == "sphere":
        return np.asarray(np.linalg.norm(points, axis=1) - RADIUS)
    ring = np.hypot(points[:, 0], points[:, 1]) - RING
    return np.asarray(np.hypot(ring, points[:, 2]) - TUBE)


def normal(points: Points, kind: Kind) -> Points:
    """Unit outward normals [N, 3] of the surface at the nearest place."""
    step = 1e-5 * np.eye(3)
    gradient = np.stack([distance(points + h, kind) - distance(points - h, kind) for h in step], 1)
    return np.asarray(gradient / np.linalg.norm(gradient, axis=1, keepdims=True))


def color(points: Points) -> Points:
    """Colours [N, 3], 0..1, of places in space."""
    return np.asarray(0.5 + 0.4 * np.sin(12 * points + np.array([0.0, 2.0, 4.0])))


@dataclass(frozen=True)
class Flaws:
    """What is wrong with a cloud: places off the surface, uneven opacities, floaters."""

    noise: float = 0.0
    faint: bool = False
    floaters: float = 0.0


def shell(kind: Kind, count: int = 20_000, seed: int = 0, flaws: Flaws | None = None) -> SplatModel:
    """Flat discs on the surface; with flaws, round splats around it."""
    rng = np.random.default_rng(seed)
    flaws = flaws or Flaws()
    points = _sample(kind, count, rng)
    normals = normal(points, kind)
    side = np.cross(normals, rng.normal(size=(count, 3)))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    axes = np.stack([side, np.cross(normals, side), normals], axis=-1)
    quats = Rotation.from_matrix(axes).as_quat()[:, [3, 0, 1, 2]]
    colors = color(points)
    scales = np.tile([0.0075, 0.0075, 0.0015], (count, 1))
    opacities = np.full(count, 0.9)
    if flaws.noise:
        points = points + flaws.noise * rng.normal(size=points.shape)
        scales = 0.0075 * np.exp(0.3 * rng.normal(size=(count, 3)))
    if flaws.faint:
        opacities = rng.uniform(0.15, 0.95, count)
    stray = int(flaws.floaters * count)
    points[:stray] = rng.uniform(-0.5, 0.5, (stray, 3))
    opacities[:stray] = 0.15
    return SplatModel(
        means=points.astype(np.float32),
        quats=quats.astype(np.float32),
        log_scales=np.log(scales).astype(np.float32),
        logit_opacities=np.log(opacities / (1 - opacities)).astype(np.float32),
        sh=((colors - 0.5) / SH_C0)[:, None].astype(np.float32),
    )


def _sample(kind: Kind, count: int, rng: np.random.Generator) -> Points:
    """Points spread evenly over the surface."""
    if kind == "sphere":
        d = rng.normal(size=(count, 3))
        return np.asarray(RADIUS * d / np.linalg.norm(d, axis=1, keepdims=True))
    u, v = 2 * np.pi * rng.random((2, 3 * count))
    even = rng.random(3 * count) < (RING + TUBE * np.cos(v)) / (RING + TUBE)
    u, v = u[even][:count], v[even][:count]
    ring = RING + TUBE * np.cos(v)
    return np.stack([ring * np.cos(u), ring * np.sin(u), TUBE * np.sin(v)], axis=1)


def cover(solid: trimesh.Trimesh, count: int, seed: int = 0) -> SplatModel:
    """Flat discs on the surface of any solid, about `count`, evenly and without gaps."""
    tried, of_face = trimesh.sample.sample_surface(solid, 4 * count, seed=seed)
    points, kept = trimesh.points.remove_close(tried, 0.7 * float(np.sqrt(solid.area / count)))
    side = float(np.sqrt(solid.area / len(points)))  # of the square that a disc stands for
    normals = np.asarray(solid.face_normals[of_face[kept]])
    return _discs(np.asarray(points), normals, 0.75 * side, seed)


def lathe(profile: list[tuple[float, float]], sections: int = 64) -> trimesh.Trimesh:
    """The solid that a closed profile of (radius, height), counter-clockwise, encloses when it
    turns about the z axis."""
    return trimesh.creation.revolve(np.array([*profile, profile[0]]), sections=sections)


def cup() -> trimesh.Trimesh:
    """.16 wide and .15 high, open above, its wall and floor .025 thick; standing on z = 0."""
    return lathe(
        [(0, 0), (0.08, 0), (0.08, 0.15), (0.055, 0.15), (0.055, 0.025), (0, 0.025)],
    )


def saucer() -> trimesh.Trimesh:
    """.26 wide and .03 thick; standing on z = 0."""
    return lathe([(0, 0), (0.13, 0), (0.13, 0.03), (0, 0.03)])


def earring() -> trimesh.Trimesh:
    """A ring of radius .1 of a wire of radius .012."""
    return trimesh.creation.torus(0.1, 0.012, major_sections=64, minor_sections=16)


def together(*models: SplatModel) -> SplatModel:
    """One model of all splats."""
    return SplatModel(*(np.concatenate([getattr(m, n) for m in models]) for n in vars(models[0])))


def moved(model: SplatModel, place: tuple[float, float, float], scale: float = 1.0) -> SplatModel:
    """The model `scale` times as large, then moved by `place`."""
    return replace(
        model,
        means=(scale * model.means + np.array(place)).astype(np.float32),
        log_scales=(model.log_scales + np.log(scale)).astype(np.float32),
    )


def _discs(points: Points, normals: Points, scale: float, seed: int) -> SplatModel:
    count = len(points)
    rng = np.random.default_rng(seed)
    side = np.cross(normals, rng.normal(size=(count, 3)))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    axes = np.stack([side, np.cross(normals, side), normals], axis=-1)
    colors = color(points)
    return SplatModel(
        means=points.astype(np.float32),
        quats=Rotation.from_matrix(axes).as_quat()[:, [3, 0, 1, 2]].astype(np.float32),
        log_scales=np.log(np.tile([scale, scale, scale / 5], (count, 1))).astype(np.float32),
        logit_opacities=np.full(count, np.log(0.9 / 0.1), np.float32),
        sh=((colors - 0.5) / SH_C0)[:, None].astype(np.float32),
    )
