"""Tokens of the reference read as cameras, and its model turned into our frame."""

import io
import math

import numpy as np
import plyfile  # type: ignore[import-untyped]
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from pipeline.engines.deg import camera_token
from pipeline.engines.deg.camera_token import (
    ObjectCamera,
    believed_camera,
    has_direction,
    in_trained_range,
    scale_into_box,
    turn_model,
)
from pipeline.errors import ModelFailed
from pipeline.formats.ply import write_ply
from pipeline.geometry.frames import PLY_FROM_WORLD
from pipeline.geometry.projection import to_camera
from pipeline.types import SplatModel
from tests.pipeline.engines.deg.golden_files import golden_tensors, relative_error

REST = 1e-5
#: From the object's frame to that of the reference's files: (x, -z, y).
REFERENCE_PLY = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)


def raw_model() -> SplatModel:
    """The reference's model in the object's own frame."""
    golden = golden_tensors()
    return SplatModel(
        means=golden["out.gs.xyz"].numpy(),
        quats=golden["out.gs.rotation"].numpy(),
        log_scales=golden["out.gs.scaling"].log().numpy(),
        logit_opacities=torch.logit(golden["out.gs.opacity"][:, 0]).numpy(),
        sh=golden["out.gs.features_dc"].numpy(),
    )


@pytest.mark.parametrize("i", range(4))
def test_tokens_are_the_cameras_of_the_reference(golden: dict[str, Tensor], i: int):
    camera = ObjectCamera.from_token(golden["in.camera.tokens"][i].numpy())
    wanted = golden["out.camera.azimuth_elevation_distance_fov_focal"][i].numpy()
    found = [
        camera.azimuth_rad,
        camera.elevation_rad,
        camera.distance,
        camera.fov_rad,
        camera.focal,
    ]
    assert abs(found[0] - wanted[0]) < 1e-9
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    plain = camera.with_intrinsics(1.0, 0.0, 0.0, 8).viewmats[0]
    assert relative_error(plain, golden["out.camera.world_to_camera"][i]) < 1e-6
    turned = camera.turned(-camera.azimuth_rad).with_intrinsics(1.0, 0.0, 0.0, 8).viewmats[0]
    assert relative_error(turned, golden["out.camera.world_to_camera_turned"][i]) < 1e-6


def test_the_model_turned_is_the_reference_s(golden: dict[str, Tensor]):
    camera = ObjectCamera.from_token(golden["out.camera"][0, 0].numpy())
    assert abs(camera.azimuth_rad - float(golden["out.splat.azimuth"])) < 1e-7
    model = turn_model(raw_model(), -camera.azimuth_rad)
    for name in ("means", "quats", "log_scales", "logit_opacities", "sh"):
        wanted = golden[f"out.splat.{name}"]
        assert relative_error(getattr(model, name), wanted) < REST, name


@pytest.mark.parametrize("wrong", [1.0, 0.0, -0.5])
def test_another_turn_is_seen(golden: dict[str, Tensor], wrong: float):
    azimuth = float(golden["out.splat.azimuth"])
    model = turn_model(raw_model(), wrong * azimuth)
    assert relative_error(model.means, golden["out.splat.means"]) > 100 * REST
    assert relative_error(model.quats, golden["out.splat.quats"]) > 100 * REST


def test_a_turned_model_looks_the_same_to_the_turned_camera():
    model, camera = raw_model(), ObjectCamera(0.6, -0.3, 2.0, 0.9)
    ours = camera.turned(-0.6).scaled(0.7)
    assert ours.azimuth_rad == 0
    small = turn_model(model, -0.6)
    before = to_camera(camera.with_intrinsics(1, 0, 0, 8), 0, model.means)
    after = to_camera(ours.with_intrinsics(1, 0, 0, 8), 0, small.means * np.float32(0.7))
    np.testing.assert_allclose(after, 0.7 * before, atol=1e-5)
    # Scaling about the origin changes no picture.
    assert ours.focal == pytest.approx(camera.focal)
    assert ours.fov_rad == pytest.approx(camera.fov_rad)


def test_what_is_seen_is_scaled_into_the_box():
    model = raw_model()
    scaled, scale = scale_into_box(model)
    assert scale == pytest.approx(0.5 / np.abs(model.means).max())
    assert np.abs(scaled.means).max() == pytest.approx(0.5)
    np.testing.assert_allclose(scaled.means, scale * model.means, rtol=1e-5)
    np.testing.assert_allclose(scaled.log_scales, model.log_scales + math.log(scale), rtol=1e-5)
    again, one = scale_into_box(
        SplatModel(
            0.4 * scaled.means,
            scaled.quats,
            scaled.log_scales,
            scaled.logit_opacities,
            scaled.sh,
        )
    )
    assert one == 1
    assert np.abs(again.means).max() == pytest.approx(0.2)


def test_a_splat_that_nobody_sees_scales_nothing():
    means = np.array([[0.4, 0, 0], [3.0, 0, 0]], np.float32)
    quats = np.tile(np.array([1, 0, 0, 0], np.float32), (2, 1))
    scales, sh = np.full((2, 3), -4, np.float32), np.zeros((2, 1, 3), np.float32)
    _, scale = scale_into_box(SplatModel(means, quats, scales, np.array([2, -6], np.float32), sh))
    assert scale == 1
    _, scale = scale_into_box(SplatModel(means, quats, scales, np.array([2, 2], np.float32), sh))
    assert scale == pytest.approx(1 / 6)


def token(*, length: float = 1.0, k: float = 0.4, w: float = 0.95) -> np.ndarray:
    direction = np.array([0.8, 0.36, 0.48])
    return np.array([*(length * direction), k, w])


@pytest.mark.parametrize(
    "strange",
    [token(k=0.9), token(k=-0.4), token(w=-0.9), token(w=3.0), token(length=2.0), token(w=0.0)],
)
def test_outside_of_the_trained_range_only_the_direction_is_believed(strange: np.ndarray):
    assert in_trained_range(token())
    assert in_trained_range(token(k=0.0, w=0.8))
    assert not in_trained_range(strange)
    camera = believed_camera(strange)
    assert camera.azimuth_rad == pytest.approx(math.atan2(0.36, 0.8))
    assert camera.elevation_rad == pytest.approx(math.asin(0.48))
    # The rig's camera.
    assert camera.distance == 1.5
    assert camera.focal == pytest.approx(280 / 256)


def test_what_points_nowhere_has_no_direction():
    assert has_direction(token())
    assert not has_direction(token(length=0.01))
    camera = believed_camera(token(length=0.0))
    assert (camera.azimuth_rad, camera.elevation_rad) == (0, 0)


def test_a_camera_that_is_not_finite_is_an_error():
    with pytest.raises(ModelFailed, match="not finite"):
        believed_camera(token(k=math.nan))


def test_a_camera_from_straight_above_is_a_camera():
    camera = ObjectCamera.from_token(np.array([0, 0, 1, 0.4, 0.9]))
    viewmat = camera.with_intrinsics(1, 0, 0, 8).viewmats[0]
    assert np.isfinite(viewmat).all()
    np.testing.assert_allclose(viewmat[:3, :3] @ viewmat[:3, :3].T, np.eye(3), atol=1e-6)


def test_our_file_is_the_reference_s_but_for_its_frame(golden: dict[str, Tensor]):
    """Its rows are (x, -z, y) of the object's frame, ours are of ours."""
    rows = golden["out.ply.vertices"].numpy()
    model = raw_model()
    table = plyfile.PlyData.read(io.BytesIO(write_ply(model)))["vertex"]
    ours = np.stack([table[p.name] for p in table.properties], axis=1)[: len(rows)]
    assert ours.shape == rows.shape
    between = PLY_FROM_WORLD @ REFERENCE_PLY.T
    np.testing.assert_allclose(ours[:, :3], rows[:, :3] @ between.T, atol=1e-6)
    np.testing.assert_allclose(ours[:, 3:13], rows[:, 3:13], atol=2e-5)
    theirs = Rotation.from_quat(rows[:, 13:], scalar_first=True).as_matrix()
    mine = Rotation.from_quat(ours[:, 13:], scalar_first=True).as_matrix()
    np.testing.assert_allclose(mine, between @ theirs, atol=1e-5)


def test_the_least_k_is_orthographic(monkeypatch: pytest.MonkeyPatch):
    assert ObjectCamera.from_token(token(k=0.0004)).distance == 1000
    assert ObjectCamera.from_token(token(k=0.0011)).distance == pytest.approx(1 / 0.0011)
    monkeypatch.setattr(camera_token, "_FAR", 10.0)
    assert ObjectCamera.from_token(token(k=-0.01)).distance == 10
