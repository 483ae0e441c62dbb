"""Meshes as .glb, .obj.zip and .usdz, read back by trimesh and OpenUSD."""

import concurrent.futures
import io
import struct
import tempfile
import threading
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from PIL import Image
from pxr import Usd, UsdGeom, UsdShade, UsdUtils, UsdValidation

from pipeline.errors import InvalidInput
from pipeline.formats.encoded_texture import linear_from_srgb
from pipeline.formats.glb import write_glb
from pipeline.formats.obj import write_obj
from pipeline.formats.usdz import write_usdz
from pipeline.geometry.frames import GLTF_FROM_WORLD
from tests.oracles.clouds import (
    MARKERS,
    MARKERS_IN_GLTF,
    coloured_ellipsoid,
    ellipsoid_color,
    marker_mesh,
    textured_ellipsoid,
)

WRITERS = {"glb": write_glb, "obj": write_obj, "usdz": write_usdz}


def load_glb(data):
    return trimesh.load(io.BytesIO(data), file_type="glb", force="mesh", process=False)


def load_obj(data, folder):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(folder)
    return trimesh.load(folder / "model.obj", force="mesh", process=False, maintain_order=True)


def open_usdz(data, folder):
    path = folder / "model.usdz"
    path.write_bytes(data)
    stage = Usd.Stage.Open(str(path))
    return stage, UsdGeom.Mesh(stage.GetPrimAtPath("/Model/Surface"))


def closed_volume(vertices, faces):
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def test_the_test_mesh_is_a_closed_ellipsoid_with_normals_outward():
    mesh = textured_ellipsoid()
    volume = closed_volume(mesh.vertices, mesh.faces)
    assert volume == pytest.approx(4 / 3 * np.pi * 0.3 * 0.4 * 0.5, rel=0.01)
    assert (np.einsum("ij,ij->i", mesh.vertices, mesh.normals) > 0).all()


def test_linear_light_of_srgb():
    # Values of IEC 61966-2-1: black, the end of its straight part, middle grey, white.
    linear = linear_from_srgb(np.array([0, 0.04045, 0.5, 1]))
    np.testing.assert_allclose(linear, [0, 0.0031308, 0.2140411, 1], atol=1e-7)


@pytest.mark.parametrize("compact", [False, True])
def test_obj_as_trimesh_reads_it(tmp_path, compact):
    mesh = textured_ellipsoid()
    seen = load_obj(write_obj(mesh, compact=compact), tmp_path)
    assert (len(seen.vertices), len(seen.faces)) == (len(mesh.vertices), len(mesh.faces))
    wanted = mesh.vertices @ GLTF_FROM_WORLD.T
    # Half of the last decimal.
    np.testing.assert_allclose(seen.vertices, wanted, atol=6e-5 if compact else 6e-7)
    np.testing.assert_array_equal(seen.faces, mesh.faces)
    assert closed_volume(np.asarray(seen.vertices), np.asarray(seen.faces)) > 0
    rgb = seen.visual.to_color().vertex_colors[:, :3].astype(float)
    inside = _away_from_the_seam(mesh)
    # trimesh takes the nearest texel of 256: 3/255 for the steepest of the three ramps.
    assert np.abs(rgb - ellipsoid_color(mesh.uvs))[inside].max() < (7 if compact else 4)


def _away_from_the_seam(mesh):
    """Vertices whose nearest texel is not a matter of rounding at the texture's border."""
    return ((mesh.uvs > 0.01) & (mesh.uvs < 0.99)).all(axis=1)


def test_obj_has_a_material_that_does_not_darken_and_three_flat_files():
    with zipfile.ZipFile(io.BytesIO(write_obj(textured_ellipsoid()))) as archive:
        assert archive.namelist() == ["model.obj", "model.mtl", "albedo.png"]
        material = archive.read("model.mtl").decode()
        assert Image.open(io.BytesIO(archive.read("albedo.png"))).size == (256, 256)
        assert b"mtllib model.mtl" in archive.read("model.obj")
    assert material.splitlines() == [
        "newmtl surface",
        "Kd 1 1 1",
        "Ks 0 0 0",
        "d 1",
        "illum 1",
        "map_Kd albedo.png",
    ]
    with zipfile.ZipFile(io.BytesIO(write_obj(textured_ellipsoid(), compact=True))) as archive:
        assert b"map_Kd albedo.jpg" in archive.read("model.mtl")
        assert Image.open(io.BytesIO(archive.read("albedo.jpg"))).format == "JPEG"


def test_obj_carries_colours_per_vertex(tmp_path):
    mesh = coloured_ellipsoid()
    seen = load_obj(write_obj(mesh), tmp_path)
    np.testing.assert_array_equal(seen.visual.vertex_colors[:, :3], mesh.colors)
    assert [p.name for p in tmp_path.iterdir()] == ["model.obj"]


def test_glb_as_trimesh_reads_it():
    mesh = textured_ellipsoid()
    seen = load_glb(write_glb(mesh))
    np.testing.assert_allclose(seen.vertices, mesh.vertices @ GLTF_FROM_WORLD.T, atol=1e-7)
    np.testing.assert_array_equal(seen.faces, mesh.faces)
    rgb = seen.visual.to_color().vertex_colors[:, :3].astype(float)
    inside = _away_from_the_seam(mesh)
    assert np.abs(rgb - ellipsoid_color(mesh.uvs))[inside].max() < 4
    assert np.array_equal(np.asarray(seen.visual.material.baseColorTexture), mesh.texture)


def test_glb_indices_have_32_bits_only_where_16_do_not_suffice():
    small = load_glb(write_glb(textured_ellipsoid(20, 20, 8)))
    assert len(small.faces) == len(textured_ellipsoid(20, 20, 8).faces)
    large = textured_ellipsoid(300, 300, 8)
    assert len(large.vertices) > 65535
    np.testing.assert_array_equal(load_glb(write_glb(large)).faces, large.faces)


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("unlit", [False, True])
@pytest.mark.parametrize("make", [textured_ellipsoid, coloured_ellipsoid])
def test_usdz_passes_apples_profile_and_openusds_validators(tmp_path, compact, unlit, make):
    data = write_usdz(make(), compact=compact, unlit=unlit)
    stage, _ = open_usdz(data, tmp_path)
    with pytest.warns(DeprecationWarning):  # the one checker that knows Apple's profile
        checker = UsdUtils.ComplianceChecker(arkit=True)
    checker.CheckCompliance(str(tmp_path / "model.usdz"))
    assert checker.GetErrors() == []
    assert checker.GetFailedChecks() == []
    assert checker.GetWarnings() == []
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    issues = UsdValidation.ValidationContext(validators).Validate(stage)
    assert [issue.GetMessage() for issue in issues] == []


@pytest.mark.parametrize("compact", [False, True])
def test_usdz_is_stored_aligned_and_begins_with_its_crate(compact):
    data = write_usdz(textured_ellipsoid(), compact=compact)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
    assert entries[0].filename.endswith(".usdc")
    assert [e.filename.rpartition(".")[2] for e in entries[1:]] == ["jpg" if compact else "png"]
    for entry in entries:
        name, extra = struct.unpack_from("<HH", data, entry.header_offset + 26)
        assert entry.compress_type == zipfile.ZIP_STORED
        assert (entry.header_offset + 30 + name + extra) % 64 == 0


def test_usdz_as_openusd_reads_it(tmp_path):
    mesh = textured_ellipsoid()
    stage, seen = open_usdz(write_usdz(mesh), tmp_path)
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    assert stage.GetDefaultPrim().GetPath() == "/Model"
    np.testing.assert_allclose(
        np.array(seen.GetPointsAttr().Get()), mesh.vertices @ GLTF_FROM_WORLD.T, atol=1e-7
    )
    faces = np.array(seen.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3)
    np.testing.assert_array_equal(faces, mesh.faces)
    st = np.array(UsdGeom.PrimvarsAPI(seen).GetPrimvar("st").Get())
    np.testing.assert_allclose(st, mesh.uvs * [1, -1] + [0, 1], atol=1e-6)
    material, _ = UsdShade.MaterialBindingAPI(seen).ComputeBoundMaterial()
    surface, _, _ = material.ComputeSurfaceSource()
    source = surface.GetInput("diffuseColor").GetConnectedSources()[0][0].source
    assert UsdShade.Shader(source.GetPrim()).GetIdAttr().Get() == "UsdUVTexture"
    low, high = np.array(seen.GetExtentAttr().Get())
    np.testing.assert_allclose([low, high], [[-0.4, -0.5, -0.3], [0.4, 0.5, 0.3]], atol=0.003)


@pytest.mark.parametrize("make", [textured_ellipsoid, coloured_ellipsoid])
def test_an_unlit_usdz_glows_and_reflects_nothing(tmp_path, make):
    stage, seen = open_usdz(write_usdz(make(), unlit=True), tmp_path)
    assert stage.GetDefaultPrim().GetPath() == "/Model"
    material, _ = UsdShade.MaterialBindingAPI(seen).ComputeBoundMaterial()
    surface, _, _ = material.ComputeSurfaceSource()
    assert surface.GetInput("emissiveColor").HasConnectedSource()
    assert not surface.GetInput("diffuseColor").HasConnectedSource()
    assert surface.GetInput("diffuseColor").Get() == (0, 0, 0)
    assert surface.GetInput("useSpecularWorkflow").Get() == 1
    assert surface.GetInput("specularColor").Get() == (0, 0, 0)


def test_an_unlit_obj_has_a_constant_colour():
    def illumination(**options):
        with zipfile.ZipFile(io.BytesIO(write_obj(textured_ellipsoid(), **options))) as archive:
            return archive.read("model.mtl").decode().splitlines()[4]

    assert illumination() == "illum 1"
    assert illumination(unlit=True) == "illum 0"


@pytest.mark.parametrize("compact", [False, True])
def test_a_small_obj_has_as_many_steps_as_a_large_one(tmp_path, compact):
    mesh = textured_ellipsoid()
    small = replace(mesh, vertices=mesh.vertices / 1000)
    seen = load_obj(write_obj(small, compact=compact), tmp_path)
    wanted = small.vertices @ GLTF_FROM_WORLD.T
    np.testing.assert_allclose(seen.vertices, wanted, atol=6e-7 if compact else 6e-9)


def test_usdz_colours_per_vertex_are_linear(tmp_path):
    mesh = coloured_ellipsoid()
    _, seen = open_usdz(write_usdz(mesh), tmp_path)
    colors = np.array(seen.GetDisplayColorAttr().Get())
    np.testing.assert_allclose(colors, linear_from_srgb(mesh.colors / 255), atol=1e-6)


def test_usdz_can_be_written_by_two_threads_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    together = threading.Barrier(2)

    def write(rows):
        together.wait()
        return write_usdz(textured_ellipsoid(rows, rows, 16))

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        files = list(pool.map(write, [20, 30]))
    assert list(tmp_path.iterdir()) == []
    for rows, data in zip([20, 30], files, strict=True):
        folder = tmp_path / str(rows)
        folder.mkdir()
        _, seen = open_usdz(data, folder)
        assert len(seen.GetPointsAttr().Get()) == (rows + 1) ** 2 - 2


def test_markers_stand_where_gltf_wants_them_in_obj_and_usdz(tmp_path):
    mesh = marker_mesh()
    seen = load_obj(write_obj(mesh), tmp_path)
    _check_markers(np.asarray(seen.vertices), seen.visual.vertex_colors[:, :3] / 255)
    _, usd = open_usdz(write_usdz(mesh), tmp_path)
    _check_markers(np.array(usd.GetPointsAttr().Get()), np.array(usd.GetDisplayColorAttr().Get()))
    glb = load_glb(write_glb(mesh))
    assert closed_volume(np.asarray(glb.vertices), np.asarray(glb.faces)) > 0


def _check_markers(vertices, colors):
    for name, (_, color) in MARKERS.items():
        mine = np.abs(colors - np.array(color) / 255).max(axis=1) < 0.01
        assert mine.sum() == 6
        np.testing.assert_allclose(vertices[mine].mean(axis=0), MARKERS_IN_GLTF[name], atol=1e-6)


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_mesh_gives_the_same_bytes(name):
    mesh = textured_ellipsoid(10, 10, 16)
    assert WRITERS[name](mesh) == WRITERS[name](mesh)


@pytest.mark.parametrize("name", WRITERS)
def test_compact_is_smaller(name):
    # Grain, as a baked texture has it: without any, a PNG is as small as a JPEG.
    mesh = textured_ellipsoid(size=512)
    grain = np.random.default_rng(0).integers(-3, 4, mesh.texture.shape)
    mesh = replace(mesh, texture=(mesh.texture + grain).astype(np.uint8))
    assert len(WRITERS[name](mesh, compact=True)) < 0.6 * len(WRITERS[name](mesh))


@pytest.mark.parametrize("name", WRITERS)
def test_an_empty_or_broken_mesh_is_refused(name):
    mesh = coloured_ellipsoid(4, 4)
    with pytest.raises(InvalidInput, match="no triangles"):
        WRITERS[name](replace(mesh, faces=np.zeros((0, 3), np.int32)))
    broken = mesh.vertices.copy()
    broken[3] = np.nan
    with pytest.raises(InvalidInput, match="NaN"):
        WRITERS[name](replace(mesh, vertices=broken))


def test_a_normal_of_length_zero_points_up(tmp_path):
    mesh = coloured_ellipsoid(4, 4)
    normals = mesh.normals.copy()
    normals[7] = 0
    _, seen = open_usdz(write_usdz(replace(mesh, normals=normals)), tmp_path)
    np.testing.assert_allclose(seen.GetNormalsAttr().Get()[7], [0, 1, 0], atol=1e-6)
