"""Depth networks: what they are shown, in which batches, and what becomes of their answers."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import threading
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.control import Control, Progress
from pipeline.device import Device, Precision
from pipeline.engines.depth.midas import MidasDepth, Preparation
from pipeline.errors import Cancelled, OutOfMemory, Unavailable
from pipeline.geometry.cameras import rig_cameras
from pipeline.types import DepthMaps, FloatArray, ViewSet
from tests.oracles.objects import bumpy_sphere, photograph
from tests.random_networks import random_depth
from tests.tiny.depth import write_tiny_depth

CPU = Device(torch.device("cpu"), Precision.FP32)
AS_IT_IS = Preparation(96, 96, 1, False, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@lru_cache(maxsize=1)
def bright_where_near() -> tuple[ViewSet, FloatArray]:
    """Views of a sphere whose brightness is its inverse depth, and the true depth."""
    views, depths = photograph(bumpy_sphere(), rig_cameras(96))
    inverse = np.where(depths.depth > 0, 1 / np.maximum(depths.depth, 0.1), 0.5)
    grey = np.rint(255 * np.clip(inverse - 0.4, 0, 1))
    cover = views.alphas / 255.0
    on_white = np.rint(grey * cover + 255 * (1 - cover)).astype(np.uint8)
    images = np.repeat(on_white[..., None], 3, axis=-1)
    return replace(views, images=images, surface_depth=None), depths.depth


class Brightness(nn.Module):
    """A network that takes brightness for nearness; remembers its batches and may be too large.

    Attributes:
        fits: more images at once raise torch's out-of-memory error.
        shown: the input of each pass that fitted.
    """

    def __init__(self, fits: int = 1000) -> None:
        super().__init__()
        self.head = nn.Identity()
        self.fits = fits
        self.shown: list[Tensor] = []

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        if len(pixel_values) > self.fits:
            raise torch.OutOfMemoryError("full")
        self.shown.append(pixel_values)
        return SimpleNamespace(predicted_depth=pixel_values.mean(1))

    @property
    def batches(self) -> list[int]:
        return [len(images) for images in self.shown]


def engine(network: Brightness, images_at_once: int = 64) -> MidasDepth:
    return MidasDepth(network, AS_IT_IS, CPU, name="midas-large", images_at_once=images_at_once)


def estimate(engine: MidasDepth, views: ViewSet, control: Control) -> DepthMaps:
    """Of one set of views."""
    (depths,) = engine.estimate_many([views], control)
    return depths


@lru_cache(maxsize=1)
def all_views_together() -> tuple[Brightness, DepthMaps]:
    """The network after it saw `bright_where_near`, and the depth that came of it."""
    network = Brightness()
    return network, estimate(engine(network), bright_where_near()[0], Control())


@pytest.fixture(scope="module", params=["dpt", "depth-anything"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / request.param
    write_tiny_depth(folder, request.param)
    return folder


def test_16_views_are_one_batch_and_their_depth_is_true() -> None:
    _, depth = bright_where_near()
    network, depths = all_views_together()
    assert network.batches == [16]
    assert depths.engine == "midas-large"
    assert depths.depth.dtype == depths.confidence.dtype == np.float32
    known = (depths.confidence > 0) & (depth > 0)
    assert known.sum() > 0.9 * (depth > 0).sum()
    # One step of brightness is .009 in depth at 1.5.
    assert np.abs(depths.depth - depth)[known].mean() < 0.01


def test_the_network_sees_the_object_on_mid_grey() -> None:
    views, _ = bright_where_near()
    network, _ = all_views_together()
    shown = network.shown[0].mean(1).numpy()
    np.testing.assert_allclose(shown[views.alphas == 0], 0.5, atol=1e-6)
    solid = views.alphas == 255
    np.testing.assert_allclose(shown[solid], views.images[..., 0][solid] / 255, atol=1e-5)


def test_sets_share_batches_and_get_what_each_gets_alone() -> None:
    views, _ = bright_where_near()
    small = ViewSet(
        views.images[::2, ::2, ::2],
        views.alphas[::2, ::2, ::2],
        rig_cameras(48).select([*range(0, 16, 2)]),
        "x",
    )
    sets = [views, small, views.select([*range(8)])]
    network = Brightness()
    together = engine(network, images_at_once=10).estimate_many(sets, Control())
    assert network.batches == [8, 10, 10, 4]
    others = engine(Brightness())
    apart = [all_views_together()[1], *(estimate(others, one, Control()) for one in sets[1:])]
    for depths, alone in zip(together, apart, strict=True):
        np.testing.assert_array_equal(depths.depth, alone.depth)
        np.testing.assert_array_equal(depths.confidence, alone.confidence)
    assert engine(Brightness()).estimate_many([], Control()) == []


def test_a_full_device_gets_half_as_many_images_once() -> None:
    views, _ = bright_where_near()
    network = Brightness(fits=8)
    depths = estimate(engine(network, images_at_once=16), views, Control())
    assert network.batches == [8, 8]
    assert (depths.confidence > 0).any(axis=(1, 2)).all()
    with pytest.raises(OutOfMemory, match="depth estimation did not fit"):
        estimate(engine(Brightness(fits=7), images_at_once=16), views, Control())


def test_it_stops_between_batches() -> None:
    views, _ = bright_where_near()
    network, stop = Brightness(), threading.Event()

    def watch(_: Progress) -> None:
        if network.shown:
            stop.set()

    with pytest.raises(Cancelled):
        estimate(engine(network, images_at_once=4), views, Control(stop, watch))
    assert network.batches == [4, 4]


def test_progress_rises_over_network_and_alignment() -> None:
    views, _ = bright_where_near()
    seen: list[Progress] = []
    engine(Brightness(), 8).estimate_many([views, views], Control(report_to=seen.append))
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1


def test_discarded_views_are_named_in_a_note(caplog: pytest.LogCaptureFixture) -> None:
    views, _ = bright_where_near()
    images = views.images.copy()
    images[3] = 255 - images[3]
    with caplog.at_level(logging.WARNING):
        depths = estimate(engine(Brightness()), replace(views, images=images), Control())
    assert not depths.confidence[3].any() and depths.confidence[4].any()
    (note,) = depths.notes
    (line,) = [record.getMessage() for record in caplog.records]
    assert note in line
    assert "1 of 16 views" in line and "view 3: near and far are exchanged" in line


def test_a_blind_network_finds_nothing() -> None:
    views, _ = bright_where_near()
    black = replace(views, images=np.full_like(views.images, 9))
    depths = estimate(engine(Brightness()), black, Control())
    assert not depths.confidence.any() and not depths.depth.any()


def test_tiny_networks_load_and_estimate(tiny: Path) -> None:
    views, _ = bright_where_near()
    loaded = MidasDepth.load(tiny, CPU, name="midas-hybrid", images_at_once=8)
    depths = estimate(loaded, views, Control())
    assert depths.engine == loaded.name == "midas-hybrid"
    assert depths.depth.shape == views.alphas.shape
    assert np.isfinite(depths.depth).all()
    if tiny.name == "dpt":  # the other one is too coarse to be believed
        assert (depths.confidence > 0).any(axis=(1, 2)).sum() > 8


def test_half_precision_answers_nearly_the_same(tiny: Path) -> None:
    views, _ = bright_where_near()
    answers = []
    for precision in (Precision.FP32, Precision.BF16):
        device = Device(torch.device("cpu"), precision)
        loaded = MidasDepth.load(tiny, device, name="x")
        answers.append(loaded._disparity(views.images[:2], views.alphas[:2]))
    assert answers[1].dtype == np.float32
    assert np.abs(answers[0] - answers[1]).mean() < 0.03 * answers[0].std()
    loaded.warm_up()


@pytest.mark.parametrize("shape", [(96, 96), (80, 120)])
@pytest.mark.parametrize("resample", [2, 3])
@pytest.mark.parametrize("keep", [False, True])
def test_pictures_are_prepared_like_transformers_does(
    tmp_path: Path, shape: tuple[int, int], resample: int, keep: bool
) -> None:
    from transformers import DPTImageProcessorPil

    theirs = DPTImageProcessorPil(
        size={"height": 224, "width": 160},
        resample=resample,
        keep_aspect_ratio=keep,
        ensure_multiple_of=32,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    theirs.save_pretrained(tmp_path)
    # Without overshooting: PIL cuts that off after each of its two passes, torch after both.
    pictures = np.random.default_rng(0).integers(64, 192, (2, *shape, 3), np.uint8)
    wanted = theirs(images=list(pictures), return_tensors="pt")["pixel_values"]
    ours = Preparation.read(tmp_path)(torch.from_numpy(pictures).permute(0, 3, 1, 2).float())
    assert ours.shape == wanted.shape
    # PIL also rounds to whole numbers after each pass.
    assert (ours - wanted).abs().max() * 0.225 * 255 < 1.6


def test_the_spelling_of_older_releases_is_read(tmp_path: Path) -> None:
    old = {
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "DPTFeatureExtractor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 2,
        "size": 384,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    said = Preparation.read(tmp_path)
    assert (said.height, said.width, said.resampling) == (384, 384, "bilinear")


def test_a_folder_that_is_absent_or_incomplete_is_named(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"midas-large.*nowhere.*config\.json"):
        MidasDepth.load(tmp_path / "nowhere", CPU, name="midas-large")
    for absent in ("preprocessor_config.json", "model.safetensors"):
        folder = tmp_path / absent
        shutil.copytree(tiny, folder)
        (folder / absent).unlink()
        with pytest.raises(Unavailable, match=absent):
            MidasDepth.load(folder, CPU, name="midas-large")


def test_damaged_weights_are_named(tiny: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "broken"
    shutil.copytree(tiny, folder)
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(Unavailable, match=r"midas-large.*broken.*cannot be read"):
        MidasDepth.load(folder, CPU, name="midas-large")
    weights = load_file(tiny / "model.safetensors")
    dropped = next(key for key in weights if key.startswith("head."))
    save_file({k: v for k, v in weights.items() if k != dropped}, folder / "model.safetensors")
    with pytest.raises(Unavailable, match=rf"lack 1 tensors, such as {dropped}"):
        MidasDepth.load(folder, CPU, name="midas-large")


def test_released_files_may_lack_the_layers_nobody_uses(tiny: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "released"
    shutil.copytree(tiny, folder)
    weights = load_file(tiny / "model.safetensors")
    unused = "neck.fusion_stage.layers.0.residual_layer1."
    kept = {k: v for k, v in weights.items() if not k.startswith(unused)}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors")
    views, _ = bright_where_near()
    answers = [
        MidasDepth.load(path, CPU, name="x")._disparity(views.images[:1], views.alphas[:1])
        for path in (tiny, folder)
    ]
    np.testing.assert_array_equal(*answers)


def test_without_transformers_the_message_says_what_to_install(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(Unavailable, match=r"pip install -e '\.\[models\]'"):
        MidasDepth.load(tiny, CPU, name="midas-large")


@pytest.mark.parametrize(
    ("which", "millions"),
    [("dpt-large", 343.0), ("dpt-hybrid", 122.4), ("depth-anything-v2-small", 24.8)],
)
def test_random_networks_have_the_released_size(which: str, millions: float) -> None:
    # Parameters on the meta device have shapes and no memory.
    network = random_depth(which, Device(torch.device("meta"), Precision.FP32))._network
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
