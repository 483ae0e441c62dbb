"""The engines of `engines: gpu`, full size with random weights: seconds, memory, gain of batches.

It does not know how it was called: `bench.gpu` does.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.gpu_clock import median_seconds
from bench.table import Row
from pipeline.control import Control
from pipeline.device import Device
from pipeline.engines.depth.midas import MidasDepth
from pipeline.engines.enhance.sdxl import SdxlEnhancer, SdxlOptions
from pipeline.engines.registry import engine_specs
from pipeline.engines.splats.gsplat_splats import GsplatSplats
from pipeline.engines.views.syncdreamer.config import SyncDreamerConfig
from pipeline.engines.views.syncdreamer.diffusion import sample_views
from pipeline.engines.views.syncdreamer.sampler import seeded_noise
from pipeline.engines.views.syncdreamer.sampler_settings import SamplerSettings
from pipeline.engines.views.syncdreamer.syncdreamer_views import SyncDreamerViews
from pipeline.geometry.cameras import rig_cameras
from pipeline.requests import EnhanceSettings, FitRequest, RefineRequest, Renders, ViewRequest
from pipeline.types import Cutout, DepthMaps, ViewSet
from tests.oracles.objects import photograph, torus
from tests.oracles.plain_syncdreamer import PlainSyncDreamer
from tests.random_networks import random_depth, random_sdxl, random_syncdreamer
from tests.tiny.depth import write_tiny_depth
from tests.tiny.sdxl import write_tiny_sdxl
from tests.tiny.syncdreamer import TINY_SYNCDREAMER

#: Waiting projects of the comparison.
PROJECTS = 8


@dataclass
class Size:
    """How large the run is."""

    tiny: bool = False
    views_px: int = 512
    splats: int = 65_000
    fit_steps: int = 600
    steps: tuple[int, ...] = (50, 25)
    plain_steps: int = 5

    @classmethod
    def small(cls) -> Size:
        return cls(True, 64, 500, 5, (4, 2), 2)


@dataclass
class Found:
    """Rows for people, and seconds by stage for `glimpse3d plan`."""

    rows: list[Row] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)


@contextmanager
def _peak(device: Device, name: str, engine: str, found: Found) -> Iterator[None]:
    """Adds the most memory that tensors held inside of the block, against the budget."""
    device.forget()
    if device.is_cuda:
        torch.cuda.reset_peak_memory_stats(device.torch_device)
    yield
    if device.is_cuda:
        peak = torch.cuda.max_memory_allocated(device.torch_device)
        (demand,) = (s.demand for s in engine_specs() if s.name == engine and s.demand)
        budget = demand.weights + demand.working
        found.rows.append(Row(f"{name}: peak memory of tensors", peak / 2**30, "GiB", budget))


def _views(size: Size, found: Found, device: Device) -> None:
    config = TINY_SYNCDREAMER if size.tiny else SyncDreamerConfig.released()
    with _peak(device, "SyncDreamer", "syncdreamer", found):
        fast = _views_with_savings(config, size, found, device)
    device.forget()
    slow = _plain_step(config, size, device)
    found.rows += [
        Row("SyncDreamer: one step, plain fp32, view by view", slow, "s"),
        Row("SyncDreamer: that against a step with all savings", slow / fast, "x"),
    ]


def _views_with_savings(
    config: SyncDreamerConfig, size: Size, found: Found, device: Device
) -> float:
    """Seconds of one step of the longest run."""
    rgba = np.zeros((256, 256, 4), np.uint8)
    rgba[28:228, 60:200] = (180, 90, 40, 255)
    network = random_syncdreamer(config, device.torch_device, device.dtype)
    engine = SyncDreamerViews(network, device)
    engine.warm_up()

    def views_in(steps: int) -> float:
        request = ViewRequest(Cutout(rgba, "bench"), 30.0, 0, steps)
        return median_seconds(lambda: engine.synthesize(request, Control()), device)

    for steps in size.steps:
        seconds = views_in(steps)
        budget = {50: 5.0, 25: 2.5}.get(steps)
        found.rows.append(Row(f"SyncDreamer: 16 views, {steps} steps", seconds, "s", budget))
        found.stages.setdefault("views", seconds)
    return found.stages["views"] / size.steps[0]


def _plain_step(config: SyncDreamerConfig, size: Size, device: Device) -> float:
    """Seconds of one step without any saving: fp32, one view at a time."""
    plain: Any = PlainSyncDreamer(random_syncdreamer(config, device.torch_device, torch.float32))
    # TF32 is a saving, too.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    image = torch.zeros(1, 3, 256, 256, device=device.torch_device)
    settings = SamplerSettings.choose("ddim", size.plain_steps, None)

    def sampled() -> None:
        noise = seeded_noise(0, image.device)
        sample_views(plain, image, 0.5, noise, settings, Control(), views_at_once=1)

    return median_seconds(sampled, device, 1) / size.plain_steps


def _depth(size: Size, found: Found, device: Device, views: ViewSet) -> None:
    name = "tiny DPT" if size.tiny else "dpt-large"
    with _peak(device, "MiDaS", "midas-large", found):
        engine = _tiny_depth(device) if size.tiny else random_depth(name, device)
        engine.warm_up()
        seconds = median_seconds(lambda: engine._disparity(views.images, views.alphas), device)
        found.rows.append(Row(f"{name}: network, 16 views", seconds, "s", 0.3))
        whole = median_seconds(lambda: engine.estimate_many([views], Control()), device, 1)
        found.rows.append(Row(f"{name}: with alignment on the CPU", whole, "s"))
        found.stages["depth"] = whole
        waiting = [views] * (2 if size.tiny else PROJECTS)
        images = np.concatenate([v.images for v in waiting])
        alphas = np.concatenate([v.alphas for v in waiting])
        half = len(images) // 2

    def together() -> None:
        for part in (slice(0, half), slice(half, None)):
            engine._disparity(images[part], alphas[part])

    def alone() -> None:
        for one in waiting:
            engine._disparity(one.images, one.alphas)

    gain = median_seconds(alone, device, 1) / median_seconds(together, device, 1)
    found.rows.append(Row(f"{name}: {len(waiting)} projects in common batches", gain, "x faster"))


def _tiny_depth(device: Device) -> MidasDepth:
    with tempfile.TemporaryDirectory() as folder:
        write_tiny_depth(Path(folder))
        return MidasDepth.load(Path(folder), device, name="midas-large")


def _enhance(size: Size, found: Found, device: Device, views: ViewSet, depths: DepthMaps) -> None:
    if size.tiny:
        with tempfile.TemporaryDirectory() as folder:
            options = SdxlOptions(resolution=64)
            engine = SdxlEnhancer.load(write_tiny_sdxl(Path(folder)), device, options)
            _enhance_with(engine, "tiny SDXL", found, device, views, depths)
        return
    with _peak(device, "SDXL", "sdxl", found):
        grids = random_sdxl(device, SdxlOptions())
        _enhance_with(grids, "SDXL in 2x2 grids", found, device, views, depths)
        single = SdxlOptions(grid=False)
        del grids
        device.forget()
        _enhance_with(random_sdxl(device, single), "SDXL", found, device, views, depths, budget=2.0)


def _enhance_with(
    engine: SdxlEnhancer,
    name: str,
    found: Found,
    device: Device,
    views: ViewSet,
    depths: DepthMaps,
    *,
    budget: float | None = None,
) -> None:
    renders = Renders(views.images, views.alphas, depths.depth)
    engine.warm_up()
    settings = EnhanceSettings(strength=2 / 8)
    seconds = median_seconds(lambda: engine.enhance(renders, settings, Control()), device)
    found.rows.append(Row(f"{name}: 2 steps, 16 views", seconds, "s", budget))
    found.stages.setdefault("enhance", seconds)


def _splats(size: Size, found: Found, device: Device, views: ViewSet, depths: DepthMaps) -> None:
    with _peak(device, "gsplat", "gsplat", found):
        engine = GsplatSplats(device)
        engine.warm_up()
        fit = FitRequest(views, depths, (5, 11), size.splats, size.fit_steps, 0)
        seconds = median_seconds(lambda: engine.reconstruct(fit, Control()), device, 1)
        model = engine.reconstruct(fit, Control())
        found.rows.append(
            Row(
                f"{engine.name}: {len(model):,} splats, {size.fit_steps} steps, {size.views_px} px",
                seconds,
                "s",
                6.0,
            )
        )
        found.stages["fit"] = seconds
        shown = [i for i in range(16) if i not in (5, 11)]
        refine = RefineRequest(
            model,
            views.select(shown),
            views.images[shown],
            tuple(range(len(shown))),
            0.01,
            5 if size.tiny else 120,
            0,
        )
        seconds = median_seconds(lambda: engine.improve(refine, Control()), device, 1)
        found.rows.append(Row(f"{engine.name}: one refinement round", seconds, "s", 8.0))
        found.stages["improve"] = seconds


def measure(device: Device, size: Size) -> Found:
    """Rows, and seconds by stage."""
    # Random networks see no depth and draw no object, which the engines say in every run.
    logging.getLogger("pipeline.engines").setLevel(logging.ERROR)
    found = Found()
    views, depths = photograph(torus(), rig_cameras(size.views_px))
    _views(size, found, device)
    device.forget()
    _depth(size, found, device, views)
    device.forget()
    _enhance(size, found, device, views, depths)
    device.forget()
    _splats(size, found, device, views, depths)
    if size.tiny:
        found.rows = [replace(row, budget=None) for row in found.rows]
    return found
