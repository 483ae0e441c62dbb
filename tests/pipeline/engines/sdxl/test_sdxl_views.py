"""Views together in the SDXL enhancer: one noise, grids, neighbours, depth, kept colours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pipeline.control import Control
from pipeline.engines.enhance.sdxl import SdxlEnhancer, SdxlFolders, SdxlOptions
from pipeline.engines.enhance.sdxl.sdxl_pictures import unpack_grids
from pipeline.errors import InvalidOption
from pipeline.requests import Renders
from pipeline.types import FloatArray
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
from tests.tiny.sdxl import TINY_RESOLUTION


def alike(views: int) -> Renders:
    """So many views that are the same."""
    one = renders(1)
    return one.select([0] * views)


@pytest.mark.parametrize("options", [GRID, SINGLE, CROSS])
def test_fourteen_views_of_the_service(folders: SdxlFolders, options: SdxlOptions) -> None:
    given = renders(14, 256)
    enhanced = SdxlEnhancer.load(folders, CPU, options).enhance(given, HALF, Control()).images
    assert enhanced.shape == given.images.shape
    assert enhanced.dtype == np.uint8
    assert (enhanced[given.alphas == 0] == 255).all()
    low = [cv2.GaussianBlur(v[0].astype(np.float32), (0, 0), 12) for v in (enhanced, given.images)]
    assert np.abs(low[0] - low[1])[given.alphas[0] > 0].mean() < 3.0
    assert np.abs(enhanced.astype(float) - given.images)[given.alphas > 0].mean() > 3.0


def test_views_that_are_not_square(single: SdxlEnhancer) -> None:
    given = renders(2)
    assert given.depth is not None
    cut = Renders(given.images[:, :, 20:80], given.alphas[:, :, 20:80], given.depth[:, :, 20:80])
    assert single.enhance(cut, HALF, Control()).images.shape == (2, SIZE, 60, 3)


@pytest.mark.parametrize("options", [GRID, SINGLE, CROSS])
def test_every_view_has_noise_of_its_own_whichever_views_it_comes_with(
    folders: SdxlFolders, options: SdxlOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SdxlEnhancer.load(folders, CPU, options)
    given: list[torch.Tensor] = []

    def seen(noisy: torch.Tensor, *_rest: Any) -> torch.Tensor:
        given.append(noisy)
        return noisy

    monkeypatch.setattr(engine, "_denoise", seen)

    def noises(views: tuple[int, ...]) -> dict[int, torch.Tensor]:
        given.clear()
        engine.enhance(replace(alike(len(views)), views=views), HALF, Control())
        noisy = torch.cat(given)
        if options.grid:
            noisy = unpack_grids(noisy, len(views))
        return dict(zip(views, noisy, strict=True))

    together = noises((0, 3, 4, 15))
    assert len({tuple(noisy.flatten().tolist()) for noisy in together.values()}) == 4
    for view, noisy in (noises((4,)) | noises((15, 0))).items():
        torch.testing.assert_close(noisy, together[view], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("grid", "counts"), [(False, (1, 3, 6)), (True, (4, 8))])
def test_the_result_does_not_depend_on_how_many_views_run_at_once(
    folders: SdxlFolders, grid: bool, counts: tuple[int, ...]
) -> None:
    results = []
    for count in counts:
        options = replace(GRID, grid=grid, views_at_once=count)
        engine = SdxlEnhancer.load(folders, CPU, options)
        sizes: list[int] = []
        unet: Any = engine._unet
        unet.register_forward_pre_hook(lambda _m, args, sizes=sizes: sizes.append(len(args[0])))
        results.append(engine.enhance(renders(6), HALF, Control()).images.astype(int))
        assert max(sizes) == (count // 4 if grid else count)
    for result in results[1:]:
        assert np.abs(result - results[0]).max() <= 1
        assert (result != results[0]).mean() < 1e-3


def with_another(given: Renders, view: int) -> Renders:
    """The renders with one view upside down."""
    images = given.images.copy()
    images[view] = images[view, ::-1]
    return replace(given, images=images)


@pytest.mark.parametrize(("options", "joined"), [(SINGLE, False), (GRID, True), (CROSS, True)])
def test_views_see_one_another_where_asked_to(
    folders: SdxlFolders, options: SdxlOptions, joined: bool
) -> None:
    engine = SdxlEnhancer.load(folders, CPU, options)
    given = renders(4)
    change = np.abs(draw(engine, with_another(given, 1)) - draw(engine, given))
    assert change[1].max() > 1.0
    assert (change[[0, 2, 3]].max((1, 2, 3)) > 1e-2).all() == joined
    assert (change[[0, 2, 3]].max() > 0.0) == joined


def test_views_that_are_alike_see_nothing_new_in_one_another(folders: SdxlFolders) -> None:
    alone, joined = (
        draw(SdxlEnhancer.load(folders, CPU, options), alike(3)) for options in (SINGLE, CROSS)
    )
    assert np.abs(alone - joined).max() < 0.02


def test_cross_view_needs_all_views_at_once(folders: SdxlFolders) -> None:
    engine = SdxlEnhancer.load(folders, CPU, replace(CROSS, views_at_once=4))
    assert engine.enhance(renders(4), HALF, Control()).images.shape[0] == 4
    with pytest.raises(InvalidOption, match="all 5 views"):
        engine.enhance(renders(5), HALF, Control())


def test_the_depth_holds_the_picture(folders: SdxlFolders) -> None:
    given = renders(1)
    assert given.depth is not None
    turned = replace(given, depth=np.ascontiguousarray(given.depth[:, :, ::-1]))
    held, loose = (
        SdxlEnhancer.load(folders, CPU, replace(SINGLE, controlnet_scale=scale))
        for scale in (1.0, 0.0)
    )
    assert np.abs(draw(held, turned) - draw(held, given)).max() > 1.0
    assert (draw(loose, turned) == draw(loose, given)).all()


def test_the_steps_are_those_of_the_pipeline_of_diffusers(
    folders: SdxlFolders, single: SdxlEnhancer
) -> None:
    """Text, noise, steps and decoding against diffusers' own way through all of them."""
    import diffusers
    import transformers

    base = str(folders.base)
    pipe = diffusers.StableDiffusionXLControlNetImg2ImgPipeline(
        vae=single._vae,
        text_encoder=reference_encoder(transformers.CLIPTextModel, f"{base}/text_encoder"),
        text_encoder_2=reference_encoder(
            transformers.CLIPTextModelWithProjection, f"{base}/text_encoder_2"
        ),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(f"{base}/tokenizer"),
        tokenizer_2=transformers.CLIPTokenizer.from_pretrained(f"{base}/tokenizer_2"),
        unet=single._unet,
        controlnet=single._pipe.controlnet,
        scheduler=single._pipe.scheduler,
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    rng = np.random.default_rng(0)
    side = TINY_RESOLUTION
    shown = (255.0 * rng.random((2, side, side, 3))).astype(np.float32)
    depth = rng.random((2, side, side, 3)).astype(np.float32)
    embedding = single._prompts.embed("a red chair")
    ours = single._draw(shown, depth, embedding, 3, [11, 12], 2, Control())
    with torch.no_grad():
        pixels = torch.from_numpy(shown).permute(0, 3, 1, 2) / 127.5 - 1.0
        latents = single._vae.encode(pixels).latent_dist.mode() * 0.13025
    theirs = pipe(
        prompt=["a red chair"] * 2,
        image=latents,
        control_image=torch.from_numpy(depth).permute(0, 3, 1, 2),
        strength=0.375,
        num_inference_steps=8,
        guidance_scale=0.0,
        controlnet_conditioning_scale=0.6,
        generator=[torch.Generator().manual_seed(seed) for seed in (11, 12)],
        original_size=(1024, 1024),
        target_size=(1024, 1024),
        output_type="np",
    ).images
    assert np.abs(ours / 255.0 - theirs).max() < 1e-4


def reference_encoder(kind: Any, folder: str) -> Any:
    """As transformers reads it, which knows how the names of the files changed."""
    import transformers

    told = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        return kind.from_pretrained(folder, variant="fp16", dtype=torch.float32)
    finally:
        transformers.logging.enable_progress_bar()
        transformers.logging.set_verbosity(told)


def test_a_drift_of_the_network_is_removed_and_an_edge_gets_sharper(
    single: SdxlEnhancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    y, x = np.mgrid[:SIZE, :SIZE]
    sharp = np.where((x + 0.2 * y > 55)[..., None], (170.0, 80.0, 60.0), (70.0, 110.0, 140.0))
    soft = np.rint(cv2.GaussianBlur(sharp, (0, 0), 2.0)).astype(np.uint8)
    alpha = np.full((1, SIZE, SIZE), 255, np.uint8)
    given = Renders(soft[None], alpha, np.ones((1, SIZE, SIZE), np.float32))

    def drawn(shown: FloatArray, *_args: Any) -> FloatArray:
        side = shown.shape[1]
        better = cv2.resize(sharp, (side, side), interpolation=cv2.INTER_AREA)[None]
        drifted: FloatArray = (better + np.array([25.0, -15.0, 10.0])).astype(np.float32)
        return drifted

    monkeypatch.setattr(single, "_draw", drawn)
    enhanced = single.enhance(given, HALF, Control()).images[0].astype(float)
    assert np.abs(enhanced - sharp).mean() < 0.8 * np.abs(soft - sharp).mean()
    assert np.abs((enhanced - soft).mean((0, 1))).max() < 0.5
    steps = [np.abs(np.diff(view, axis=1)).max() for view in (enhanced, soft.astype(float))]
    assert steps[0] > 1.3 * steps[1]
