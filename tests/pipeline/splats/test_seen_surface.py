"""What photos saw of a surface: against spheres, whose seen caps can be computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry.cameras import orbit_cameras, photo_camera, surround_cameras
from pipeline.geometry.line_of_sight import seen_through
from pipeline.geometry.projection import pixel_rays
from pipeline.rig import RADIUS as DISTANCE
from pipeline.splats.seen_surface import find_seen_surface
from pipeline.types import Cameras, FloatArray
from tests.oracles.shells import RADIUS, shell

#: Dense enough that it cannot be seen through.
SPHERE = shell("sphere", 20_000)

#: Of a sphere's surface, what lies nearer than the tangents from a camera: (1 - r / d) / 2.
CAP = (1 - RADIUS / DISTANCE) / 2


def sphere_depth(cameras: Cameras, centre: tuple[float, float, float], radius: float) -> FloatArray:
    """Exact z-depth of a sphere, 0 beside it."""
    maps = []
    for view in range(len(cameras)):
        rays = pixel_rays(cameras, view, np.float64)
        viewmat = cameras.viewmats[view].astype(float)
        middle = viewmat[:3, :3] @ np.array(centre) + viewmat[:3, 3]
        a, b = (rays**2).sum(-1), rays @ middle
        inside = b**2 - a * (middle @ middle - radius**2)
        maps.append(np.where(inside > 0, (b - np.sqrt(inside.clip(0))) / a, 0))
    return np.stack(maps).astype(np.float32)


def joined(*depths: FloatArray) -> FloatArray:
    """The nearer surface of several."""
    nearest = np.minimum.reduce([np.where(d > 0, d, np.inf) for d in depths])
    return np.where(np.isfinite(nearest), nearest, 0).astype(np.float32)


@pytest.mark.parametrize("elevation_deg", [0.0, 50.0])
def test_one_photo_sees_the_cap_of_a_sphere(elevation_deg: float) -> None:
    found = find_seen_surface(SPHERE, photo_camera(elevation_deg))
    assert found.share == pytest.approx(CAP, abs=0.03)


def test_photos_from_opposite_sides_add_up_and_the_same_one_twice_does_not() -> None:
    opposite = orbit_cameras([0.0, 180.0], [0.0, 0.0], size=512)
    assert find_seen_surface(SPHERE, opposite).share == pytest.approx(2 * CAP, abs=0.06)
    twice = find_seen_surface(SPHERE, orbit_cameras([0.0, 0.0], [0.0, 0.0])).share
    assert twice == find_seen_surface(SPHERE, orbit_cameras([0.0], [0.0])).share


def test_what_is_seen_faces_the_camera() -> None:
    """The one view of `surround_cameras` nearest to the photo sees the same, the farthest none."""
    cameras = surround_cameras(24, size=96)
    photo = photo_camera(0.0)
    toward = cameras.centres @ photo.centres[0]
    found = find_seen_surface(SPHERE, photo)
    surface = found.rendering.alphas > 0.5
    shares = (found.seen & surface).sum((1, 2)) / surface.sum((1, 2))
    assert shares[np.argmax(toward)] > 0.75
    assert shares[np.argmin(toward)] < 0.02
    assert not found.seen[~(found.rendering.median_depth > 0)].any()


def test_a_ball_behind_another_is_not_seen() -> None:
    photo, around = photo_camera(0.0), surround_cameras(24, size=96)
    front, behind = (0.3, 0.0, 0.0), (-0.3, 0.0, 0.0)
    photo_depth = joined(*(sphere_depth(photo, at, 0.2) for at in (front, behind)))
    depth_behind = sphere_depth(around, behind, 0.2)
    alone = seen_through(sphere_depth(photo, behind, 0.2), photo, depth_behind, around)
    hidden = seen_through(photo_depth, photo, depth_behind, around)
    # The front one is nearer and so looks larger: nothing of the other is left.
    assert alone.sum() > 0.3 * (depth_behind > 0).sum()
    assert hidden.sum() < 0.02 * (depth_behind > 0).sum()


def test_the_back_of_a_sheet_is_not_seen_from_its_front() -> None:
    """However thin: a disc of splats across the way of the photo."""
    rng = np.random.default_rng(0)
    places = rng.uniform(-0.35, 0.35, (6_000, 3)).astype(np.float32)
    places[:, 0] = 0.002 * rng.standard_normal(len(places))
    disc = replace(
        SPHERE.select(np.arange(6_000)),
        means=places,
        log_scales=np.full((6_000, 3), np.log(0.008), np.float32),
        logit_opacities=np.full(6_000, 4, np.float32),
    )
    found = find_seen_surface(disc, photo_camera(0.0))
    assert found.share == pytest.approx(0.5, abs=0.04)


def test_a_model_without_a_surface_has_no_share() -> None:
    nothing = SPHERE.select(np.zeros(len(SPHERE), bool))
    assert find_seen_surface(nothing, photo_camera(0.0)).share is None
