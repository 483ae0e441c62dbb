"""What made objects consist of has the size it claims, and every family makes sound objects."""

from __future__ import annotations

import numpy as np
import pytest

from training.prior.families import FAMILIES
from training.prior.families.parts import bars, bricks, circle, star_outline, with_hole
from training.prior.finishes import FINISHES
from training.prior.polygons import filled, inset, signed_area
from training.prior.primitives import (
    Blob,
    box,
    ellipsoid,
    extrude,
    lathe,
    loft,
    melt,
    random_rotation,
    rounded_box,
    superquadric,
    tube,
)
from training.prior.solids import Points, Solid, signed_volume

MOST_FACES = 15_000


def area(solid: Solid) -> float:
    a, b, c = (solid.vertices[solid.faces[:, k]] for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()) / 2


def is_sound(solid: Solid) -> bool:
    count = len(solid.faces)
    return bool(
        np.isfinite(solid.vertices).all()
        and np.isfinite(solid.uv).all()
        and count > 0
        and solid.faces.min() >= 0
        and solid.faces.max() < len(solid.vertices)
        and solid.slots.min() >= 0
        and len(solid.uv) == len(solid.vertices)
        and len(solid.slots) == len(solid.smooth) == count
    )


def test_a_box_has_side_one_and_a_slot_for_each_of_its_sides() -> None:
    solid = box()
    assert signed_volume(solid) == pytest.approx(1)
    assert area(solid) == pytest.approx(6)
    middles = solid.vertices[solid.faces].mean(1)
    for slot, (axis, sign) in enumerate((axis, sign) for axis in range(3) for sign in (1, -1)):
        np.testing.assert_allclose(middles[solid.slots == slot, axis], 0.5 * sign)


def test_a_box_s_pictures_stand_upright_and_are_not_mirrored() -> None:
    solid = box()
    front = solid.vertices[:, 0] == 0.5
    corner = front & (solid.vertices[:, 1] == -0.5) & (solid.vertices[:, 2] == 0.5)
    # The first vertex of the kind belongs to the front: left above as seen from it.
    np.testing.assert_allclose(solid.uv[np.flatnonzero(corner)[0]], [0, 0])


def test_a_rounded_box_lacks_what_its_edges_lack() -> None:
    x, y, z, r = 1.0, 2.0, 3.0, 0.2
    core = (x - 2 * r, y - 2 * r, z - 2 * r)
    faces = 2 * r * (core[0] * core[1] + core[1] * core[2] + core[2] * core[0])
    whole = np.prod(core) + faces + np.pi * r * r * sum(core) + 4 / 3 * np.pi * r**3
    solid = rounded_box((x, y, z), r)
    assert signed_volume(solid) == pytest.approx(whole, rel=0.02)
    np.testing.assert_allclose(np.ptp(solid.vertices, axis=0), [x, y, z])


def test_a_turned_cylinder_has_its_volume_area_and_slots() -> None:
    r, h = 0.4, 1.2
    solid = lathe([(0, 0), (r, 0), (r, h), (0, h)])
    assert signed_volume(solid) == pytest.approx(np.pi * r * r * h, rel=0.02)
    assert area(solid) == pytest.approx(2 * np.pi * r * (r + h), rel=0.02)
    height = solid.vertices[solid.faces][..., 2]
    np.testing.assert_array_equal(solid.slots == 1, np.ptp(height, axis=1) < 1e-9)


def test_edges_of_a_lathe_share_no_vertices() -> None:
    solid = lathe([(0, 0), (1, 0), (1, 1), (0, 1)])
    wall, lids = (np.unique(solid.faces[solid.slots == k]) for k in (0, 1))
    assert not np.intersect1d(wall, lids).size


def test_the_middle_of_a_label_faces_the_front() -> None:
    for repeat in (1, 2, 3):
        solid = lathe([(1, 0), (1, 1)], repeat=repeat)
        front = solid.uv[np.argmax(solid.vertices[:, 0])]
        assert front[0] % 1 == pytest.approx(0.5)


def test_a_vessel_holds_what_was_left_out() -> None:
    r, h, wall, floor = 0.4, 1.0, 0.05, 0.1
    profile = [(0, 0), (r, 0), (r, h), (r - wall, h), (r - wall, floor), (0, floor)]
    held = np.pi * (r * r * h - (r - wall) ** 2 * (h - floor))
    assert signed_volume(lathe(profile, 60)) == pytest.approx(held, rel=0.02)


def test_a_tube_has_its_volume_along_any_path() -> None:
    straight = tube([(0, 0, 0), (1, 1, 1)], 0.1, 32)
    assert signed_volume(straight) == pytest.approx(np.pi * 0.01 * np.sqrt(3), rel=0.02)
    turn = np.linspace(0, 2 * np.pi, 61)
    closed = tube(np.stack([np.cos(turn), np.sin(turn), 0 * turn], -1), 0.2, 32)
    assert signed_volume(closed) == pytest.approx(2 * np.pi**2 * 0.04, rel=0.02)
    round_ends = tube([(0, 0, 0), (0, 0, 1)], 0.2, 32, round_ends=True)
    capsule = np.pi * 0.04 * (1 + 4 / 3 * 0.2)
    assert signed_volume(round_ends) == pytest.approx(capsule, rel=0.03)


L_SHAPE = np.array([(0, 0), (2, 0), (2, 1), (1, 1), (1, 3), (0, 3)], float)


@pytest.mark.parametrize("outline", [L_SHAPE, L_SHAPE[::-1], star_outline(5, 0.4), circle(0.5)])
def test_a_cut_out_has_its_outline_s_area_times_its_depth(outline: Points) -> None:
    solid = extrude(outline, 0.5)
    assert signed_volume(solid) == pytest.approx(0.5 * abs(signed_area(outline)))
    front = solid.slots == 0
    np.testing.assert_allclose(solid.vertices[solid.faces[front]][..., 0], 0.25)
    bevelled = signed_volume(extrude(outline, 0.5, 0.03))
    assert 0.85 < bevelled / signed_volume(solid) < 1


def test_a_hole_stays_a_hole() -> None:
    outer, inner = circle(0.5), circle(0.2)
    solid = extrude(with_hole(outer, inner), 1.0)
    assert signed_volume(solid) == pytest.approx(signed_area(outer) - signed_area(inner))
    middles = solid.vertices[solid.faces[solid.slots == 0]].mean(1)
    assert np.hypot(middles[:, 1], middles[:, 2]).min() > 0.15


def test_triangles_fill_an_outline_once() -> None:
    for ring in (L_SHAPE, star_outline(7, 0.3), with_hole(circle(0.5), circle(0.3))):
        points, triangles = filled(ring)
        corners = points[triangles]
        a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        areas = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2
        assert areas.min() > -1e-9
        assert areas.sum() == pytest.approx(signed_area(ring))


def test_an_inset_square_is_smaller_on_every_side() -> None:
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float)
    np.testing.assert_allclose(inset(square, 0.1).min(0), 0.1)
    np.testing.assert_allclose(inset(square, 0.1).max(0), 0.9)


def test_balls_have_the_volume_of_balls() -> None:
    assert signed_volume(superquadric(1, 1, 40, 60)) == pytest.approx(np.pi / 6, rel=0.02)
    egg = ellipsoid((1, 0.5, 0.25), (3, 0, 0), 0.4, 40, 60)
    assert signed_volume(egg) == pytest.approx(4 / 3 * np.pi * 0.125, rel=0.02)
    np.testing.assert_allclose(egg.vertices.mean(0)[0], 3, atol=0.1)
    # A positive pitch lifts the front.
    assert egg.vertices[egg.vertices[:, 0].argmax(), 2] > 0.1


def test_a_loft_over_equal_squares_is_a_box() -> None:
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    sections = np.stack([np.column_stack([np.full(4, x), square]) for x in (0.0, 1.0, 2.0)])
    assert signed_volume(loft(sections)) == pytest.approx(8)


def test_melted_blobs_add_and_cut() -> None:
    unit = Blob((0, 0, 0), (1, 1, 1))
    whole = 4 / 3 * np.pi
    assert signed_volume(melt([unit], 0.01)) == pytest.approx(whole, rel=0.02)
    far = Blob((3, 0, 0), (1, 1, 1), slot=1)
    both = melt([unit, far], 0.01)
    assert signed_volume(both) == pytest.approx(2 * whole, rel=0.04)
    middles = both.vertices[both.faces].mean(1)
    np.testing.assert_array_equal(both.slots, (middles[:, 0] > 1.5).astype(int))
    bitten = melt([unit, Blob((1, 0, 0), (1, 1, 1), sign=-1)], 0.01)
    lens = np.pi * (4 + 1) / 12  # of two unit balls, their centres 1 apart
    assert signed_volume(bitten) == pytest.approx(whole - lens, rel=0.04)
    with pytest.raises(ValueError, match="nothing is left"):
        melt([unit, Blob((0, 0, 0), (2, 2, 2), sign=-1)], 0.01)


def test_rotations_keep_lengths_and_handedness() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        matrix = random_rotation(rng)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)


def test_many_bars_and_bricks_are_as_many_single_ones() -> None:
    ends = np.array([(1, 0, 0), (0, 2, 0), (0, 0, 3)], float)
    solid = bars(np.zeros((3, 3)), ends, 0.1, 4, 24)
    assert is_sound(solid)
    assert area(solid) == pytest.approx(2 * np.pi * 0.1 * (6 + 3 * 0.1), rel=0.02)
    stones = bricks((1, 2, 3), np.array([(0, 0, 0), (9, 0, 0)], float), 2)
    assert signed_volume(stones) == pytest.approx(12)
    assert set(stones.slots) == {2}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_makes_sound_objects_that_its_seed_fixes(name: str) -> None:
    family = FAMILIES[name]
    assert family.weight > 0
    assert family.rests in {"stands", "any", "flat"}
    for seed in range(3):
        shape = family.make(np.random.default_rng(seed))
        solid = shape.solid
        assert is_sound(solid)
        assert len(solid.faces) <= MOST_FACES
        assert solid.slots.max() < len(shape.finishes)
        assert set(shape.finishes) <= set(FINISHES) | {"any"}
        extent = np.ptp(solid.vertices, axis=0)
        assert extent.min() > 0.004 * extent.max()
    again = family.make(np.random.default_rng(2))
    np.testing.assert_array_equal(solid.vertices, again.solid.vertices)
    np.testing.assert_array_equal(solid.slots, again.solid.slots)
    assert shape.finishes == again.finishes
    others = [family.make(np.random.default_rng(seed)).solid.vertices for seed in range(90, 93)]
    assert any(not np.array_equal(other, solid.vertices) for other in others)
