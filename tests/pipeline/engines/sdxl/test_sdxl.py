"""The SDXL enhancer on small random networks: steps, noise, views together, cancelling, memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.control import Control, Progress
from pipeline.device import Device, Precision
from pipeline.engines.enhance.sdxl import SdxlEnhancer, SdxlFolders
from pipeline.errors import (
    Cancelled,
    InvalidInput,
    InvalidOption,
    ModelFailed,
    OutOfMemory,
)
from pipeline.requests import EnhanceSettings
from tests.pipeline.engines.sdxl.builders import (
    CPU,
    CROSS,
    GRID,
    HALF,
    SINGLE,
    SIZE,
    draw,
    renders,
)


@pytest.fixture
def calls(single: SdxlEnhancer) -> Iterator[list[int]]:
    """Timesteps at which the UNet of `single` was called."""
    seen: list[int] = []
    unet: Any = single._unet
    hook = unet.register_forward_pre_hook(lambda _module, args: seen.append(int(args[1])))
    yield seen
    hook.remove()


@pytest.mark.parametrize(
    ("strength", "timesteps"),
    [
        (0.125, [124]),
        (0.25, [249, 124]),
        (0.375, [374, 249, 124]),
        (0.5, [499, 374, 249, 124]),
        (1.0, [999, 874, 749, 624, 499, 374, 249, 124]),
    ],
)
def test_exactly_the_last_steps_run(
    single: SdxlEnhancer, calls: list[int], strength: float, timesteps: list[int]
) -> None:
    enhanced = single.enhance(renders(1), EnhanceSettings(strength), Control())
    assert calls == timesteps
    assert enhanced.notes == ()


def test_the_notes_say_what_was_run_where_strength_was_rounded(
    single: SdxlEnhancer, calls: list[int]
) -> None:
    enhanced = single.enhance(renders(1), EnhanceSettings(0.35), Control())
    assert len(calls) == 3
    assert enhanced.notes == ("Strength 0.35 was run as 3/8.",)
    assert enhanced.engine == "sdxl"


def test_less_than_one_step_is_refused(single: SdxlEnhancer, calls: list[int]) -> None:
    with pytest.raises(InvalidOption, match="strength"):
        single.enhance(renders(1), EnhanceSettings(0.12), Control())
    assert calls == []


def test_a_negative_prompt_is_refused(single: SdxlEnhancer) -> None:
    with pytest.raises(InvalidOption, match="negative_prompt"):
        single.enhance(renders(1), replace(HALF, negative_prompt="blur"), Control())


def test_renders_without_depth_or_of_different_shapes_are_refused(single: SdxlEnhancer) -> None:
    given = renders(2)
    with pytest.raises(InvalidInput, match="depth"):
        single.enhance(replace(given, depth=None), HALF, Control())
    with pytest.raises(InvalidInput, match="do not belong together"):
        single.enhance(replace(given, alphas=given.alphas[:1]), HALF, Control())


def test_no_views_are_no_views(single: SdxlEnhancer) -> None:
    assert single.enhance(renders(1).select([]), HALF, Control()).images.shape == (0, SIZE, SIZE, 3)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(engine: SdxlEnhancer) -> None:
    first, again, other = (
        engine.enhance(renders(3), replace(HALF, seed=seed), Control()).images for seed in (5, 5, 6)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_progress_rises_to_the_end(engine: SdxlEnhancer) -> None:
    seen: list[Progress] = []
    engine.enhance(renders(5), EnhanceSettings(0.25), Control(report_to=seen.append))
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert 0.9 < fractions[-1] <= 1.0
    steps = [progress.message for progress in seen if progress.message.startswith("step")]
    assert steps == ["step 1 of 2", "step 2 of 2"] * 2


@pytest.mark.parametrize("moment", ["encoding view 2", "step 1 of 4", "decoding view 3"])
def test_a_stop_ends_the_call_and_leaves_nothing_behind(engine: SdxlEnhancer, moment: str) -> None:
    before = engine.enhance(renders(5), HALF, Control()).images
    control = Control(report_to=lambda p: control.stop.set() if p.message == moment else None)
    with pytest.raises(Cancelled):
        engine.enhance(renders(5), HALF, control)
    assert (engine.enhance(renders(5), HALF, Control()).images == before).all()


class SmallDevice:
    """Denoising that has room for so many pictures; tells how many were tried."""

    def __init__(self, engine: SdxlEnhancer, room: int) -> None:
        self.tried: list[int] = []
        self._engine, self._room = engine, room
        self._denoise = engine._denoise

    def __call__(self, noisy: torch.Tensor, *rest: Any) -> torch.Tensor:
        self.tried.append(len(noisy))
        if len(noisy) > self._room:
            raise torch.OutOfMemoryError("no room")
        return self._denoise(noisy, *rest)


def test_where_memory_is_full_half_of_the_views_are_tried_once(
    folders: SdxlFolders, single: SdxlEnhancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SdxlEnhancer.load(folders, CPU, replace(SINGLE, views_at_once=4))
    small = SmallDevice(engine, 2)
    monkeypatch.setattr(engine, "_denoise", small)
    enhanced = engine.enhance(renders(4), HALF, Control()).images
    assert small.tried == [4, 2, 2]
    expected = single.enhance(renders(4), HALF, Control()).images
    assert np.abs(enhanced.astype(int) - expected).max() <= 1
    monkeypatch.setattr(engine, "_denoise", tinier := SmallDevice(engine, 1))
    with pytest.raises(OutOfMemory, match="Enhancing 4 views"):
        engine.enhance(renders(4), HALF, Control())
    assert tinier.tried == [4, 2]


def test_grids_are_halved_too_and_joined_views_are_not(
    folders: SdxlFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SdxlEnhancer.load(folders, CPU, replace(GRID, views_at_once=8))
    small = SmallDevice(engine, 1)
    monkeypatch.setattr(engine, "_denoise", small)
    engine.enhance(renders(8), HALF, Control())
    assert small.tried == [2, 1, 1]
    joined = SdxlEnhancer.load(folders, CPU, CROSS)
    monkeypatch.setattr(joined, "_denoise", small := SmallDevice(joined, 3))
    with pytest.raises(OutOfMemory, match="Enhancing 4 views"):
        joined.enhance(renders(4), HALF, Control())
    assert small.tried == [4]


def test_little_memory_slices_and_tiles_and_draws_nearly_the_same(
    folders: SdxlFolders, single: SdxlEnhancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SdxlEnhancer.load(folders, CPU, SINGLE)
    expected = draw(single, renders(2))
    monkeypatch.setattr(Device, "free_bytes", lambda _self: 0)
    cut = draw(engine, renders(2))
    kinds = {type(p).__name__ for p in engine._unet.attn_processors.values()}
    assert kinds == {"SlicedAttnProcessor"}
    assert engine._vae.use_tiling
    # Tiles of a random VAE differ: it looks at the whole view at once.
    assert np.abs(cut - expected).mean() < 0.5 * np.abs(expected).mean()
    monkeypatch.undo()
    assert (draw(engine, renders(2)) == expected).all()


def test_numbers_that_are_not_finite_are_an_error_that_names_the_views(
    single: SdxlEnhancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoise, count = single._denoise, 0

    def broken(*args: Any) -> torch.Tensor:
        nonlocal count
        count += 1
        return denoise(*args) * (float("nan") if count in (2, 3) else 1.0)

    monkeypatch.setattr(single, "_denoise", broken)
    with pytest.raises(ModelFailed, match="view 1, 2 of 4"):
        single.enhance(renders(4), HALF, Control())


def test_bf16(folders: SdxlFolders, single: SdxlEnhancer) -> None:
    device = Device(torch.device("cpu"), Precision.BF16)
    engine = SdxlEnhancer.load(folders, device, SINGLE)
    drawn, expected = draw(engine, renders(1)), draw(single, renders(1))
    assert np.abs(drawn - expected).mean() < 0.05 * np.abs(expected).mean()


def test_warming_up_changes_nothing(engine: SdxlEnhancer) -> None:
    before = engine.enhance(renders(1), HALF, Control()).images
    engine.warm_up()
    assert (engine.enhance(renders(1), HALF, Control()).images == before).all()
