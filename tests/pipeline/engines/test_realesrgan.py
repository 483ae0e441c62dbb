"""Real-ESRGAN: more detail, the same colours, no halos, no seams; and who is chosen."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from skimage import data

from pipeline.control import Control, Progress
from pipeline.engines.enhance import realesrgan, sharpener_specs
from pipeline.engines.enhance.realesrgan import RealEsrgan
from pipeline.engines.enhance.sharpener_specs import REALESRGAN_BIN, REALESRGAN_PARAM
from pipeline.engines.perceptual.lpips import find_lpips
from pipeline.errors import Cancelled, InvalidOption, OutOfMemory, Unavailable
from pipeline.ports import PortName
from pipeline.types import UInt8Array
from pipeline.weights.folders import find
from tests.pipeline.engines.loading import load
from tests.pipeline.engines.test_unsharp import SIZE, disc, distance, on_white


@pytest.fixture(scope="module")
def engine() -> RealEsrgan:
    pytest.importorskip("ncnn")
    try:
        return RealEsrgan(find(REALESRGAN_PARAM), find(REALESRGAN_BIN))
    except Unavailable as error:
        pytest.skip(str(error))


def drawing(sigma: float = 0.0) -> np.ndarray:
    """Coloured discs with hard edges, softened by sigma pixels; float [S, S, 3] in 0..255."""
    rng = np.random.default_rng(0)
    canvas = np.full((SIZE, SIZE, 3), 120.0)
    for _ in range(40):
        centre = tuple(int(v) for v in rng.integers(10, SIZE - 10, 2))
        colour = tuple(float(v) for v in rng.integers(20, 235, 3))
        cv2.circle(canvas, centre, int(rng.integers(4, 14)), colour, -1, cv2.LINE_8)
    canvas = cv2.GaussianBlur(canvas, (0, 0), 0.5)
    return cv2.GaussianBlur(canvas, (0, 0), sigma) if sigma else canvas


@pytest.fixture(scope="module")
def soft(engine: RealEsrgan) -> tuple[UInt8Array, UInt8Array, UInt8Array]:
    """A soft view, its alpha, and the view enhanced at strength 1."""
    view, alpha = on_white(drawing(1.5))
    return view, alpha, engine.sharpen(view, alpha, 1.0, Control())


def test_a_soft_photo_comes_nearer_to_the_sharp_one(engine: RealEsrgan) -> None:
    sharp = cv2.resize(data.coffee()[60:380, 130:450], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    soft = np.rint(cv2.GaussianBlur(sharp.astype(float), (0, 0), 1.5)).astype(np.uint8)
    opaque = np.full((1, SIZE, SIZE), 255, np.uint8)
    seen = [engine.sharpen(soft[None], opaque, s, Control())[0] for s in (0.25, 0.5)]
    errors = [distance(view, sharp) for view in (soft, *seen)]
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.85 * errors[0]
    lpips = find_lpips()
    if lpips is not None:
        before, after = lpips.distance(
            (np.stack([soft, seen[1]]) / 255.0).astype(np.float32),
            (np.stack([sharp, sharp]) / 255.0).astype(np.float32),
        )
        assert after < 0.6 * before


def test_low_frequencies_are_those_of_the_render(
    soft: tuple[UInt8Array, UInt8Array, UInt8Array],
) -> None:
    view, alpha, enhanced = soft
    inside = alpha[0] > 127
    low = [cv2.GaussianBlur(v[0].astype(np.float32), (0, 0), 6) for v in (enhanced, view)]
    assert np.abs(low[0] - low[1])[inside].mean() < 1.0
    assert np.abs((enhanced[0].astype(float) - view[0])[inside].mean(0)).max() < 1.0


def test_the_ground_and_the_rim_are_left_alone(
    soft: tuple[UInt8Array, UInt8Array, UInt8Array],
) -> None:
    view, alpha, enhanced = soft
    assert (enhanced[alpha == 0] == 255).all()
    assert np.array_equal(enhanced[alpha < 255], view[alpha < 255])


@pytest.mark.parametrize("level", [10, 128, 240])
def test_no_halo_at_the_silhouette(engine: RealEsrgan, level: int) -> None:
    view, alpha = on_white(np.full((SIZE, SIZE, 3), float(level)))
    change = np.abs(engine.sharpen(view, alpha, 0.5, Control()).astype(int) - view)
    assert change.max() <= 5
    assert change.mean() < 0.3


def test_the_result_is_the_same_every_time_and_views_do_not_mix(
    engine: RealEsrgan, soft: tuple[UInt8Array, UInt8Array, UInt8Array]
) -> None:
    view, alpha, enhanced = soft
    white = np.full_like(view, 255)
    views = np.concatenate([white, view])
    views.setflags(write=False)
    alphas = np.concatenate([np.zeros_like(alpha), alpha])
    again = engine.sharpen(views, alphas, 1.0, Control())
    assert np.array_equal(again[0], white[0])
    assert np.array_equal(again[1], enhanced[0])


def test_strength_zero_changes_nothing(engine: RealEsrgan) -> None:
    view, alpha = on_white(drawing())
    assert np.array_equal(engine.sharpen(view, alpha, 0.0, Control()), view)


def test_tiles_leave_no_seams(
    engine: RealEsrgan,
    soft: tuple[UInt8Array, UInt8Array, UInt8Array],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    view, alpha, whole = soft
    monkeypatch.setattr(realesrgan, "TILE", 40)
    steps: list[Progress] = []
    tiled = engine.sharpen(view, alpha, 1.0, Control(report_to=steps.append))
    assert len(steps) > 4
    assert [s.fraction for s in steps] == sorted(s.fraction for s in steps)
    # A seam would be a line along which the tiled picture leaves the whole one in a jump.
    apart = tiled[0].astype(float) - whole[0]
    assert np.abs(apart).mean() < 3.0
    for axis in (0, 1):
        along = np.abs(np.diff(apart, axis=axis)).mean((1 - axis, 2))
        assert along.max() < 3.0 * np.percentile(along, 90)


@pytest.mark.parametrize("size", [1, 50, 111, 112, 113, 128, 205, 500])
def test_the_weights_of_the_tiles_add_up_to_one(size: int) -> None:
    total = np.zeros(4 * size)
    for place, weight in realesrgan._tiles(size):
        assert place.stop - place.start <= realesrgan.TILE
        total[4 * place.start : 4 * place.stop] += weight
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize("shape", [(3, 5), (64, 33), (31, 96)])
def test_odd_and_small_views_keep_their_size(engine: RealEsrgan, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, *shape, 3), np.uint8)
    enhanced = engine.sharpen(image, np.full((1, *shape), 255, np.uint8), 0.5, Control())
    assert enhanced.shape == image.shape


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan")])
def test_strength_out_of_range_is_refused(engine: RealEsrgan, strength: float) -> None:
    with pytest.raises(InvalidOption, match="strength"):
        engine.sharpen(*on_white(drawing()), strength, Control())


def test_it_stops_between_two_tiles(engine: RealEsrgan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realesrgan, "TILE", 40)
    control = Control()
    stopping = Control(control.stop, lambda progress: progress.fraction > 0 and control.stop.set())
    with pytest.raises(Cancelled):
        engine.sharpen(*on_white(drawing()), 0.5, stopping)


def test_auto_takes_the_network_where_its_weights_are(
    engine: RealEsrgan, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert load(PortName.ENHANCER, "auto").name == engine.name
    assert "realesrgan" in caplog.text


def test_auto_without_weights_takes_unsharp_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nowhere(*_args: object) -> Path:
        raise Unavailable("not on this machine")

    monkeypatch.setattr(sharpener_specs, "find", nowhere)
    assert load(PortName.ENHANCER, "auto", tmp_path).name == "unsharp"
    assert "not on this machine" in caplog.text
    with pytest.raises(Unavailable):
        load(PortName.ENHANCER, "realesrgan", tmp_path)


def test_files_that_ncnn_cannot_read_are_named(tmp_path: Path) -> None:
    pytest.importorskip("ncnn")
    damaged = tmp_path / "damaged.param"
    damaged.write_text("nothing")
    with pytest.raises(Unavailable, match="damaged"):
        RealEsrgan(damaged, damaged)


def test_unsharp_is_chosen_by_name() -> None:
    assert load(PortName.ENHANCER, "unsharp").name == "unsharp"


def test_the_disc_of_these_tests_is_one_tile() -> None:
    assert (disc() > 0).any(0).sum() / realesrgan.SHRINK < realesrgan.TILE


def test_a_layer_without_memory_is_out_of_memory(monkeypatch, engine: RealEsrgan) -> None:
    class Full:
        def input(self, *_args: object) -> int:
            return 0

        def extract(self, _name: str) -> tuple[int, np.ndarray]:
            return -100, np.zeros(0, np.float32)

    monkeypatch.setattr(engine, "_net", SimpleNamespace(create_extractor=Full))
    view, alpha = on_white(drawing())
    with pytest.raises(OutOfMemory, match="too little memory"):
        engine.sharpen(view, alpha, 1.0, Control())
