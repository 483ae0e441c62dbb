"""Files of .splat, .spz and .glb are read: our own, other programs', and damaged ones."""

from __future__ import annotations

import gzip
import json
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gsply
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.errors import InvalidInput, InvalidModelFile
from pipeline.formats.glb_splat import write_glb_splat
from pipeline.formats.glb_splat_reader import load_glb_splat
from pipeline.formats.gltf import GlbBuilder, one_node_scene
from pipeline.formats.splat import load_splat, write_splat
from pipeline.formats.spz import RUB_FROM_WORLD, fitted, write_spz
from pipeline.formats.spz_reader import load_spz
from pipeline.geometry.frames import GLTF_FROM_WORLD, rotate_model
from tests.fakes import some_model
from tests.oracles.shells import shell


def assert_turned_alike(a: np.ndarray, b: np.ndarray, atol: float) -> None:
    """Quaternions of the same rotations, whatever their sign and length."""
    a, b = (q / np.linalg.norm(q, axis=1, keepdims=True) for q in (a, b))
    np.testing.assert_allclose(np.abs((a * b).sum(axis=1)), 1, atol=atol)


ROW = 32


def test_zero_scales_rotations_and_rows_of_a_splat_file() -> None:
    data = bytearray(write_splat(some_model(20)))
    data[12:24] = bytes(12)  # no size
    data[ROW + 16 : ROW + 20] = np.float32(-0.5).tobytes()  # a size below zero
    data[2 * ROW + 28 : 3 * ROW] = bytes([128] * 4)  # no rotation
    data[3 * ROW : 3 * ROW + 4] = np.float32(np.nan).tobytes()
    data[4 * ROW + 12 : 4 * ROW + 16] = np.float32(np.inf).tobytes()
    read = load_splat(bytes(data) + bytes(7 * ROW))
    assert len(read.model) == 18
    assert "7 of 27 rows" in read.notes[0]
    assert "2 damaged of 20" in read.notes[1]
    assert (read.model.scales[0] < 1e-8).all()
    assert read.model.scales[1].max() >= 0.5 * (1 - 1e-6)
    for array in vars(read.model).values():
        assert np.isfinite(array).all()


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
def test_spz_is_read_as_another_reader_does(tmp_path: Path, sh_degree: int) -> None:
    model = some_model(300, sh_degree=sh_degree)
    path = tmp_path / "a.spz"
    path.write_bytes(write_spz(model))
    seen = gsply.read_spz(str(path))
    read = load_spz(path.read_bytes())
    assert read.notes == ()
    back = rotate_model(read.model, RUB_FROM_WORLD)
    np.testing.assert_allclose(back.means, seen.means, atol=1e-5)
    np.testing.assert_allclose(back.log_scales, seen.scales, atol=1e-5)
    np.testing.assert_allclose(back.sh[:, 0], seen.sh0, atol=1e-5)
    if sh_degree:
        np.testing.assert_allclose(back.sh[:, 1:], seen.shN, atol=1e-4)
    assert_turned_alike(back.quats, np.asarray(seen.quats), 1e-5)
    assert_turned_alike(read.model.quats, model.quats, 2e-5)
    np.testing.assert_allclose(read.model.opacities, model.opacities, atol=0.0021)


def test_spz_of_version_2_and_of_other_versions() -> None:
    payload = gzip.decompress(write_spz(some_model(1)))
    old = payload[:4] + struct.pack("<I", 2) + payload[8:-4] + bytes([191, 127, 64])
    quats = rotate_model(load_spz(gzip.compress(old)).model, RUB_FROM_WORLD).quats
    xyz = np.array([191, 127, 64]) / 127.5 - 1
    np.testing.assert_allclose(quats[0], [np.sqrt(1 - xyz @ xyz), *xyz], atol=1e-6)
    for version, told in ((1, "version 1"), (4, "another's compression"), (99, "version 99")):
        other = payload[:4] + struct.pack("<I", version) + payload[8:]
        with pytest.raises(InvalidModelFile, match=told):
            load_spz(gzip.compress(other))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (gzip.compress(b"hello"), "no header"),
        (gzip.compress(bytes(100)), "another kind"),
        (write_spz(some_model(30))[:-20], "damaged or truncated"),
        (gzip.compress(gzip.decompress(write_spz(some_model(30)))[:-1]), "fewer than 30"),
        (
            gzip.compress(struct.pack("<IIIBBBB", 0x5053474E, 3, 2**32 - 1, 3, 12, 0, 0)),
            "says it holds 4,294,967,295 splats",
        ),
        (b"\x1f\x8b" + bytes(30), "damaged"),
    ],
)
def test_a_damaged_spz_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(InvalidModelFile, match=told):
        load_spz(data)


@pytest.mark.parametrize("size", [1.0, 0.05, 0.01, 60.0, 2000.0])
def test_a_model_of_any_size_that_spz_can_say_keeps_its_shape(size: float) -> None:
    model = shell("torus", 2000)
    moved = replace(
        model,
        means=model.means * np.float32(size),
        log_scales=model.log_scales + np.float32(np.log(size)),
    )
    back = load_spz(write_spz(moved)).model
    np.testing.assert_allclose(back.means / size, model.means, atol=1.2e-3)
    wide = moved.log_scales.max(axis=1)
    np.testing.assert_allclose(back.log_scales.max(axis=1), wide, atol=0.033)


@pytest.mark.parametrize(("size", "told"), [(1e-4, "too small"), (1e5, "too large")])
def test_a_model_that_spz_cannot_say_is_refused_with_a_way_out(size: float, told: str) -> None:
    model = shell("torus", 500)
    moved = replace(
        model,
        means=model.means * np.float32(size),
        log_scales=model.log_scales + np.float32(np.log(size)),
    )
    with pytest.raises(InvalidInput, match=rf"{told} .* choose ply"):
        write_spz(moved)


def test_a_model_too_far_away_for_spz_is_refused_with_a_way_out() -> None:
    model = shell("torus", 500)
    with pytest.raises(InvalidInput, match="Move the model to the origin"):
        write_spz(replace(model, means=model.means + np.float32(300_000)))


@pytest.mark.parametrize("size", [1.0, 80.0])
def test_a_geo_referenced_model_is_moved_to_the_origin_of_an_spz(size: float) -> None:
    model = shell("torus", 1000)
    place = np.array([5_400_000, -690_000, 120], np.float64)
    there = replace(
        model,
        means=(model.means * size + place).astype(np.float32),
        log_scales=model.log_scales + np.float32(np.log(size)),
    )
    moved, notes = fitted(there)
    assert "Moved to the origin" in notes[0]
    back = load_spz(write_spz(moved)).model
    np.testing.assert_array_equal(moved.quats, there.quats)
    # What float32 held of it, up to one whole offset, which the note tells in the file's axes.
    told = [float(number.replace(",", "")) for number in re.findall(r"-?[\d,]*\d", notes[0])]
    offset = np.array(told) @ RUB_FROM_WORLD
    np.testing.assert_allclose(there.means.astype(np.float64) + offset, back.means, atol=0.02)
    assert np.abs(back.means).max() < 2 * size
    assert fitted(model) == (model, ())


@pytest.mark.parametrize("away", [1e4, 1e6, 1e12])
def test_strays_do_not_make_an_spz_coarse(away: float) -> None:
    model = shell("torus", 1000)
    means = model.means.copy()
    means[:5] = away
    strayed = replace(model, means=means)
    kept, notes = fitted(strayed)
    assert len(kept) == 995
    assert "5 of 1,000 splats" in notes[0]
    back = load_spz(write_spz(kept)).model
    np.testing.assert_allclose(back.means, model.means[5:], atol=2e-4)
    assert fitted(model) == (model, ())


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
def test_glb_splat_round_trip(sh_degree: int, compact: bool) -> None:
    model = some_model(60, sh_degree=sh_degree)
    read = load_glb_splat(write_glb_splat(model, compact=compact))
    assert read.notes == ()
    np.testing.assert_allclose(read.model.means, model.means, atol=1e-6)
    np.testing.assert_allclose(read.model.scales, model.scales, atol=1e-5)
    np.testing.assert_allclose(read.model.opacities, model.opacities, atol=1e-6)
    np.testing.assert_allclose(read.model.sh, model.sh, atol=1e-5)
    assert_turned_alike(read.model.quats, model.quats, 1e-6)


def with_node(data: bytes, **changes: object) -> bytes:
    """A .glb with another node."""

    def change(document: dict[str, Any]) -> None:
        document["nodes"] = [{"mesh": 0, **changes}, {"children": [0]}]
        document["scenes"][0]["nodes"] = [1]

    return with_document(data, change)


def with_document(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A .glb whose JSON was changed."""
    (length,) = struct.unpack_from("<I", data, 12)
    document = json.loads(data[20 : 20 + length])
    change(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    head = struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A)
    return head + text + rest


def test_splats_of_a_glb_stand_where_their_node_puts_them() -> None:
    model = some_model(60, sh_degree=1)
    half = float(np.sqrt(0.5))
    data = with_node(
        write_glb_splat(model), translation=[1, 2, 3], rotation=[0, half, 0, half], scale=[2, 2, 2]
    )
    # A quarter turn about glTF's y, the world's z: front to the left, (x, y) to (-y, x).
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    turned = rotate_model(model, quarter)
    back = load_glb_splat(data).model
    np.testing.assert_allclose(back.means, 2 * turned.means + np.array([3, 1, 2]), atol=1e-5)
    np.testing.assert_allclose(back.scales, 2 * model.scales, rtol=1e-5)
    np.testing.assert_allclose(back.sh, turned.sh, atol=1e-5)
    assert_turned_alike(back.quats, turned.quats, 1e-6)
    with pytest.raises(InvalidModelFile, match="stretches"):
        load_glb_splat(with_node(write_glb_splat(model), scale=[1, 2, 1]))
    with pytest.raises(InvalidModelFile, match="stretches"):
        load_glb_splat(with_node(write_glb_splat(model), scale=[1e-5, 1e-5, 5e-5]))
    with pytest.raises(InvalidModelFile, match="no tree"):
        load_glb_splat(with_node(write_glb_splat(model), children=[1]))


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_a_matrix_of_a_node_may_be_rounded_as_float32_is(scale: float) -> None:
    model = some_model(20, sh_degree=1)
    turn = Rotation.from_euler("xyz", [20, 30, 50], degrees=True)
    matrix = np.eye(4, dtype=np.float32)
    matrix[:3, :3] = scale * turn.as_matrix()
    matrix[:3, 3] = (1, 2, 3)
    back = load_glb_splat(with_node(write_glb_splat(model), matrix=matrix.T.ravel().tolist())).model
    in_world = GLTF_FROM_WORLD.T @ turn.as_matrix() @ GLTF_FROM_WORLD
    turned = rotate_model(model, in_world.astype(np.float32))
    moved = scale * turned.means + np.array([3, 1, 2])
    np.testing.assert_allclose(back.means, moved, atol=1e-5 * (1 + scale))
    assert_turned_alike(back.quats, turned.quats, 1e-6)


def test_a_glb_of_a_mesh_or_a_truncated_one_is_refused() -> None:
    data = write_glb_splat(some_model(5))
    with pytest.raises(InvalidModelFile, match="may be a mesh"):
        load_glb_splat(data.replace(b"KHR_gaussian_splatting", b"EXT_gaussian_splatting"))
    with pytest.raises(InvalidModelFile, match="truncated"):
        load_glb_splat(data[:-8])
    with pytest.raises(InvalidModelFile, match="no JSON"):
        load_glb_splat(data[:12])


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("accessors", {"count": float("inf")}),
        ("accessors", {"count": float("nan")}),
        ("accessors", {"count": 10**30}),
        ("accessors", {"count": -1}),
        ("accessors", {"bufferView": -7}),
        ("accessors", {"componentType": []}),
        ("bufferViews", {"byteOffset": -8}),
        ("bufferViews", {"byteOffset": float("inf")}),
        ("bufferViews", {"byteStride": 0}),
        # One row of two gigabytes fits, if only its first numbers are looked for.
        ("bufferViews", {"byteStride": 2 * 10**9}),
    ],
)
def test_a_glb_with_numbers_that_cannot_be_is_refused(table: str, values: dict[str, Any]) -> None:
    def change(document: dict[str, Any]) -> None:
        for row in document[table]:
            row.update(values)

    with pytest.raises(InvalidModelFile, match=r"The .*\.glb"):
        load_glb_splat(with_document(write_glb_splat(some_model(1)), change))


def test_a_glb_that_repeats_its_splats_without_end_is_refused() -> None:
    def repeat(document: dict[str, Any]) -> None:
        document["nodes"] = [{"mesh": 0}] * 500
        document["scenes"][0]["nodes"] = list(range(500))
        document["meshes"][0]["primitives"] *= 500

    model = some_model(200)
    with pytest.raises(InvalidModelFile, match="says it holds"):
        load_glb_splat(with_document(write_glb_splat(model), repeat))
    few = with_document(
        write_glb_splat(model),
        lambda document: document["meshes"][0]["primitives"].extend(
            document["meshes"][0]["primitives"]
        ),
    )
    assert len(load_glb_splat(few).model) == 400


def test_a_glb_whose_splats_are_an_spz_is_read() -> None:
    model = some_model(50, sh_degree=2)
    builder = GlbBuilder()
    builder.add_view(b"something before")
    inside = builder.add_view(write_spz(model))
    longer = builder.add_view(gzip.compress(gzip.decompress(write_spz(model)) + b"more"))
    accessor = builder.add_attribute(model.means[:, :1])

    def document(how: str, inside: int = inside) -> dict[str, Any]:
        extension = {"extensions": {how: {"bufferView": inside}}}
        primitive = {
            "attributes": {"POSITION": accessor},
            "mode": 0,
            "extensions": {"KHR_gaussian_splatting": extension},
        }
        return {
            **one_node_scene({"mesh": 0}),
            "meshes": [{"primitives": [primitive]}],
        }

    data = builder.to_bytes(document("KHR_gaussian_splatting_compression_spz_2"))
    back, wanted = load_glb_splat(data).model, load_spz(write_spz(model)).model
    for name in ("means", "log_scales", "logit_opacities", "sh"):
        np.testing.assert_allclose(getattr(back, name), getattr(wanted, name), atol=1e-5)
    assert_turned_alike(back.quats, wanted.quats, 1e-6)
    assert load_glb_splat(data).notes == ()
    damaged = document("KHR_gaussian_splatting_compression_spz_2", longer)
    assert "longer than its header" in load_glb_splat(builder.to_bytes(damaged)).faults[0]
    with pytest.raises(InvalidModelFile, match=r"compressed \(other\)"):
        load_glb_splat(builder.to_bytes(document("other")))
