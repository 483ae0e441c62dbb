"""A model of several parts becomes one mesh of as many closed surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import trimesh

from pipeline.control import Control, Progress
from pipeline.errors import Cancelled, InvalidInput
from pipeline.geometry.unit_frame import UnitFrame
from pipeline.mesh import extract_parts as extract_parts_module
from pipeline.mesh.build import MeshRequest, build_mesh
from pipeline.mesh.extract import Sampling, Surface
from pipeline.mesh.extract_parts import Surfaces, extract_parts
from pipeline.mesh.mesh_types import TriangleMesh
from pipeline.mesh.parts import Parts, find_parts
from pipeline.mesh.simplify import simplify_carefully, unite
from pipeline.types import SplatModel
from tests.oracles.shells import (
    RADIUS,
    Flaws,
    cover,
    cup,
    earring,
    moved,
    saucer,
    shell,
    together,
)

BALL = 4 / 3 * np.pi * RADIUS**3

#: How far apart the two balls of `pair` are, in the world.
PLACE = 0.5


def ball(count: int = 6000) -> SplatModel:
    return cover(trimesh.creation.icosphere(4, RADIUS), count)


def pair() -> SplatModel:
    return together(moved(ball(), (0, PLACE, 0)), moved(ball(), (0, -PLACE, 0)))


def a_large_one_and_a_small_one() -> SplatModel:
    """Of radius .3 and, .14 away from it, of radius .08."""
    return together(moved(ball(), (0, 0, 0), 0.75), moved(ball(2000), (0, 0.5, -0.15), 0.2))


def table() -> SplatModel:
    """A cup beside its saucer, and a pair of earrings of thin wire."""
    ring = cover(earring(), 3000)
    return together(
        moved(cover(cup(), 9000), (0, -0.2, 0)),
        moved(cover(saucer(), 8000), (0, 0.05, 0)),
        moved(ring, (0.2, 0.0, 0.2)),
        moved(ring, (0.2, 0.25, 0.2)),
    )


@dataclass(frozen=True)
class Found:
    """Surfaces in the world, the largest volume first, as trimesh reads them."""

    surfaces: Surfaces
    solids: list[trimesh.Trimesh]


def found(model: SplatModel, face_limit: int = 2000) -> Found:
    frame = UnitFrame.of(model)
    unit = frame.to_unit(model)
    surfaces = extract_parts(unit, find_parts(unit), face_limit, Control())
    solids = [
        trimesh.Trimesh(frame.to_world(m.vertices), m.faces, process=False) for m in surfaces.meshes
    ]
    return Found(surfaces, sorted(solids, key=lambda s: -s.volume))


@cache
def found_pair() -> Found:
    return found(pair())


def check(solids: list[trimesh.Trimesh]) -> None:
    """Each is one closed surface turned outwards, and none lies inside another."""
    for solid in solids:
        assert solid.is_watertight
        assert solid.is_winding_consistent
        assert solid.body_count == 1
        assert solid.volume > 0
    for one in solids:
        for other in solids:
            if one is not other:
                low, high = other.bounds
                assert not ((one.bounds[0] > low) & (one.bounds[1] < high)).all()


def test_of_two_equal_balls_both_are_there() -> None:
    two = found_pair()
    check(two.solids)
    assert [s.volume for s in two.solids] == pytest.approx([BALL, BALL], rel=0.04)
    assert [s.euler_number for s in two.solids] == [2, 2]
    middles = sorted(float(s.center_mass[1]) for s in two.solids)
    assert middles == pytest.approx([-PLACE, PLACE], abs=0.005)
    faces = [len(s.faces) for s in two.solids]
    assert sum(faces) <= 2000
    assert faces[0] == pytest.approx(faces[1], rel=0.05)
    assert two.surfaces.notes == ()


def test_the_same_model_gives_the_same_bits() -> None:
    again = found(pair())
    for mine, theirs in zip(found_pair().surfaces.meshes, again.surfaces.meshes, strict=True):
        assert mine.vertices.tobytes() == theirs.vertices.tobytes()
        assert mine.faces.tobytes() == theirs.faces.tobytes()


def test_a_small_ball_beside_a_large_one_has_faces_by_its_area() -> None:
    both = found(a_large_one_and_a_small_one())
    check(both.solids)
    large, small = both.solids
    assert large.volume == pytest.approx(BALL * 0.75**3, rel=0.04)
    assert small.volume == pytest.approx(BALL * 0.2**3, rel=0.06)
    share = 0.2**2 / (0.75**2 + 0.2**2)
    assert len(small.faces) / 2000 == pytest.approx(share, rel=0.25)
    assert both.surfaces.notes == ()


def test_a_cup_its_saucer_and_earrings_are_four_surfaces() -> None:
    four = found(table())
    check(four.solids)
    assert [s.euler_number for s in four.solids] == [2, 2, 0, 0]  # a ring has a hole
    # Splats reach .001 beyond the surface: much for a wall of .025 and a wire of .024.
    wanted = [cup().volume, saucer().volume, earring().volume, earring().volume]
    assert [s.volume for s in four.solids] == pytest.approx(wanted, rel=0.25)
    assert four.solids[0].bounds[1][2] == pytest.approx(0.15, abs=0.005)
    # The cup is hollow: a place above its floor is not in it.
    away = np.linalg.norm(four.solids[0].vertices - [0.0, -0.2, 0.09], axis=1)
    assert away.min() == pytest.approx(0.055, abs=0.006)


def test_the_mesh_of_two_parts_has_one_texture() -> None:
    built = build_mesh(pair(), MeshRequest(500, 128), Control())
    assert built.parts == 2
    mesh = built.mesh
    sewn = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    sewn.merge_vertices(merge_tex=True, merge_norm=True)
    assert sewn.is_watertight
    assert sewn.body_count == 2
    assert sewn.volume == pytest.approx(2 * BALL, rel=0.06)
    assert len(mesh.faces) <= 500
    assert mesh.texture is not None
    assert mesh.texture.shape == (128, 128, 3)
    assert built.notes == ()


def test_near_splats_are_one_part_and_far_ones_are_two() -> None:

    def parts_at(gap: float) -> int:
        model = together(ball(), moved(ball(), (0, 2 * RADIUS + gap, 0)))
        return len(find_parts(UnitFrame.of(model).to_unit(model)))

    assert parts_at(0.0) == 1
    assert parts_at(0.2) == 2


def test_two_balls_nearer_than_the_gaps_between_splats_are_two_surfaces_all_the_same() -> None:
    near = together(moved(ball(), (0, -0.43, 0)), moved(ball(), (0, 0.43, 0)))
    unit = UnitFrame.of(near).to_unit(near)
    assert len(find_parts(unit)) == 1
    two = found(near)
    check(two.solids)
    assert [s.volume for s in two.solids] == pytest.approx([BALL, BALL], rel=0.05)
    assert sum(len(s.faces) for s in two.solids) <= 2000
    assert two.surfaces.notes == ()


@pytest.mark.parametrize("flaws", [None, Flaws(noise=0.005, faint=True, floaters=0.02)])
def test_one_ragged_cloud_is_one_part(flaws: Flaws | None) -> None:
    for kind, count in (("sphere", 20_000), ("torus", 3000)):
        model = shell(kind, count, flaws=flaws)
        unit = UnitFrame.of(model).to_unit(model)
        parts = find_parts(unit)
        assert len(parts) == 1
        assert (parts.of_splat == 0).all()


def test_specks_are_left_out_and_said() -> None:
    speck = moved(shell("sphere", 60), (0, 0, 0.6), 0.01)
    two = together(pair(), speck)
    parts = find_parts(UnitFrame.of(two).to_unit(two))
    assert (len(parts), parts.dust) == (2, 1)
    assert (parts.of_splat[-60:] == -1).all()
    assert (parts.of_splat[:-60] >= 0).all()
    small = Parts(parts.of_splat, parts.shares, dust=1, beyond=3)
    unit = UnitFrame.of(two).to_unit(two)
    surfaces = extract_parts(unit, small, 200, Control())
    assert not surfaces.shown[-60:].any()
    assert surfaces.shown[:-60].all()
    dust, beyond = surfaces.notes
    assert dust.startswith("1 specks beside the 2 parts")
    assert beyond.startswith("3 small parts were left out: only the 2 largest")


def test_too_few_faces_for_all_parts_leave_the_smallest_out() -> None:
    five = together(*(moved(ball(1000), (0, 1.2 * i, 0)) for i in range(5)))
    unit = UnitFrame.of(five).to_unit(five)
    parts = find_parts(unit)
    assert len(parts) == 5
    surfaces = extract_parts(unit, parts, 100, Control())
    assert len(surfaces.meshes) == 4
    assert sum(len(m.faces) for m in surfaces.meshes) <= 100
    assert any("1 small parts were left out: 100 faces" in note for note in surfaces.notes)


def test_a_part_without_a_surface_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = UnitFrame.of(pair()).to_unit(pair())
    parts, calls = find_parts(unit), list[int]()

    def none_has_one(*_: object, **__: object) -> Surface:
        raise InvalidInput("The model has no surface: nothing in it is opaque from all around.")

    def the_first_has_one(model: SplatModel, *_: object, **__: object) -> Surface:
        calls.append(len(model))
        return Surface(solid(1.0), 9, ()) if len(calls) == 1 else none_has_one()

    monkeypatch.setattr(extract_parts_module, "extract_surface", the_first_has_one)
    surfaces = extract_parts(unit, parts, 2000, Control())
    assert len(surfaces.meshes) == 1
    assert surfaces.shown.tolist() == (parts.of_splat == 0).tolist()
    assert surfaces.notes == (
        "Part 2 of 2: It was left out: nothing in it is opaque from all around.",
    )
    monkeypatch.setattr(extract_parts_module, "extract_surface", none_has_one)
    with pytest.raises(InvalidInput, match="nothing in it is opaque from all around"):
        extract_parts(unit, parts, 2000, Control())


def solid(radius: float, place: float = 0.0) -> TriangleMesh:
    made = trimesh.creation.icosphere(3, radius)
    made.apply_translation([place, 0, 0])
    return TriangleMesh(made.vertices.astype(np.float32), made.faces.astype(np.int32))


def volume(meshes: tuple[TriangleMesh, ...]) -> float:
    return sum(trimesh.Trimesh(m.vertices, m.faces, process=False).volume for m in meshes)


def test_what_lies_inside_another_part_is_gone_and_what_overlaps_is_one() -> None:
    apart = (solid(0.5), solid(0.2, 0.8))
    assert unite(apart, Control()) == apart
    (outer,) = unite((solid(0.5), solid(0.2)), Control())
    assert volume((outer,)) == pytest.approx(volume((solid(0.5),)), rel=1e-6)
    (both,) = unite((solid(0.5), solid(0.4, 0.7)), Control())
    # Two balls less their lens (MathWorld, "Sphere-Sphere Intersection").
    d, R, r = 0.7, 0.5, 0.4
    lens = np.pi * (R + r - d) ** 2 * (d**2 + 2 * d * (r + R) - 3 * (r - R) ** 2) / (12 * d)
    wanted = 4 / 3 * np.pi * (R**3 + r**3) - lens
    assert volume((both,)) == pytest.approx(wanted, rel=0.03)
    again = unite((solid(0.5), solid(0.4, 0.7)), Control())[0]
    assert both.vertices.tobytes() == again.vertices.tobytes()


def test_what_tears_is_simplified_by_taking_off_what_is_small_first() -> None:
    x, y, z = np.meshgrid(*[np.linspace(-1.05, 1.05, 40)] * 3, indexing="ij")
    ripple = 0.05 * np.sin(25 * x) * np.sin(25 * y) * np.sin(25 * z)
    from skimage import measure

    vertices, faces, _, _ = measure.marching_cubes(np.sqrt(x**2 + y**2 + z**2) - 0.8 + ripple, 0.0)
    mesh = TriangleMesh(
        (vertices * 2.1 / 39 - 1.05).astype(np.float32), faces[:, ::-1].astype(np.int32)
    )
    if volume((mesh,)) < 0:
        mesh = TriangleMesh(mesh.vertices, mesh.faces[:, ::-1].copy())
    simple = simplify_carefully(mesh, 400, Control())
    assert simple is not None
    assert len(simple.faces) <= 400
    made = trimesh.Trimesh(simple.vertices, simple.faces, process=False)
    assert made.is_watertight
    assert made.euler_number == 2
    assert made.volume == pytest.approx(volume((mesh,)), rel=0.05)


def test_parts_are_sampled_by_their_size() -> None:
    assert Sampling.of_part(1.0) == Sampling(128, 256)
    assert Sampling.of_part(0.5) == Sampling(96, 192)
    assert Sampling.of_part(0.01) == Sampling(64, 128)


def test_a_stop_is_heard_between_parts() -> None:
    control, seen = Control(), list[Progress]()

    def stop_at_the_second(progress: Progress) -> None:
        seen.append(progress)
        if progress.fraction > 0.5:
            control.stop.set()

    unit = UnitFrame.of(pair()).to_unit(pair())
    with pytest.raises(Cancelled):
        extract_parts(unit, find_parts(unit), 500, Control(control.stop, stop_at_the_second))
    assert [p.fraction for p in seen] == sorted(p.fraction for p in seen)
