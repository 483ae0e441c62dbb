"""The mesh rasteriser against shapes whose images are known exactly."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator

import numpy as np
import pytest
import trimesh

from pipeline import native
from pipeline.errors import InvalidInput
from pipeline.geometry.cameras import rig_cameras
from pipeline.mesh.mesh_raster import rasterize_mesh
from pipeline.types import Cameras

RADIUS = 0.4


def front_camera(width: int = 32, height: int = 24, focal: float = 32.0) -> Cameras:
    """At the origin, looking along +z: a point (x, y, z) lands on focal * (x, y) / z + centre."""
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float32)
    return Cameras(np.eye(4, dtype=np.float32)[None], K[None], width, height)


def sphere(subdivisions: int = 5) -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.creation.icosphere(subdivisions, RADIUS)
    return mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32)


def square_of_pixels(x0: int, y0: int, x1: int, y1: int, z: float = 2.0) -> np.ndarray:
    """Corners [4, 3] of pixels [x0, x1) x [y0, y1) of `front_camera`, in order around."""
    pixels = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)
    points = np.concatenate([(pixels - [16, 12]) * z / 32.0, np.full((4, 1), z)], 1)
    return points.astype(np.float32)


SQUARE = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


@pytest.mark.parametrize("supersample", [1, 2, 3])
def test_square_covers_exactly_its_pixels(supersample: int) -> None:
    vertices = square_of_pixels(5, 3, 21, 10)
    drawn = rasterize_mesh(vertices, SQUARE, vertices, front_camera(), supersample=supersample)
    wanted = np.zeros((24, 32), np.float32)
    wanted[3:10, 5:21] = 1
    np.testing.assert_array_equal(drawn.coverage[0], wanted)
    np.testing.assert_allclose(drawn.depth[0], 2 * wanted, rtol=1e-6)
    # Attributes are the positions, so each pixel holds its own centre.
    ys, xs = np.mgrid[3:10, 5:21] + 0.5
    centres = np.stack([(xs - 16) * 2 / 32, (ys - 12) * 2 / 32, np.full(xs.shape, 2.0)], -1)
    np.testing.assert_allclose(drawn.attributes[0, 3:10, 5:21], centres, atol=1e-6)
    assert not drawn.attributes[0][wanted == 0].any()


def test_half_covered_pixels_are_half_covered() -> None:
    vertices = square_of_pixels(5, 3, 21, 10)
    vertices[:, 0] += 0.5 * 2 / 32
    drawn = rasterize_mesh(vertices, SQUARE, vertices, front_camera(), supersample=2)
    np.testing.assert_array_equal(drawn.coverage[0, 3:10, 5], 0.5)
    np.testing.assert_array_equal(drawn.coverage[0, 3:10, 21], 0.5)
    np.testing.assert_allclose(drawn.attributes[0, 3:10, 5, 2], 2.0, rtol=1e-6)


def test_shared_edges_are_drawn_exactly_once() -> None:
    """Faces around one point at 16 places: drawn alone, they add up to the square they tile."""
    rng = np.random.default_rng(0)
    for _ in range(16):
        # Through pixel centres, where a sloppy rule counts twice or not at all.
        x, y = rng.integers(2, 30) + 0.5, rng.integers(2, 22) + 0.5
        vertices = np.concatenate([square_of_pixels(0, 0, 32, 24), [[0, 0, 2.0]]]).astype(
            np.float32
        )
        vertices[4, :2] = [(x - 16) * 2 / 32, (y - 12) * 2 / 32]
        total = np.zeros((24, 32), np.float32)
        for a in range(4):
            face = np.array([[a, (a + 1) % 4, 4]], np.int32)
            if a % 2:
                face = face[:, ::-1]  # windings do not matter
            total += rasterize_mesh(
                vertices, face, vertices, front_camera(), supersample=1
            ).coverage[0]
        np.testing.assert_array_equal(total, 1.0)


def test_closed_mesh_has_no_cracks() -> None:
    vertices, faces = sphere(4)
    drawn = rasterize_mesh(vertices, faces, vertices, rig_cameras(64), supersample=3)
    for coverage in drawn.coverage:
        inside = np.argwhere(coverage > 0)
        for y in np.unique(inside[:, 0]):
            row = coverage[
                y, inside[inside[:, 0] == y][0, 1] : inside[inside[:, 0] == y][-1, 1] + 1
            ]
            assert (row[1:-1] > 0).all()
            assert (coverage[y] == 1).sum() >= len(row) - 12  # only the rim is partly covered


def test_sphere_has_the_depth_of_a_sphere() -> None:
    vertices, faces = sphere()
    cameras = rig_cameras(128)
    drawn = rasterize_mesh(vertices, faces, vertices, cameras, supersample=1)
    ys, xs = np.mgrid[0:128, 0:128] + 0.5
    focal = cameras.intrinsics[0, 0, 0]
    rays = np.stack([(xs - 64) / focal, (ys - 64) / focal, np.ones_like(xs)], -1)
    for view in range(len(cameras)):
        centre = cameras.viewmats[view, :3, 3].astype(np.float64)
        a, b = (rays**2).sum(-1), rays @ centre
        discriminant = b * b - a * (centre @ centre - RADIUS**2)
        # Facets lie up to 1e-4 inside of the sphere; at the rim that moves depth by more.
        clear = discriminant > 0.02
        depth = (b - np.sqrt(np.where(clear, discriminant, 0))) / a
        np.testing.assert_allclose(drawn.depth[view][clear], depth[clear], atol=1e-3)
        assert not drawn.coverage[view][discriminant < -0.001].any()


def test_interpolation_is_in_perspective() -> None:
    """A strip that recedes from z = 1 to z = 5 with z as its attribute."""
    vertices = np.array([[-1, 0.2, 1], [1, 0.2, 1], [1, 0.2, 5], [-1, 0.2, 5]], np.float32)
    drawn = rasterize_mesh(vertices, SQUARE, vertices[:, 2:], front_camera(), supersample=1)
    covered = drawn.coverage[0] > 0
    assert covered.sum() > 50
    np.testing.assert_allclose(
        drawn.attributes[0][covered][:, 0], drawn.depth[0][covered], rtol=1e-5
    )
    rows = np.argwhere(covered)[:, 0] + 0.5
    # Corners are rounded to 1/256 pixel: 1/512 of the 1.5 pixels between horizon and first row.
    np.testing.assert_allclose(drawn.depth[0][covered], 0.2 * 32 / (rows - 12), rtol=1.5e-3)


def test_faces_are_cut_at_the_near_plane() -> None:
    """A floor that passes under the camera: what is in front is drawn, nothing behind is."""
    vertices = np.array([[-9, 0.2, -5], [9, 0.2, -5], [9, 0.2, 5], [-9, 0.2, 5]], np.float32)
    drawn = rasterize_mesh(vertices, SQUARE, vertices, front_camera(), supersample=1)
    rows = np.arange(24) + 0.5
    depth = np.where(rows > 12, 0.2 * 32 / np.maximum(rows - 12, 1e-9), np.inf)
    np.testing.assert_array_equal(drawn.coverage[0, :, 16], depth < 5)
    np.testing.assert_allclose(drawn.depth[0, depth < 5, 16], depth[depth < 5], rtol=1e-3)


def test_the_nearest_face_wins() -> None:
    near, far = square_of_pixels(8, 6, 16, 12, z=1.0), square_of_pixels(4, 4, 20, 20, z=3.0)
    vertices, faces = np.concatenate([far, near]), np.concatenate([SQUARE, SQUARE + 4])
    attributes = np.repeat([[3.0], [1.0]], 4, axis=0).astype(np.float32)
    for order in (faces, faces[::-1]):
        drawn = rasterize_mesh(vertices, order, attributes, front_camera())
        np.testing.assert_allclose(drawn.attributes[0, 6:12, 8:16], 1, rtol=1e-6)
        np.testing.assert_allclose(drawn.attributes[0, 12:20, 4:20], 3, rtol=1e-6)


def test_empty_mesh_is_an_empty_image() -> None:
    nothing = np.zeros((0, 3), np.float32)
    drawn = rasterize_mesh(nothing, np.zeros((0, 3), np.int32), nothing, front_camera())
    assert not drawn.coverage.any() and not drawn.depth.any() and not drawn.attributes.any()


@pytest.fixture
def restore_threads() -> Iterator[None]:
    yield
    native.set_threads(native.default_threads())


def test_result_does_not_depend_on_the_number_of_threads(restore_threads: None) -> None:
    vertices, faces = sphere(3)
    results = []
    for threads in (1, 2):
        native.set_threads(threads)
        results.append(rasterize_mesh(vertices, faces, vertices, rig_cameras(48)))
    np.testing.assert_array_equal(results[0].attributes, results[1].attributes)
    np.testing.assert_array_equal(results[0].depth, results[1].depth)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"vertices": np.full((4, 3), np.nan, np.float32)}, "vertices contains NaN"),
        ({"attributes": np.full((4, 1), np.inf, np.float32)}, "attributes contains NaN or inf"),
        ({"attributes": np.zeros((3, 1), np.float32)}, "one row per vertex"),
        ({"vertices": np.zeros((4, 2), np.float32)}, "vertices must be"),
        ({"faces": np.array([[0, 1, 4]], np.int32)}, "indices from 0 to 3"),
        ({"faces": np.array([[0, 1, -1]], np.int32)}, "indices from 0 to 3"),
        ({"faces": np.zeros((1, 4), np.int32)}, "faces must be integers"),
        ({"supersample": 0}, "supersample"),
        ({"cameras": front_camera(width=4097)}, "1 to 4096 pixels wide.*supersample 2, got 4097"),
        ({"cameras": front_camera(width=1025), "supersample": 8}, "1 to 1024 pixels"),
    ],
)
def test_wrong_input_is_an_error_that_names_it(change: dict[str, object], text: str) -> None:
    vertices = square_of_pixels(0, 0, 4, 4)
    arguments = {
        "vertices": vertices,
        "faces": SQUARE,
        "attributes": vertices,
        "cameras": front_camera(),
    }
    with pytest.raises(InvalidInput, match=text):
        rasterize_mesh(**(arguments | change))


def test_too_little_memory_is_an_error_and_not_the_end_of_the_process() -> None:
    """In a process of its own that may take 300 MB more, where 2 x 1 GB are asked for."""
    script = """
        import resource
        import numpy as np
        from pathlib import Path
        from pipeline import native
        from pipeline.geometry.cameras import orbit_cameras
        from pipeline.errors import OutOfMemory
        from pipeline.mesh.mesh_raster import rasterize_mesh

        native.load_library()
        native.set_threads(2)
        triangle = np.array([[0, 0, 0], [0, 0.1, 0], [0, 0, 0.1]], np.float32)
        face = np.array([[0, 1, 2]], np.int32)

        def draw(size, supersample):
            cameras = orbit_cameras([0.0, 90.0], [0.0, 0.0], size=size)
            nothing = np.zeros((3, 0), np.float32)
            return rasterize_mesh(triangle, face, nothing, cameras, supersample=supersample)

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000, -1))
        try:
            draw(1024, 8)
        except OutOfMemory as error:
            print(error.code, draw(32, 2).coverage.any())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "out_of_memory True"), done.stderr
