"""Samples for training: offsets, cameras and masks are those of geometry done by hand."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.engines.views.relief import relief_shape
from training.prior import placing, raster, scene
from training.prior.families import Family
from training.prior.finishes import FINISHES, load_bank
from training.prior.light import Light
from training.prior.paint import draw_paint
from training.prior.primitives import box, superquadric
from training.prior.scene import Sample, Scene, make_scene, take
from training.prior.solids import Shape, Solid, join

ROOT = Path(__file__).parents[2]


def _block(rng: np.random.Generator) -> Shape:
    return Shape(box().scaled(*rng.uniform(0.2, 1, 3)), ("label", "any", "wood", "plain") * 2)


def _ball(rng: np.random.Generator) -> Shape:
    return Shape(superquadric(1.0, rng.uniform(0.3, 1.2)).painted(0), ("glaze",))


#: Two that need nothing else.
SIMPLE = {"block": Family(_block, 2.0, "any"), "ball": Family(_ball, 1.0)}


def simple(seed: int) -> Sample:
    return take(make_scene(seed, SIMPLE))


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut-outs stay as they are."""
    monkeypatch.setattr(scene, "spoil_both", lambda rgb, alpha, back, rng: (rgb, alpha, back))


def viewed(shape: Shape, focal: float, elevation_deg: float) -> Scene:
    """A scene whose object lies as it was made, in the middle of its frame."""
    rotation = placing.camera_rotation(elevation_deg, 0.0)
    vertices = shape.solid.vertices
    seen = placing.framed(vertices @ rotation.T, focal, placing.FILL, np.zeros(2))
    eye = -rotation.T @ [0.0, 0.0, focal]
    any_scene = make_scene(1, {"it": Family(lambda rng: shape, 1.0)})
    solid = shape.solid
    return replace(
        any_scene,
        mesh=raster.make_mesh(
            seen @ rotation + eye, solid.faces, solid.uv, solid.slots, solid.smooth
        ),
        viewpoint=placing.Viewpoint(rotation, eye, focal, elevation_deg, 0.0),
    )


def fine_ball() -> Shape:
    return Shape(superquadric(1.0, 1.0, rows=120, columns=160), ("plain",))


def digest(sample: Sample) -> str:
    state = hashlib.sha256()
    for field in fields(sample):
        value = getattr(sample, field.name)
        state.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return state.hexdigest()


@pytest.mark.parametrize("focal", [0.7, 280 / 256, 4.0])
def test_offsets_of_a_ball_are_those_of_a_ball(clean: None, focal: float) -> None:
    sample = take(viewed(fine_ball(), focal, 20.0))

    # By hand: a ball of radius r at distance d; its outline is seen under r / sqrt(d^2 - r^2).
    half = placing.FILL / 2
    slope = half / focal
    r_over_d = slope / np.sqrt(1 + slope**2)
    at = (np.arange(56) + 0.5 - 28) / 64
    u, v = np.meshgrid(at, at)
    ray = np.stack([u / focal, v / focal, np.ones_like(u)], -1)
    a = (ray**2).sum(-1)
    room = np.maximum(1 - a * (1 - r_over_d**2), 0)
    first, last = (1 - np.sqrt(room)) / a, (1 + np.sqrt(room)) / a  # depths in units of d
    inside = np.hypot(u, v) < 0.9 * half  # the rim is steep: blocks are means
    # The farthest and nearest depths that are hit lie on the axis.
    offsets = [(depth - 1) * focal for depth in (first, last)]
    thick = float(offsets[1].max() - offsets[0].min())
    assert np.abs(sample.front - offsets[0])[inside].max() < 0.01 * thick
    assert np.abs(sample.back - offsets[1])[inside].max() < 0.01 * thick


def test_offsets_are_frame_widths_from_the_middle(clean: None) -> None:
    # A plate, broad side to the camera, half as thick as wide. Its front face fills the frame's
    # 200/256, so with the front at depth n and side s: s F / n = FILL, and depths n and n + s / 2.
    solid = box().scaled(0.5, 1.0, 1.0)
    for focal in (0.9, 3.0):
        sample = take(viewed(Shape(solid, ("plain",) * 6), focal, 0.0))
        near = focal / placing.FILL
        middle = near + 0.25
        assert float(sample.front[28, 28]) == pytest.approx(-0.25 * focal / middle, rel=0.01)
        assert float(sample.back[28, 28]) == pytest.approx(0.25 * focal / middle, rel=0.01)


@pytest.mark.parametrize("elevation", [-10.0, 0.0, 30.0, 60.0])
def test_elevation_is_that_of_the_axis(clean: None, elevation: float) -> None:
    # The upper face of a wide, low box slopes away from the camera by its elevation: offsets fall
    # by tan(90 - e) per unit of v there (orthographic limit).
    sample = take(viewed(Shape(box(9).scaled(1.0, 1.0, 0.02), ("plain",) * 6), 60.0, elevation))
    assert sample.elevation_deg == elevation
    if abs(elevation) < 20:
        return
    column = sample.front[:, 28].astype(np.float64)
    rows = np.flatnonzero(sample.hit[:, 28] == 255)[2:-2]
    slope = np.polyfit((rows + 0.5 - 28) / 64, column[rows], 1)[0]
    assert np.rad2deg(np.arctan(-1 / slope)) == pytest.approx(elevation, abs=0.5)


def test_masks_agree_and_maps_are_empty_outside(clean: None) -> None:
    sample = simple(3)
    covered = sample.rgba[..., 3].reshape(56, 2, 56, 2).mean((1, 3))
    assert np.abs(covered - sample.hit).max() <= 1  # both are rounded
    empty = sample.hit == 0
    for plane in (sample.front, sample.back, sample.back_color):
        assert not plane[empty].any()
    there = sample.hit > 0
    assert (sample.back >= sample.front)[there].all()
    # The nearest and the farthest hit are equally far from the middle; blocks are means.
    assert -float(sample.front.min()) == pytest.approx(float(sample.back.max()), abs=0.06)


def test_objects_fill_the_frame_and_stay_inside() -> None:
    for seed in range(12):
        hit = simple(seed).hit > 127
        rows, columns = np.flatnonzero(hit.any(1)), np.flatnonzero(hit.any(0))
        longest = max(np.ptp(rows), np.ptp(columns)) + 1
        assert 0.95 * 50 - 2 <= longest <= 1.05 * 50 + 1, seed
        assert not (hit[[0, -1]].any() or hit[:, [0, -1]].any()), seed


def test_draws_stay_in_their_ranges() -> None:
    for seed in range(12):
        view = make_scene(seed, SIMPLE).viewpoint
        assert -10 <= view.elevation_deg <= 60
        assert -3 <= view.roll_deg <= 3
        assert 0.7 <= view.focal <= 5
        # The label is the axis: the camera stands on it.
        assert np.rad2deg(np.arcsin(-view.rotation[2, 2])) == pytest.approx(view.elevation_deg)


def test_one_seed_is_one_sample_in_every_process() -> None:
    code = (
        "from tests.training.test_scene import digest, simple\n"
        "print(digest(simple(5)), digest(simple(6)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    here = [digest(simple(seed)) for seed in (5, 6)]
    assert done.stdout.split() == here
    assert here[0] != here[1]


def test_what_cannot_be_seen_is_drawn_again() -> None:
    tries: list[float] = []

    def sometimes(rng: np.random.Generator) -> Shape:
        tries.append(rng.random())
        solid = box()
        if len(tries) == 1:
            solid = Solid(
                solid.vertices, solid.faces[:0], solid.uv, solid.slots[:0], solid.smooth[:0]
            )
        if len(tries) == 2:
            solid = solid.deformed(lambda v: v * np.nan)
        return Shape(solid, ("plain",) * 6)

    assert make_scene(0, {"box": Family(sometimes, 1.0)}).attempt == 2
    assert len(set(tries)) == 3
    with pytest.raises(ValueError, match=r"No scene from seed 0.*no families"):
        make_scene(0, {})


def test_inflated_is_what_the_product_inflates() -> None:
    outlines = [simple(seed).rgba[::2, ::2, 3] >= 128 for seed in range(4)]
    y, x = np.mgrid[0:56, 0:56] - 28
    outlines += [np.hypot(x, y) < 20, (np.abs(x) < 22) & (np.abs(y) < 1), np.hypot(x, y) < 0]
    for inside in outlines:
        ours, product = raster.inflate(inside), relief_shape.inflate(inside)
        assert np.abs(ours - product).max() <= 0.02 * max(product.max(), 1e-9)


def test_every_finish_has_a_paint_and_others_are_refused() -> None:
    rng = np.random.default_rng(0)
    paint = draw_paint(rng, FINISHES, load_bank())
    assert paint.numbers.shape == (len(FINISHES), raster.PAINT_NUMBERS)
    with pytest.raises(ValueError, match="no finish 'chrome'"):
        draw_paint(rng, ("chrome",), load_bank())


@pytest.mark.parametrize("focal", [0.7, 2.0])
def test_what_points_at_the_camera_is_framed_too(focal: float) -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        rod = box(3).scaled(1.0, 0.04, 0.03).rotated(placing.random_rotation(rng)).vertices
        seen = placing.framed(rod, focal, 0.8, np.array([0.01, -0.01]))
        assert (seen[:, 2] > 0).all(), seed
        across = focal * seen[:, :2] / seen[:, 2:]
        low, high = across.min(0), across.max(0)
        assert (high - low).max() == pytest.approx(0.8, rel=1e-3), seed
        assert np.allclose((low + high) / 2, [0.01, -0.01], atol=1e-3), seed


def test_a_roof_throws_its_shadow_on_the_floor() -> None:
    floor = box(2).scaled(1.0, 1.0, 0.02)
    roof = box(2).scaled(0.4, 0.4, 0.02).shifted(z=0.5)
    solid = join([floor, roof])
    mesh = raster.make_mesh(solid.vertices, solid.faces, solid.uv, solid.slots, solid.smooth)
    paint = draw_paint(np.random.default_rng(0), ("plain",) * 6, load_bank())
    paint.numbers[:] = 0
    paint.numbers[:, 3:6] = 1.0  # white, not shiny
    slanted = np.array([0.0, 0.5, 1.0]) / np.hypot(0.5, 1.0)
    light = np.array([0, 0, 0, 0, 0, 0, 1, 1, 0, *slanted, 0.5, 0.5, 0.5, 0], np.float32)
    look = raster.Look(mesh, paint, light, raster.cast_shadow(mesh, slanted))
    # From straight above, x right and y down in the picture are -y and -x of the world.
    down = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    eye = np.array([0.0, 0.0, 100.0])
    first, _ = raster.trace((mesh.vertices - eye) @ down.T, mesh.faces, 10_000.0, 120)
    seen = raster.shade(look, first, eye, np.ones((120, 120), np.float32))[..., 0]

    lit = np.sqrt(0.5 * slanted[2])
    # By hand: the roof is .5 above the floor and the light falls .5 aside per unit of height, so
    # the shadow is the roof's square moved by -.25 along y.
    assert seen[60, 60 + 35] == pytest.approx(0.0, abs=0.02)  # y = -.35: under the shadow
    assert seen[60, 60] == pytest.approx(lit, rel=0.02)  # on the roof
    assert seen[60, 60 - 35] == pytest.approx(lit, rel=0.02)  # y = .35: sunny floor
    assert seen[60 - 35, 60 + 25] == pytest.approx(lit, rel=0.02)


def test_the_back_has_the_tones_of_the_photo() -> None:
    """A plain ball under an even sky: whatever the telephone does, both sides look alike."""
    shape = Shape(superquadric(1.0, 1.0).painted(0), ("plain",))
    apart, shifts = [], []
    for seed in range(12):
        even = np.array([0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0, 0, 0], np.float32)
        numbers = np.zeros((1, raster.PAINT_NUMBERS), np.float32)
        numbers[:, 3:6], numbers[:, 9:12] = 0.7, 0
        any_scene = replace(viewed(shape, 1.1, 20.0), seed=seed)
        ball = replace(
            any_scene,
            light=Light(np.concatenate([even, np.zeros(7, np.float32)]), 0.0),
            paint=replace(any_scene.paint, numbers=numbers),
        )
        sample = take(ball)
        inner = np.hypot(*(np.mgrid[0:56, 0:56] + 0.5 - 28)) < 10
        front = sample.rgba[::2, ::2, :3][inner].mean(0)
        back = sample.back_color[inner].mean(0)
        apart.append(np.abs(front - back).max())
        shifts.append(np.abs(back - 255 * 0.7 * np.sqrt(0.4)).max())
    assert np.median(apart) < 6
    assert max(shifts) > 20
