"""The SDXL enhancer without its networks: options, depth pictures, grids, detail, memory."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from pipeline.engines.enhance.sdxl.sdxl_memory import MemoryPlan, memory_plan
from pipeline.engines.enhance.sdxl.sdxl_options import SdxlOptions
from pipeline.engines.enhance.sdxl.sdxl_pictures import (
    depth_pictures,
    keep_detail,
    pack_grids,
    resized,
    unpack_grids,
    work_size,
)
from pipeline.engines.enhance.sdxl_limits import MIN_STRENGTH, steps_for
from pipeline.errors import InvalidOption
from pipeline.types import FloatArray, UInt8Array


@pytest.mark.parametrize(
    ("strength", "steps"),
    [
        (0.125, 1),
        (0.15, 1),
        (0.18, 1),
        (0.1875, 2),
        (0.25, 2),
        (0.35, 3),
        (0.5, 4),
        (0.95, 8),
        (1, 8),
    ],
)
def test_strength_is_rounded_to_the_nearest_eighth(strength: float, steps: int) -> None:
    assert steps_for(strength) == steps


@pytest.mark.parametrize("strength", [0.0, 0.1249, 1.01, -1.0, float("nan"), float("inf")])
def test_strength_that_is_no_step_or_too_many_is_refused(strength: float) -> None:
    with pytest.raises(InvalidOption, match="strength"):
        steps_for(strength)
    assert MIN_STRENGTH == 0.125


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"grid": True, "cross_view": True}, "grid and cross_view"),
        ({"resolution": 0}, "resolution"),
        ({"controlnet_scale": 2.1}, "controlnet_scale"),
        ({"controlnet_scale": float("nan")}, "controlnet_scale"),
        ({"views_at_once": 0}, "views_at_once"),
        ({"low_frequency_sigma": 0.0}, "low_frequency_sigma"),
        ({"low_frequency_sigma": float("nan")}, "low_frequency_sigma"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, float], named: str) -> None:
    with pytest.raises(InvalidOption, match=named):
        SdxlOptions(**options)  # type: ignore[arg-type]


def ramp(near: float, far: float) -> FloatArray:
    """A view whose depth grows from left to right, without anything in the first two columns."""
    depth = np.linspace(near, far, 1000, dtype=np.float32)[None].repeat(4, 0)
    depth[:, :2] = 0.0
    return depth


def opaque(depth: FloatArray) -> UInt8Array:
    return np.where(depth > 0.0, 255, 0).astype(np.uint8)


def test_near_is_white_far_is_black_and_so_is_nothing() -> None:
    depth = ramp(1.0, 2.0)[None]
    drawn = depth_pictures(depth, opaque(depth))
    assert drawn.shape == (1, 4, 1000, 3)
    assert drawn.dtype == np.float32
    assert (drawn[..., :2, :] == 0.0).all()
    line = drawn[0, 0, 2:, 0]
    assert line[0] == 1.0
    assert line[-1] == 0.0
    assert (np.diff(line) <= 0.0).all()
    assert (drawn[..., 0] == drawn[..., 1]).all() and (drawn[..., 0] == drawn[..., 2]).all()
    # Linear in 1 / z: half way between 1 and 1/2 lies z = 4/3.
    assert line[331] == pytest.approx(0.5, abs=0.01)


def test_all_views_have_one_near_and_one_far() -> None:
    depth = np.stack([ramp(1.0, 1.5), ramp(1.5, 3.0)])
    drawn = depth_pictures(depth, opaque(depth))[..., 0]
    assert drawn[0].max() == 1.0
    assert drawn[0][:, 2:].min() > 0.4
    assert drawn[1].max() < 0.55
    assert drawn[0, 0, -1] == pytest.approx(drawn[1, 0, 2], abs=0.01)


def test_stray_and_thin_splats_do_not_set_the_range() -> None:
    depth = ramp(1.0, 2.0)[None]
    alphas = opaque(depth)
    drawn = depth_pictures(depth, alphas)
    stray, thin = depth.copy(), alphas.copy()
    stray[0, 0, 5], stray[0, 1, 7] = 0.01, 50.0
    thin[0, 0, 5] = 60
    changed = depth_pictures(stray, thin)
    assert (changed[0, 0, 5] == 0.0).all()
    assert np.abs(changed - drawn)[0, 2:].max() < 0.01


def test_depth_without_any_range() -> None:
    flat = np.full((2, 4, 4), 1.5, np.float32)
    flat[0, 0] = 0.0
    drawn = depth_pictures(flat, np.full((2, 4, 4), 255, np.uint8))
    assert (drawn[flat > 0.0] == 1.0).all()
    assert (drawn[0, 0] == 0.0).all()
    nothing = depth_pictures(np.zeros((1, 4, 4), np.float32), np.zeros((1, 4, 4), np.uint8))
    assert (nothing == 0.0).all()


@pytest.mark.parametrize("views", [1, 3, 4, 5, 14])
def test_grids_come_apart_as_they_were_put_together(views: int) -> None:
    pictures = torch.randn(views, 3, 6, 8)
    grids = pack_grids(pictures)
    assert grids.shape == (-(-views // 4), 3, 12, 16)
    assert torch.equal(unpack_grids(grids, views), pictures)


def test_a_grid_is_read_row_by_row_and_filled_with_the_first_views() -> None:
    pictures = torch.arange(6.0)[:, None, None, None].expand(6, 1, 2, 2)
    first, second = pack_grids(pictures)
    assert first[0, ::2, ::2].tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert second[0, ::2, ::2].tolist() == [[4.0, 5.0], [0.0, 1.0]]


def test_sizes_inside_the_network_are_whole_at_every_level() -> None:
    assert work_size(256, 256, 512, 32) == (512, 512)
    assert work_size(256, 208, 512, 32) == (512, 416)
    assert work_size(10, 1000, 512, 32) == (32, 512)


def test_resizing_keeps_every_axis() -> None:
    pictures = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    assert resized(pictures, (16, 12)).shape == (3, 16, 12, 1)
    step = np.where(np.arange(8) < 4, 0.0, 1.0).astype(np.float32)[None, None, :, None]
    edge = np.repeat(step, 8, 1)
    assert resized(edge, (16, 16)).max() > 1.0
    assert resized(edge, (16, 16), overshoot=False).max() == 1.0
    small = resized(pictures, (4, 4))
    assert small[0, 0, 0, 0] == pytest.approx(pictures[0, :2, :2].mean())


SIZE = 128


def disc(sigma: float) -> tuple[UInt8Array, UInt8Array]:
    """A disc of two colours on white with an edge across it, softened; and its alpha."""
    y, x = np.mgrid[:SIZE, :SIZE]
    cover = np.clip(50.0 - np.hypot(x - 64.0, y - 64.0), 0.0, 1.0)
    colour = np.where((x + 0.3 * y > 80)[..., None], (180.0, 90.0, 60.0), (60.0, 120.0, 150.0))
    soft = cv2.GaussianBlur(colour, (0, 0), sigma) if sigma else colour
    image = soft * cover[..., None] + 255.0 * (1.0 - cover[..., None])
    return (
        np.rint(image).astype(np.uint8)[None],
        np.rint(255.0 * cover).astype(np.uint8)[None],
    )


def test_an_edge_gets_sharper_and_a_drift_of_colour_is_taken_back() -> None:
    image, alpha = disc(2.0)
    sharp, _ = disc(0.0)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
    drift = np.stack([25.0 + 0.0 * x, -20.0 * x, 15.0 * y], axis=-1)
    change = sharp.astype(np.float32) - image + drift
    kept = keep_detail(image, alpha, change.astype(np.float32), 4.0)
    inside = cv2.erode(alpha[0], np.ones((15, 15), np.uint8)) == 255

    def error(view: UInt8Array) -> float:
        return float(np.abs(view[0].astype(float) - sharp[0])[inside].mean())

    assert error(kept) < 0.5 * error(image)
    assert error(keep_detail(image, alpha, change - drift, 4.0)) < error(kept) + 0.5
    mean = (kept.astype(float) - image)[0][inside].mean(0)
    assert np.abs(mean).max() < 1.0


def test_the_ground_stays_white_and_the_rim_as_it_was() -> None:
    image, alpha = disc(0.0)
    image[0, 0, 0] = 254
    noise = np.random.default_rng(0).normal(0.0, 60.0, image.shape).astype(np.float32)
    kept = keep_detail(image, alpha, noise, 4.0)
    assert (kept[alpha == 0] == 255).all()
    thin = (alpha > 0) & (alpha < 128)
    assert thin.any()
    assert (kept[thin] == image[thin]).all()
    inside = cv2.erode(alpha[0], np.ones((9, 9), np.uint8)) == 255
    assert np.abs(kept[0].astype(float) - image[0])[inside].mean() > 20.0


def test_a_view_of_nothing_and_a_view_without_ground() -> None:
    image = np.full((2, 32, 32, 3), 100, np.uint8)
    alphas = np.stack([np.zeros((32, 32)), np.full((32, 32), 255)]).astype(np.uint8)
    change = np.random.default_rng(0).normal(0.0, 30.0, image.shape).astype(np.float32)
    kept = keep_detail(image, alphas, change, 4.0)
    assert (kept[0] == 255).all()
    assert np.abs(kept[1].astype(float) - 100.0).mean() > 5.0
    assert abs(kept[1].mean() - 100.0) < 1.0


GIB = 2**30
LARGE, SMALL = 1024**2, 512**2


@pytest.mark.parametrize(
    ("free", "views", "pixels", "more", "plan"),
    [
        # A CPU: one picture at a time, uncut.
        (None, 14, SMALL, {}, MemoryPlan(1, False, False)),
        (None, 14, SMALL, {"grid": True}, MemoryPlan(4, False, False)),
        (None, 14, SMALL, {"cross_view": True}, MemoryPlan(14, False, False)),
        # A large card takes all of them, a whole number of grids.
        (60 * GIB, 14, SMALL, {}, MemoryPlan(14, False, False)),
        (60 * GIB, 14, SMALL, {"grid": True}, MemoryPlan(16, False, False)),
        (60 * GIB, 14, LARGE, {"cross_view": True}, MemoryPlan(14, False, False)),
        # 0.42 GiB for a picture of 1024 pixels, 3 GiB for the VAE at that size.
        (4 * GIB, 14, LARGE, {}, MemoryPlan(9, False, False)),
        (2 * GIB, 14, LARGE, {}, MemoryPlan(4, False, True)),
        (1 * GIB, 14, SMALL, {"grid": True}, MemoryPlan(8, False, False)),
        (GIB // 2, 14, SMALL, {"grid": True}, MemoryPlan(4, False, True)),
        # Twice as much in fp32.
        (4 * GIB, 14, LARGE, {"bytes_per_number": 4}, MemoryPlan(4, False, True)),
        # Next to nothing: the last resort.
        (GIB // 10, 14, LARGE, {}, MemoryPlan(1, True, True)),
        (GIB // 10, 14, SMALL, {"grid": True}, MemoryPlan(4, True, True)),
        (0, 14, SMALL, {"cross_view": True}, MemoryPlan(14, False, True)),
    ],
)
def test_memory_plan(
    free: int | None, views: int, pixels: int, more: dict[str, int], plan: MemoryPlan
) -> None:
    assert memory_plan(free, views, pixels, **more) == plan  # type: ignore[arg-type]
