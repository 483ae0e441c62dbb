"""Pictures of a painted object under one light, from any camera.

It does not know which object it is, or what a photo of it is used for. Nothing of it is shared
with what draws the objects that the network learns from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.mesh.mesh_raster import rasterize_mesh
from pipeline.types import Cameras, FloatArray
from training.prior.kept_back.assembly import Assembly
from training.prior.kept_back.paints import SIDE

Picture = npt.NDArray[np.float32]
F = TypeVar("F", np.float32, np.float64)
#: Side of the maps in which a lamp sees what it lights.
SHADOW_SIDE = 256
#: So far away that a lamp's rays are parallel, in world units.
LAMP_DISTANCE = 30.0


@dataclass(frozen=True)
class Light:
    """A sky and two lamps at infinity; the first one casts shadows.

    Attributes:
        sky, ground: float32 [3], light from above and from below, linear.
        ways: float32 [2, 3], unit vectors towards the lamps.
        lamps: float32 [2, 3], their colours, linear.
        softness: how far the first lamp spreads, radians.
    """

    sky: FloatArray
    ground: FloatArray
    ways: FloatArray
    lamps: FloatArray
    softness: float


@dataclass(frozen=True)
class Triangles:
    """An object ready to be drawn, three vertices of its own for every face.

    Attributes:
        vertices: float32 [3 F, 3].
        faces: int32 [F, 3].
        attributes: float32 [3 F, 9]: uv, normal of the vertex, normal of the face, slot.
        pictures: float32 [slots, SIDE, SIDE, 3], linear.
        gloss, sharpness: float32 [slots].
    """

    vertices: FloatArray
    faces: npt.NDArray[np.int32]
    attributes: FloatArray
    pictures: Picture
    gloss: FloatArray
    sharpness: FloatArray


def triangles(thing: Assembly) -> Triangles:
    solid = thing.solid
    a, b, c = (solid.vertices[solid.faces[:, k]] for k in range(3))
    flat = np.cross(b - a, c - a)
    summed = np.stack(
        [
            sum(
                np.bincount(solid.faces[:, k], flat[:, axis], len(solid.vertices)) for k in range(3)
            )
            for axis in range(3)
        ],
        axis=-1,
    )
    flat, summed = _unit(flat), _unit(summed)
    corners = solid.faces.reshape(-1)
    own = np.repeat(flat, 3, 0)
    normals = np.where(np.repeat(solid.smooth, 3)[:, None], summed[corners], own)
    slots = np.repeat(solid.slots, 3)[:, None]
    return Triangles(
        solid.vertices[corners].astype(np.float32),
        np.arange(len(corners), dtype=np.int32).reshape(-1, 3),
        np.concatenate([solid.uv[corners], normals, own, slots], 1).astype(np.float32),
        np.stack([paint.picture for paint in thing.paints]) ** np.float32(2.2),
        np.array([paint.gloss for paint in thing.paints], np.float32),
        np.array([paint.sharpness for paint in thing.paints], np.float32),
    )


class Studio:
    """One object and its light; draws what cameras see."""

    def __init__(self, thing: Triangles, light: Light) -> None:
        self._thing, self._light = thing, light
        self._lamps = _lamp_cameras(light, thing.vertices)
        # Only the depth is wanted, seen from each place of the spread-out lamp.
        nothing = np.zeros((len(thing.vertices), 0), np.float32)
        self._seen = np.stack(
            [
                rasterize_mesh(thing.vertices, thing.faces, nothing, lamp, supersample=1).depth[0]
                for lamp in self._lamps
            ]
        )

    def draw(self, cameras: Cameras, *, fineness: int = 2) -> tuple[Picture, Picture]:
        """Straight sRGB colours float32 [V, H, W, 3] and coverage [V, H, W], 0..1.

        Args:
            fineness: samples per pixel and axis.
        """
        thing = self._thing
        W, H = cameras.width * fineness, cameras.height * fineness
        intrinsics = cameras.intrinsics.copy()
        intrinsics[:, :2] *= fineness
        colors, shares = [], []
        for view in range(len(cameras)):
            fine = Cameras(cameras.viewmats[view : view + 1], intrinsics[view : view + 1], W, H)
            drawn = rasterize_mesh(
                thing.vertices, thing.faces, thing.attributes, fine, supersample=1
            )
            hit = drawn.coverage[0] > 0
            picture = np.zeros((H, W, 4), np.float32)
            points = _points(fine, drawn.depth[0], hit)
            picture[hit, :3] = self._shaded(drawn.attributes[0][hit], points, fine.centres[0])
            picture[hit, 3] = 1
            small = cv2.resize(
                picture, (cameras.width, cameras.height), interpolation=cv2.INTER_AREA
            )
            share = small[..., 3]
            colors.append(small[..., :3] / np.maximum(share, 1e-6)[..., None])
            shares.append(share)
        return np.clip(np.stack(colors), 0, 1), np.clip(np.stack(shares), 0, 1)

    def lit(self, points: FloatArray, bias: float = 0.012) -> FloatArray:
        """Share of the first lamp that reaches world points [n, 3], float32 [n], 0..1."""
        total = np.zeros(len(points), np.float32)
        for lamp, depth in zip(self._lamps, self._seen, strict=True):
            local = points @ lamp.viewmats[0, :3, :3].T + lamp.viewmats[0, :3, 3]
            focal = lamp.intrinsics[0, 0, 0]
            at = local[:, :2] / local[:, 2:] * focal + SHADOW_SIDE / 2
            column, row = np.clip(at.astype(np.int64), 0, SHADOW_SIDE - 1).T
            first = depth[row, column]
            total += (first <= 0) | (local[:, 2] < first + bias)
        return np.asarray(total / len(self._lamps), np.float32)

    def _shaded(self, seen: FloatArray, points: FloatArray, centre: FloatArray) -> FloatArray:
        """sRGB float32 [n, 3] of surface points with their interpolated attributes [n, 9]."""
        thing, light = self._thing, self._light
        slot = np.rint(seen[:, 8]).astype(np.int64)
        to_eye = _unit(centre - points)
        # The winding is free: a surface looks at who sees it.
        side = np.where(_dots(seen[:, 5:8], to_eye) < 0, np.float32(-1), np.float32(1))
        normal = _unit(seen[:, 2:5]) * side[:, None]
        base = _looked_up(thing.pictures, slot, seen[:, :2])
        up = 0.5 + 0.5 * normal[:, 2:]
        color = base * (light.ground + up * (light.sky - light.ground))
        for k, (way, lamp) in enumerate(zip(light.ways, light.lamps, strict=True)):
            reach = np.clip(normal @ way, 0, None)
            middle = _unit(way + to_eye)
            shine = np.clip(_dots(normal, middle), 0, None) ** thing.sharpness[slot]
            shine *= thing.gloss[slot] * (reach > 0)
            if k == 0:
                shadow = self.lit(points + 0.01 * normal)
                reach, shine = reach * shadow, shine * shadow
            color += base * reach[:, None] * lamp + shine[:, None] * lamp
        return np.asarray(np.clip(color, 0, 1) ** (1 / 2.2), np.float32)


def _looked_up(pictures: Picture, slot: npt.NDArray[np.int64], uv: FloatArray) -> FloatArray:
    """Bilinear colours float32 [n, 3] of repeating pictures."""
    at = (uv % 1) * SIDE - 0.5
    low = np.floor(at)
    share = at - low
    x, y = low.astype(np.int64).T
    flat = pictures.reshape(-1, 3)
    start = slot * SIDE * SIDE
    total = np.zeros((len(uv), 3), np.float32)
    for i in (0, 1):
        column = (x + i) % SIDE + start
        across = share[:, 0] if i else 1 - share[:, 0]
        for j in (0, 1):
            weight = across * (share[:, 1] if j else 1 - share[:, 1])
            total += weight[:, None] * flat[(y + j) % SIDE * SIDE + column]
    return total


def _points(cameras: Cameras, depth: FloatArray, hit: npt.NDArray[np.bool_]) -> FloatArray:
    """World points float32 [n, 3] of the hit pixels of one camera."""
    K, viewmat = cameras.intrinsics[0], cameras.viewmats[0]
    row, column = np.nonzero(hit)
    z = depth[row, column]
    local = np.stack(
        [(column + 0.5 - K[0, 2]) / K[0, 0] * z, (row + 0.5 - K[1, 2]) / K[1, 1] * z, z], -1
    )
    return np.asarray((local - viewmat[:3, 3]) @ viewmat[:3, :3], np.float32)


def _lamp_cameras(light: Light, vertices: FloatArray) -> list[Cameras]:
    """Far cameras in the directions of the first lamp, which see all of the object."""
    middle = 0.5 * (vertices.min(0) + vertices.max(0))
    radius = float(np.linalg.norm(vertices - middle, axis=1).max())
    cameras = []
    for turn in (0.4, 2.5, 4.6):
        forward = -_unit(light.ways[:1].astype(np.float64))[0]
        right = _unit(np.cross(forward, [0.3, 0.2, 1.0])[None])[0]
        down = np.cross(forward, right)
        spread = np.tan(light.softness)
        forward = forward + spread * (np.cos(turn) * right + np.sin(turn) * down)
        forward = _unit(forward[None])[0]
        right = _unit(np.cross(forward, [0.3, 0.2, 1.0])[None])[0]
        viewmat = np.eye(4)
        viewmat[:3, :3] = np.stack([right, np.cross(forward, right), forward])
        viewmat[:3, 3] = -viewmat[:3, :3] @ (middle - LAMP_DISTANCE * forward)
        focal = 0.48 * SHADOW_SIDE * LAMP_DISTANCE / radius
        half = SHADOW_SIDE / 2
        K = np.array([[focal, 0, half], [0, focal, half], [0, 0, 1]])
        cameras.append(
            Cameras(
                viewmat[None].astype(np.float32),
                K[None].astype(np.float32),
                SHADOW_SIDE,
                SHADOW_SIDE,
            )
        )
    return cameras


def _dots(a: FloatArray, b: FloatArray) -> FloatArray:
    """Scalar products [n] of rows; several times as fast as a sum over an axis of three."""
    return np.asarray(np.einsum("nk,nk->n", a, b))


def _unit(vectors: npt.NDArray[F]) -> npt.NDArray[F]:
    lengths = np.sqrt(np.einsum("nk,nk->n", vectors, vectors))
    found: npt.NDArray[F] = vectors / (lengths + vectors.dtype.type(1e-12))[:, None]
    return found
