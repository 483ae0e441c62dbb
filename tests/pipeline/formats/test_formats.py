import gzip
import io
import struct
from dataclasses import replace

import gsply
import numpy as np
import plyfile
import pytest

from pipeline.errors import InvalidInput, InvalidModelFile, InvalidOption
from pipeline.file_types import FORMATS, find_format, media_type
from pipeline.formats.glb_splat import write_glb_splat
from pipeline.formats.ply import read_ply, write_ply
from pipeline.formats.splat import read_splat, write_splat
from pipeline.formats.spz import write_spz
from pipeline.geometry.frames import PLY_FROM_WORLD, rotate_model, with_exact_quats
from pipeline.geometry.spherical_harmonics import sh_basis
from pipeline.types import SH_C0, SplatModel
from tests.fakes import some_model


def rotation_of(quats: np.ndarray) -> np.ndarray:
    """Rotation matrices [N, 3, 3] of wxyz quaternions, by another formula than the product's."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_quat(quats[:, [1, 2, 3, 0]]).as_matrix()


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
def test_ply_round_trip(sh_degree):
    model = some_model(50, sh_degree=sh_degree)
    back = read_ply(write_ply(model))
    np.testing.assert_allclose(back.means, model.means, atol=1e-6)
    np.testing.assert_allclose(rotation_of(back.quats), rotation_of(model.quats), atol=1e-5)
    np.testing.assert_array_equal(back.log_scales, model.log_scales)
    np.testing.assert_array_equal(back.logit_opacities, model.logit_opacities)
    np.testing.assert_allclose(back.sh, model.sh, atol=2e-5)


def test_ply_without_normals_is_12_bytes_a_splat_smaller():
    model = some_model(50, sh_degree=1)
    small, large = write_ply(model, compact=True), write_ply(model)
    header = len("property float nx\n") * 3
    assert len(large) - len(small) == 50 * 12 + header
    for name in ("means", "quats", "log_scales", "logit_opacities", "sh"):
        np.testing.assert_array_equal(
            getattr(read_ply(small), name), getattr(read_ply(large), name)
        )


def test_ply_layout_as_two_independent_readers_see_it(tmp_path):
    model = some_model(30, sh_degree=3)
    path = tmp_path / "model.ply"
    path.write_bytes(write_ply(model))
    turned = rotate_model(model, PLY_FROM_WORLD)

    vertex = plyfile.PlyData.read(path)["vertex"]
    names = [p.name for p in vertex.properties]
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[9:54] == [f"f_rest_{i}" for i in range(45)]
    assert names[54:] == [
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]
    np.testing.assert_allclose(vertex["f_rest_15"], turned.sh[:, 1, 1], atol=1e-6)

    seen = gsply.plyread(str(path))
    np.testing.assert_allclose(seen.means, turned.means, atol=1e-6)
    np.testing.assert_allclose(seen.scales, turned.log_scales, atol=1e-6)
    np.testing.assert_allclose(seen.quats, turned.quats, atol=1e-6)
    np.testing.assert_allclose(seen.sh0, turned.sh[:, 0], atol=1e-6)
    np.testing.assert_allclose(seen.shN, turned.sh[:, 1:], atol=1e-6)


def test_file_frame_shows_up_as_minus_y_and_the_front_as_plus_z():
    world = np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]], np.float32)  # front, up, left
    np.testing.assert_allclose(world @ PLY_FROM_WORLD.T, [[0, 0, 1], [0, -1, 0], [-1, 0, 0]])


def test_turning_a_model_turns_its_colours_along():
    model = some_model(5, sh_degree=3)
    turned = rotate_model(model, PLY_FROM_WORLD)
    import torch

    d = torch.nn.functional.normalize(
        torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    )
    before = sh_basis(3, d) @ torch.from_numpy(model.sh[0])
    after = sh_basis(3, d @ torch.from_numpy(PLY_FROM_WORLD.T.copy())) @ torch.from_numpy(
        turned.sh[0]
    )
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_splat_round_trip_within_its_quantisation():
    model = some_model(200)
    back = read_splat(write_splat(model))
    order = np.argsort(-(model.scales.prod(axis=1) * model.opacities), kind="stable")
    np.testing.assert_allclose(back.means, model.means[order], atol=1e-6)
    np.testing.assert_allclose(back.scales, model.scales[order], rtol=1e-5)
    np.testing.assert_allclose(back.opacities, model.opacities[order], atol=0.0021)
    rgb, rgb_back = (np.clip(0.5 + SH_C0 * m.sh[:, 0], 0, 1) for m in (model, back))
    np.testing.assert_allclose(rgb_back, rgb[order], atol=0.0021)
    np.testing.assert_allclose(rotation_of(back.quats), rotation_of(model.quats[order]), atol=0.03)


def _ply(text: str, data: bytes = b"") -> bytes:
    return text.encode() + data


HEADER = "ply\nformat binary_little_endian 1.0\nelement vertex 1\n"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "does not begin with a PLY header"),
        (b"PK\x03\x04", "does not begin with a PLY header"),
        (_ply("ply\nelement vertex 0\nproperty float x\nend_header\n"), "not say its format"),
        (_ply("ply\nformat ascii 1.0\nelement vertex 0\nend_header\n"), "no properties"),
        (_ply(HEADER + "property float opacity\nend_header\n", bytes(4)), "'f_dc_0' is missing"),
        (_ply(HEADER + "property uchar red\nend_header\n", bytes(1)), "a point cloud"),
        (_ply(HEADER + "element vertex 3\nend_header\n"), "two elements 'vertex'"),
        (_ply(HEADER + "property float f_rest_0\nend_header\n", bytes(4)), "f_rest"),
        (_ply(HEADER + "end_header\n"), "no properties"),
        (_ply(HEADER.replace(" 1\n", f" {'9' * 30}\n") + "end_header\n"), "30 digits"),
        (_ply(HEADER.replace(" 1\n", f" {'9' * 5000}\n") + "end_header\n"), "5000 digits"),
        (write_ply(some_model(3))[:-5], "truncated"),
    ],
)
def test_a_foreign_or_damaged_ply_is_refused_with_the_reason(data, told):
    with pytest.raises(InvalidModelFile, match=told):
        read_ply(data)


def test_a_ply_of_another_tool_is_read():
    model = some_model(3)
    header, data = write_ply(model).split(b"end_header\n")
    header = header.replace(b"ply\n", b"ply\nobj_info by hand\n", 1)
    header = header.replace(b"comment Gauss", "comment fa\u00e7ade\ncomment Gauss".encode())
    for newline in (b"\n", b"\r\n"):
        foreign = (header + b"property float32 confidence\nend_header\n").replace(b"\n", newline)
        rows = np.frombuffer(data, "<f4").reshape(3, -1)
        back = read_ply(foreign + np.pad(rows, ((0, 0), (0, 1))).tobytes())
        np.testing.assert_allclose(back.means, model.means, atol=1e-6)


def test_a_splat_file_with_extreme_splats_can_be_read_again():
    model = some_model(4)
    model.log_scales[0] = -120
    model.log_scales[1] = 100
    model.logit_opacities[:2] = (-100, 100)
    model.quats[2] = 0
    back = read_splat(write_splat(model))
    assert len(back) == 4
    assert back.scales.min() == pytest.approx(np.finfo(np.float32).tiny, rel=1e-5)
    found = int(np.argmin(np.abs(back.means - model.means[2]).sum(1)))
    in_file = rotate_model(back, PLY_FROM_WORLD).quats[found]
    np.testing.assert_allclose(in_file, [127 / 128, 0, 0, 0], atol=1e-6)


def test_opacities_of_extreme_logits_are_0_and_1_without_a_warning():
    model = some_model(3)
    model.logit_opacities[:] = (-1000, 0, 1000)
    np.testing.assert_array_equal(model.opacities, [0, 0.5, 1])
    assert model.opacities.dtype == np.float32


@pytest.mark.parametrize(
    ("data", "told"), [(bytes(33), "multiple of 32"), (bytes(64), "nothing but zeros")]
)
def test_a_damaged_splat_is_refused(data, told):
    with pytest.raises(InvalidModelFile, match=told):
        read_splat(data)


def test_an_unknown_format_is_refused_with_those_that_exist():
    with pytest.raises(InvalidOption, match=r"ply, splat, .*'docx'"):
        find_format("docx")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("ply", "application/octet-stream"),
        ("splat", "application/octet-stream"),
        ("spz", "application/octet-stream"),
        ("glb", "model/gltf-binary"),
        ("glb-splat", "model/gltf-binary"),
        ("obj", "application/zip"),
        ("usdz", "model/vnd.usdz+zip"),
        ("stl", "model/stl"),
        ("3mf", "model/3mf"),
    ],
)
def test_every_format_has_a_media_type(name, wanted):
    assert media_type(f"model.{FORMATS[name].suffix}") == wanted


def test_a_turntable_has_a_media_type():
    assert media_type("previews/turntable.mp4") == "video/mp4"


def test_an_empty_model_is_a_valid_file():
    empty = SplatModel(
        *(np.zeros(s, np.float32) for s in ((0, 3), (0, 4), (0, 3), (0,), (0, 1, 3)))
    )
    assert len(read_ply(write_ply(empty))) == 0
    assert len(plyfile.PlyData.read(io.BytesIO(write_ply(empty)))["vertex"].data) == 0


def _spz_header(data: bytes) -> tuple[int, ...]:
    return struct.unpack("<IIIBBBB", gzip.decompress(data)[:16])


def test_spz_is_version_3_with_12_fractional_bits_and_always_the_same_bytes():
    model = some_model(20, sh_degree=2)
    assert _spz_header(write_spz(model)) == (0x5053474E, 3, 20, 2, 12, 0, 0)
    assert write_spz(model) == write_spz(model)
    assert len(gzip.decompress(write_spz(model))) == 16 + 20 * (9 + 1 + 3 + 3 + 4 + 24)


@pytest.mark.parametrize(("reach", "bits"), [(2047.9, 12), (2048.0, 11), (4_000_000.0, 1)])
def test_spz_has_fewer_fractional_bits_where_splats_lie_far_away(tmp_path, reach, bits):
    model = some_model(5)
    model.means[3] = (0.25, -reach, 0.5)
    path = tmp_path / "far.spz"
    path.write_bytes(write_spz(model))
    assert _spz_header(path.read_bytes())[4] == bits
    seen = gsply.read_spz(str(path)).means[3]
    # RUB: x is the world's -y, y its z, z its -x.
    np.testing.assert_allclose(seen, [reach, 0.5, -0.25], atol=0.5 / 2**bits + 1e-3)


def test_spz_beyond_its_range_or_without_a_number_is_refused():
    model = some_model(3)
    model.means[1, 2] = 1e7
    with pytest.raises(InvalidInput, match="1e\\+07 units away"):
        write_spz(model)
    model.means[1, 2] = np.nan
    with pytest.raises(InvalidInput, match="NaN or infinity in its means"):
        write_spz(model)


def test_extreme_splats_are_clipped_to_what_an_spz_can_say(tmp_path):
    model = some_model(2)
    model.quats[0] = 0
    model.log_scales[:, 0] = (-50, 50)
    model.logit_opacities[:] = (-1000, 1000)
    model.sh[:, 0] = [[-100], [100]]
    path = tmp_path / "extreme.spz"
    path.write_bytes(write_spz(model))
    seen = gsply.read_spz(str(path))
    np.testing.assert_allclose(seen.quats[0], [1, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(seen.scales[:, 0], [-10, 95 / 16])
    np.testing.assert_allclose(seen.sh0, [[-10 / 3] * 3, [10 / 3] * 3], atol=1e-5)


def test_glb_splat_keeps_wide_scales_exact_where_16_bits_end():
    model = some_model(100)
    small = len(write_glb_splat(model, compact=True))
    model.log_scales[2, 1] = 0.01
    # Four bytes for each, and the text that says "normalized".
    assert len(write_glb_splat(model, compact=True)) == pytest.approx(small + 400, abs=30)
    model.log_scales[2, 1] = 1000
    assert write_glb_splat(model)[:4] == b"glTF"


def test_glb_splat_of_nothing_or_of_nan_is_refused():
    model = some_model(2)
    for broken in (
        replace(model, means=model.means * np.nan),
        replace(model, sh=model.sh * np.inf),
    ):
        with pytest.raises(InvalidInput, match="NaN or infinity"):
            write_glb_splat(broken)
    empty = SplatModel(
        *(np.zeros(s, np.float32) for s in ((0, 3), (0, 4), (0, 3), (0,), (0, 1, 3)))
    )
    with pytest.raises(InvalidInput, match="no splats"):
        write_glb_splat(empty)
    assert _spz_header(write_spz(empty))[2] == 0


def test_a_model_with_exact_quaternions_comes_back_from_a_file_bit_by_bit() -> None:
    model = with_exact_quats(some_model(5000, seed=4))
    back = read_ply(write_ply(model))
    for name in ("means", "quats", "log_scales", "logit_opacities", "sh"):
        np.testing.assert_array_equal(getattr(back, name), getattr(model, name))
    np.testing.assert_allclose(np.linalg.norm(model.quats, axis=1), 1, atol=2e-6)
    plain = some_model(5000, seed=4)
    assert not np.array_equal(read_ply(write_ply(plain)).quats, plain.quats)
