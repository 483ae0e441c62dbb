"""Meshes as .stl and .3mf, read back by the 3MF Consortium's lib3mf and by trimesh."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace

import lib3mf
import numpy as np
import pytest
import trimesh

from pipeline.errors import InvalidInput
from pipeline.formats.stl import write_stl
from pipeline.formats.threemf import write_3mf
from pipeline.mesh.mesh_types import TexturedMesh
from pipeline.types import FloatArray
from tests.oracles.clouds import (
    MARKERS,
    coloured_ellipsoid,
    ellipsoid_color,
    marker_mesh,
    textured_ellipsoid,
)

WRITERS = {"stl": write_stl, "3mf": write_3mf}

#: Of the test's ellipsoid, whose half axes are .3, .4 and .5.
VOLUME = 4 / 3 * np.pi * 0.3 * 0.4 * 0.5


@dataclass(frozen=True)
class Read:
    """What lib3mf sees in a file of one object: float64 [V, 3], int64 [F, 3], float64 [F, 3, 3]."""

    vertices: FloatArray
    faces: np.ndarray
    colors: np.ndarray | None
    manifold: bool
    warnings: int
    unit: int


def read(data: bytes, kind: str) -> Read:
    model = lib3mf.get_wrapper().CreateModel()
    reader = model.QueryReader(kind)
    reader.SetStrictModeActive(True)
    reader.ReadFromBuffer(data)
    objects = model.GetMeshObjects()
    assert objects.MoveNext()
    mesh = objects.GetCurrentMeshObject()
    assert not objects.MoveNext()
    vertices = np.array([list(v.Coordinates) for v in mesh.GetVertices()])
    faces = np.array([list(t.Indices) for t in mesh.GetTriangleIndices()])
    groups, colors = model.GetColorGroups(), None
    if groups.MoveNext():
        group = groups.GetCurrentColorGroup()
        known = {}
        for number in group.GetAllPropertyIDs():
            color = group.GetColor(number)
            known[number] = (color.Red, color.Green, color.Blue)
        of_corner = [list(p.PropertyIDs) for p in mesh.GetAllTriangleProperties()]
        colors = np.array([[known[i] for i in corner] for corner in of_corner], float)
    return Read(
        vertices,
        faces,
        colors,
        mesh.IsManifoldAndOriented(),
        reader.GetWarningCount(),
        model.GetUnit(),
    )


def meeting_at_the_seam(mesh: TexturedMesh) -> TexturedMesh:
    """The test's ellipsoid is split at angles 0 and 2 pi, whose sines differ by rounding."""
    return replace(mesh, vertices=np.round(mesh.vertices, 5))


def volume(vertices: FloatArray, faces: np.ndarray) -> float:
    return float(trimesh.Trimesh(vertices, faces, process=False).volume)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("make", [textured_ellipsoid, coloured_ellipsoid])
@pytest.mark.parametrize("compact", [False, True])
def test_lib3mf_sees_one_closed_solid(
    name: str, make: Callable[[], TexturedMesh], compact: bool
) -> None:
    seen = read(WRITERS[name](meeting_at_the_seam(make()), compact=compact), name)
    assert seen.manifold
    assert seen.warnings == 0
    # z up, front (+x of the world) towards -y.
    low, high = seen.vertices.min(axis=0), seen.vertices.max(axis=0)
    np.testing.assert_allclose([low, high], [[-0.4, -0.3, -0.5], [0.4, 0.3, 0.5]], atol=0.003)
    assert volume(seen.vertices, seen.faces) == pytest.approx(VOLUME, rel=0.01)


def test_a_3mf_is_in_millimetres_and_has_its_colours() -> None:
    mesh = textured_ellipsoid()
    seen = read(write_3mf(mesh), "3mf")
    assert seen.unit == lib3mf.ModelUnit.MilliMeter
    assert seen.colors is not None
    # Where the mesh has its vertices, by the place in the frame of printers.
    turned = np.stack([mesh.vertices[:, 1], -mesh.vertices[:, 0], mesh.vertices[:, 2]], axis=1)
    inside = ((mesh.uvs > 0.05) & (mesh.uvs < 0.95)).all(axis=1)
    corners = seen.vertices[seen.faces].reshape(-1, 3)
    away = np.linalg.norm(turned[inside][None] - corners[::29, None], axis=2)
    near = away.argmin(axis=1)
    known = away.min(axis=1) < 1e-3
    assert known.sum() > 50
    wanted = ellipsoid_color(mesh.uvs[inside])[near[known]]
    assert np.abs(seen.colors.reshape(-1, 3)[::29][known] - wanted).max() < 8


def test_markers_have_their_colours_and_places() -> None:
    seen = read(write_3mf(marker_mesh()), "3mf")
    assert seen.colors is not None
    places = {"front": (0, -0.4, 0), "top": (0, 0, 0.4), "left": (0.4, 0, 0)}
    for name, (_, color) in MARKERS.items():
        mine = (seen.colors == color).all(axis=(1, 2))
        assert mine.sum() == 8
        middle = seen.vertices[np.unique(seen.faces[mine])].mean(axis=0)
        np.testing.assert_allclose(middle, places[name], atol=1e-4)


def test_an_stl_is_binary_and_of_the_size_it_says() -> None:
    data = write_stl(meeting_at_the_seam(textured_ellipsoid()))
    seen = trimesh.load(io.BytesIO(data), file_type="stl")
    assert seen.is_watertight
    assert seen.volume == pytest.approx(VOLUME, rel=0.01)
    assert len(data) == 84 + 50 * len(seen.faces)
    assert not data.startswith(b"solid")


def test_a_3mf_is_a_package_of_three_files() -> None:
    with zipfile.ZipFile(io.BytesIO(write_3mf(coloured_ellipsoid(8, 8)))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["[Content_Types].xml", "_rels/.rels", "3D/3dmodel.model"]


def test_a_compact_3mf_of_a_small_thing_keeps_its_digits() -> None:
    mesh = coloured_ellipsoid(8, 8)
    small, large = (replace(mesh, vertices=size * mesh.vertices) for size in (1, 100))
    assert len(write_3mf(large, compact=True)) < len(write_3mf(large))
    wanted = read(write_3mf(small), "3mf").vertices
    np.testing.assert_array_equal(read(write_3mf(small, compact=True), "3mf").vertices, wanted)
    near = read(write_3mf(large, compact=True), "3mf").vertices
    np.testing.assert_allclose(near, 100 * wanted, atol=0.0101)


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_mesh_gives_the_same_bytes(name: str) -> None:
    mesh = textured_ellipsoid(10, 10, 16)
    assert WRITERS[name](mesh) == WRITERS[name](mesh)


@pytest.mark.parametrize("name", WRITERS)
def test_an_empty_or_broken_mesh_is_refused(name: str) -> None:
    mesh = coloured_ellipsoid(4, 4)
    with pytest.raises(InvalidInput, match="no triangles"):
        WRITERS[name](replace(mesh, faces=np.zeros((0, 3), np.int32)))
    broken = mesh.vertices.copy()
    broken[3] = np.nan
    with pytest.raises(InvalidInput, match="NaN"):
        WRITERS[name](replace(mesh, vertices=broken))
