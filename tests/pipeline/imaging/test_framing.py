"""Cut-outs: centred, of the right size, without a fringe of any ground."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import InvalidImage
from pipeline.imaging.framing import GIVEN_ALPHA, frame_object
from tests.oracles.discs import disc_alpha


@pytest.mark.parametrize(("size", "longest"), [(256, 200), (512, 400)])
def test_the_object_is_centred_and_scaled(size: int, longest: int) -> None:
    alpha = np.zeros((300, 400), np.uint8)
    alpha[20:140, 250:310] = 255
    cutout = frame_object(np.full((300, 400, 3), 90, np.uint8), alpha, engine="test", size=size)
    rows, columns = (np.flatnonzero((cutout.rgba[..., 3] > 127).any(a)) for a in (1, 0))
    assert cutout.rgba.shape == (size, size, 4)
    assert abs(rows[-1] - rows[0] + 1 - longest) <= 1
    assert abs(columns[-1] - columns[0] + 1 - longest / 2) <= 1
    assert abs(rows[0] + rows[-1] + 1 - size) <= 1
    assert abs(columns[0] + columns[-1] + 1 - size) <= 1
    assert cutout.engine == "test"


@pytest.mark.parametrize(
    ("longest", "side", "scale"),
    [(200, 512, 2.0), (400, 512, 1.0), (401, 513, 1.0), (777, 995, 1.0), (1250, 1280, 0.8)],
)
def test_a_large_object_keeps_the_pixels_of_its_photo(
    longest: int, side: int, scale: float
) -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (400, 1400, 3)).astype(np.uint8)
    alpha = np.zeros((400, 1400), np.uint8)
    alpha[100:300, 60 : 60 + longest] = 255
    rgba = frame_object(rgb, alpha, engine=GIVEN_ALPHA, size=None).rgba
    assert rgba.shape == (side, side, 4)
    inside = rgba[..., 3] > 127
    assert inside.any(0).sum() == round(longest * scale)
    assert inside.any(1).sum() == round(200 * scale)
    if scale == 1.0:
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        shown = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, :3]
        assert np.array_equal(shown, rgb[100:300, 60 : 60 + longest])
    if side == 512:
        assert np.array_equal(rgba, frame_object(rgb, alpha, engine=GIVEN_ALPHA).rgba)


@pytest.mark.parametrize("engine", [GIVEN_ALPHA, "rembg-u2netp"])
@pytest.mark.parametrize("ground", [0, 255])
def test_neither_old_nor_new_ground_leaves_a_fringe(engine: str, ground: int) -> None:
    alpha = disc_alpha(200, 61.3)
    colour = np.array([120, 60, 30])
    share = alpha[..., None] / 255.0 if engine != GIVEN_ALPHA else (alpha[..., None] > 0)
    rgb = np.rint(colour * share + ground * (1 - share)).astype(np.uint8)
    rgba = frame_object(rgb, alpha, engine=engine, size=256).rgba
    assert np.abs(rgba[..., :3].astype(int) - colour).max() <= 2


def test_a_part_thinner_than_the_margin_keeps_its_colour() -> None:
    alpha = np.zeros((400, 400), np.uint8)
    alpha[100:300, 100:300] = 255
    alpha[199:202, 300:380] = 255
    rgb = np.full((400, 400, 3), (200, 30, 30), np.uint8)
    rgb[:, 300:] = (30, 30, 200)
    rgba = frame_object(rgb, alpha, engine="rembg-u2netp", size=256).rgba
    handle = rgba[..., :3][(rgba[..., 3] > 200) & (np.arange(256)[None] > 190)]
    assert len(handle) > 20
    assert (handle[:, 2] > 150).all()


def test_no_foreground_is_said_so() -> None:
    rgb = np.zeros((200, 200, 3), np.uint8)
    specks = np.zeros((200, 200), np.uint8)
    specks[50:54, 50:54] = 255
    for alpha in (np.zeros((200, 200), np.uint8), np.full((200, 200), 60, np.uint8), specks):
        with pytest.raises(InvalidImage, match="no foreground"):
            frame_object(rgb, alpha, engine="test")
