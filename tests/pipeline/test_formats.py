import contextlib
import io

import gsply
import numpy as np
import plyfile
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InvalidModelFile, InvalidOption, NotImplementedYet
from pipeline.formats import export_model, find_format, read_ply, read_splat, write_ply, write_splat
from pipeline.formats.frame import PLY_FROM_WORLD, rotate_model
from pipeline.splats.sh import sh_basis
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
        (_ply("ply\nformat ascii 1.0\nelement vertex 0\nend_header\n"), "binary_little_endian"),
        (_ply(HEADER + "property float x\nend_header\n", bytes(4)), "'f_dc_0' is missing"),
        (_ply(HEADER + "property uchar red\nend_header\n", bytes(1)), "not a float"),
        (_ply(HEADER + "element face 3\nproperty float x\nend_header\n"), "element 'face'"),
        (_ply(HEADER + "property float f_rest_0\nend_header\n", bytes(4)), "f_rest"),
        (_ply(HEADER + "end_header\n"), "no properties"),
        (_ply(HEADER.replace(" 1\n", f" {'9' * 30}\n") + "end_header\n"), "30 digits"),
        (_ply(HEADER.replace(" 1\n", f" {'9' * 5000}\n") + "end_header\n"), "5000 digits"),
        (write_ply(some_model(3))[:-5], "truncated"),
        (write_ply(some_model(3)) + b"\0", "longer than its header says"),
    ],
)
def test_a_foreign_or_damaged_ply_is_refused_with_the_reason(data, told):
    with pytest.raises(InvalidModelFile, match=told):
        read_ply(data)


def test_nan_in_a_ply_is_named_with_its_place():
    model = some_model(4)
    model.log_scales[2, 1] = np.nan
    with pytest.raises(InvalidModelFile, match=r"nan in property 'scale_1' of splat 2"):
        read_ply(write_ply(model))


def test_a_quaternion_of_length_zero_in_a_ply_is_named_with_its_place():
    model = some_model(4)
    model.quats[2] = 0
    with pytest.raises(InvalidModelFile, match="length zero in splat 2"):
        read_ply(write_ply(model))


def test_quaternions_that_overflow_when_turned_are_refused():
    data = bytearray(write_ply(some_model(1)))
    data[-16:] = np.full(4, 3e38, "<f4").tobytes()
    with pytest.raises(InvalidModelFile, match="too large"):
        read_ply(bytes(data))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 10_000), st.binary(max_size=12), st.integers(0, 12)), max_size=6
    )
)
def test_a_mutated_ply_is_read_or_refused(mutations):
    data = write_ply(some_model(3))
    for place, bytes_in, count_out in mutations:
        at = place % (len(data) + 1)
        data = data[:at] + bytes_in + data[at + count_out :]
    with contextlib.suppress(InvalidModelFile):
        assert len(read_ply(data)) >= 0


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
    ("data", "told"), [(bytes(33), "multiple of 32"), (bytes(32), "scale that is not positive")]
)
def test_a_damaged_splat_is_refused(data, told):
    with pytest.raises(InvalidModelFile, match=told):
        read_splat(data)


def test_optimize_drops_only_what_no_renderer_draws():
    model = some_model(100)
    model.logit_opacities[:30] = -9
    small = read_ply(export_model(model, "ply", optimize=True))
    assert len(small) == 70
    assert len(export_model(model, "splat", optimize=False)) == 3200


def test_unknown_and_announced_formats_are_told_apart():
    with pytest.raises(InvalidOption, match="'ply', 'splat', 'glb'"):
        find_format("docx")
    with pytest.raises(NotImplementedYet, match="glb is not available"):
        find_format("glb")


def test_an_empty_model_is_a_valid_file():
    empty = SplatModel(
        *(np.zeros(s, np.float32) for s in ((0, 3), (0, 4), (0, 3), (0,), (0, 1, 3)))
    )
    assert len(read_ply(write_ply(empty))) == 0
    assert len(plyfile.PlyData.read(io.BytesIO(write_ply(empty)))["vertex"].data) == 0
