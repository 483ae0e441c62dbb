"""Background removal: what counts as an object, and what the matte looks like."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage import data

from pipeline.control import Control
from pipeline.engines.background import background_specs
from pipeline.engines.background.background_specs import U2NETP
from pipeline.engines.background.removers import (
    GrabCut,
    U2Net,
    clean_mask,
)
from pipeline.errors import Cancelled, InvalidImage, Unavailable
from pipeline.imaging.framing import frame_object
from pipeline.ports import BackgroundEngine, PortName
from pipeline.types import UInt8Array
from pipeline.weights.folders import find
from tests.pipeline.engines.loading import load


@pytest.fixture(scope="module")
def u2net() -> U2Net:
    try:
        return U2Net(find(U2NETP))
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(params=["u2net", "grabcut"])
def engine(request: pytest.FixtureRequest) -> BackgroundEngine:
    if request.param == "grabcut":
        return GrabCut()
    chosen: U2Net = request.getfixturevalue("u2net")
    return chosen


def disc_mask(height: int = 300, width: int = 400, radius: float = 90.0) -> np.ndarray:
    y, x = np.mgrid[:height, :width] + 0.5
    mask: np.ndarray = np.hypot(x - width * 0.55, y - height * 0.5) < radius
    return mask


def disc_photo(ground: tuple[int, int, int] = (235, 232, 228)) -> UInt8Array:
    rng = np.random.default_rng(0)
    rgb = np.where(disc_mask()[..., None], np.array([30, 60, 200]), np.array(ground))
    noisy: UInt8Array = np.clip(rgb + rng.normal(0, 3, rgb.shape), 0, 255).astype(np.uint8)
    noisy.setflags(write=False)  # as it arrives from another process
    return noisy


def overlap(alpha: UInt8Array, mask: np.ndarray) -> float:
    found = alpha > 127
    return float((found & mask).sum() / (found | mask).sum())


def test_the_object_is_found(engine: BackgroundEngine) -> None:
    alpha = engine.remove(disc_photo(), Control())
    assert alpha.shape == (300, 400)
    assert alpha.dtype == np.uint8
    assert overlap(alpha, disc_mask()) > 0.97
    assert (alpha[disc_mask(radius=80)] == 255).all()
    assert (alpha[~disc_mask(radius=100)] == 0).all()


def test_the_result_is_the_same_every_time(engine: BackgroundEngine) -> None:
    photo = disc_photo()
    first, second = (engine.remove(photo, Control()) for _ in range(2))
    assert np.array_equal(first, second)


def test_a_picture_of_nothing_is_refused(engine: BackgroundEngine) -> None:
    rng = np.random.default_rng(1)
    paper = np.clip(250 + rng.normal(0, 3, (200, 300, 3)), 0, 255).astype(np.uint8)
    ramp = np.repeat(np.linspace(60, 200, 300).astype(np.uint8)[None, :, None], 200, 0)
    plain = [np.full((200, 300, 3), level, np.uint8) for level in (0, 128, 255)]
    for nothing in [*plain, paper, np.repeat(ramp, 3, 2)]:
        with pytest.raises(InvalidImage, match="no foreground"):
            engine.remove(nothing, Control())


def test_texture_without_an_object_is_refused(u2net: U2Net) -> None:
    for texture in (data.gravel(), data.grass(), data.brick()):
        with pytest.raises(InvalidImage, match="no foreground"):
            u2net.remove(np.repeat(texture[..., None], 3, 2), Control())


def test_noise_has_no_background(u2net: U2Net) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    with pytest.raises(InvalidImage, match="no background"):
        u2net.remove(noise, Control())


def test_a_stopped_engine_stops(engine: BackgroundEngine) -> None:
    control = Control()
    control.stop.set()
    with pytest.raises(Cancelled):
        engine.remove(disc_photo(), control)


def test_a_real_photo_loses_its_table(engine: BackgroundEngine) -> None:
    photo = data.coffee()
    alpha = engine.remove(photo, Control())
    assert 0.25 < (alpha > 127).mean() < 0.6
    assert alpha[250, 300] == 255  # the cup
    assert max(alpha[:, :60].max(), alpha[:, -60:].max()) == 0  # the table
    frame_object(photo, alpha, engine=engine.name)


def test_a_large_photo_gets_an_alpha_of_its_own_size(u2net: U2Net) -> None:
    large = np.kron(disc_photo(), np.ones((4, 4, 1), np.uint8))
    alpha = u2net.remove(large, Control())
    assert alpha.shape == (1200, 1600)
    assert overlap(alpha, np.kron(disc_mask(), np.ones((4, 4), bool))) > 0.97


def test_litter_goes_and_large_parts_stay() -> None:
    matte = np.zeros((120, 200), np.float32)
    matte[20:100, 20:80] = 1.0
    matte[20:80, 110:160] = 1.0
    matte[100:108, 180:188] = 1.0
    matte[98:110, 178:190] = np.maximum(matte[98:110, 178:190], 0.3)
    cleaned = clean_mask(matte)
    assert ndimage.label(cleaned > 0)[1] == 2
    assert np.array_equal(cleaned[:, :170], matte[:, :170])


def test_a_handles_hole_stays_and_a_pinhole_is_filled() -> None:
    matte = np.zeros((200, 200), np.float32)
    matte[20:180, 20:180] = 1.0
    matte[60:90, 60:90] = 0.0
    matte[130:134, 130:134] = 0.0
    cleaned = clean_mask(matte)
    assert (cleaned[60:90, 60:90] == 0).all()
    assert (cleaned[130:134, 130:134] == 1).all()


def test_nothing_stays_nothing() -> None:
    assert not clean_mask(np.full((50, 50), 0.3, np.float32)).any()


def test_auto_takes_the_network_where_its_weights_are(
    u2net: U2Net, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert load(PortName.BACKGROUND, "auto").name == u2net.name
    assert "u2netp" in caplog.text


def test_auto_without_weights_falls_back_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nowhere(*_args: object) -> Path:
        raise Unavailable("not on this machine")

    monkeypatch.setattr(background_specs, "find", nowhere)
    assert load(PortName.BACKGROUND, "auto", tmp_path).name == "grabcut"
    assert "not on this machine" in caplog.text
    with pytest.raises(Unavailable):
        load(PortName.BACKGROUND, "rembg", tmp_path)


def test_grabcut_is_chosen_by_name() -> None:
    assert load(PortName.BACKGROUND, "grabcut").name == "grabcut"
