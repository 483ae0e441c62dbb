"""The unsharp engine: sharper, the same colours, no halos."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.control import Control
from pipeline.engines.enhance.unsharp import Unsharp
from pipeline.errors import Cancelled, InvalidOption
from pipeline.types import UInt8Array

SIZE = 128


def disc() -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
    cover: np.ndarray = np.clip(45 - np.hypot(x, y) + 0.5, 0, 1).astype(np.float32)
    return cover


def on_white(colour: np.ndarray) -> tuple[UInt8Array, UInt8Array]:
    """One view [1, S, S, 3] of a disc with these colours (0..255), and its alpha."""
    cover = disc()[..., None]
    image = np.rint(colour * cover + 255.0 * (1.0 - cover)).astype(np.uint8)
    alpha = np.rint(disc() * 255).astype(np.uint8)
    image.setflags(write=False)
    return image[None], alpha[None]


def texture(sigma: float = 0.0) -> np.ndarray:
    """Coloured speckle, softened by sigma pixels before it is cut to the disc."""
    rng = np.random.default_rng(0)
    speckle = cv2.GaussianBlur(rng.normal(0, 1, (SIZE, SIZE, 3)), (0, 0), 1.0) * 90 + 110
    speckle = np.clip(speckle, 0, 255)
    return cv2.GaussianBlur(speckle, (0, 0), sigma) if sigma else speckle


def distance(a: UInt8Array, b: UInt8Array) -> float:
    return float(np.sqrt(((a.astype(float) - b) ** 2).mean()))


@pytest.mark.parametrize("sigma", [0.8, 1.2])
def test_a_soft_view_comes_nearer_to_the_sharp_one(sigma: float) -> None:
    sharp, alpha = on_white(texture())
    soft, _ = on_white(texture(sigma))
    before = distance(soft, sharp)
    errors = [distance(Unsharp().sharpen(soft, alpha, s, Control()), sharp) for s in (0.25, 0.5)]
    assert errors[1] < errors[0] < before
    assert errors[1] < 0.93 * before


def test_strength_zero_changes_nothing() -> None:
    view, alpha = on_white(texture())
    assert np.array_equal(Unsharp().sharpen(view, alpha, 0.0, Control()), view)


def test_colours_do_not_drift() -> None:
    view, alpha = on_white(texture(1.0))
    inside = alpha[0] > 127
    enhanced = view
    for _ in range(4):
        enhanced = Unsharp().sharpen(enhanced, alpha, 0.5, Control())
    drift = enhanced[0][inside].mean(0) - view[0][inside].mean(0)
    assert np.abs(drift).max() < 1.0
    low = [cv2.GaussianBlur(v[0].astype(np.float32), (0, 0), 8) for v in (enhanced, view)]
    assert np.abs(low[0] - low[1])[inside].max() < 4.0


@pytest.mark.parametrize("level", [10, 60, 128, 240])
def test_no_halo_at_the_silhouette_and_white_stays_white(level: int) -> None:
    view, alpha = on_white(np.full((SIZE, SIZE, 3), float(level)))
    enhanced = Unsharp().sharpen(view, alpha, 1.0, Control())
    assert np.abs(enhanced.astype(int) - view).max() <= 2
    assert (enhanced[alpha == 0] == 255).all()


def test_an_edge_does_not_ring() -> None:
    step = np.full((SIZE, SIZE, 3), 60.0)
    step[:, SIZE // 2 :] = 180.0
    view, alpha = on_white(cv2.GaussianBlur(step, (0, 0), 1.0))
    enhanced = Unsharp().sharpen(view, alpha, 1.0, Control())[0, SIZE // 2, 30:98, 0].astype(int)
    assert enhanced.min() > 60 - 15
    assert enhanced.max() < 180 + 15
    assert (
        np.abs(np.diff(enhanced)).max()
        > np.abs(np.diff(view[0, SIZE // 2, 30:98, 0].astype(int))).max()
    )


def test_an_empty_view_comes_back_unchanged() -> None:
    white = np.full((2, 32, 32, 3), 255, np.uint8)
    assert np.array_equal(
        Unsharp().sharpen(white, np.zeros((2, 32, 32), np.uint8), 1.0, Control()), white
    )


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan")])
def test_strength_out_of_range_is_refused(strength: float) -> None:
    view, alpha = on_white(texture())
    with pytest.raises(InvalidOption, match="strength"):
        Unsharp().sharpen(view, alpha, strength, Control())


def test_a_stopped_engine_stops() -> None:
    control = Control()
    control.stop.set()
    with pytest.raises(Cancelled):
        Unsharp().sharpen(*on_white(texture()), 0.5, control)
