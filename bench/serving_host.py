"""Engines that sleep, with a log of how long, and with results as large as the product's.

What they cost beside their sleep is small and counts as the service's.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from pipeline.control import Control, Report, ignore_progress
from pipeline.flow.local import LocalPorts
from pipeline.geometry.cameras import rig_cameras
from pipeline.lane import Lane
from pipeline.requests import FitRequest, Renders, ViewRequest
from pipeline.rig import VIEW_SIZE
from pipeline.types import Cameras, DepthMaps, SplatModel, UInt8Array, ViewSet
from serve_app.cli.demo import default_photo
from tests.fakes import SleepingHost, SleepingPorts, some_model

__all__ = ["FullSizeHost", "LoggingHost"]


@dataclass
class LoggingPorts(SleepingPorts):
    """Writes name, begin and end of every nap to `slept.log`; times are of the wall clock."""

    def _sleep(self, name: str, control: Control) -> None:
        began = time.time()
        try:
            super()._sleep(name, control)
        finally:
            nap = {"name": name, "began": began, "ended": time.time()}
            with (self.folder / "slept.log").open("a") as log:
                log.write(json.dumps(nap) + "\n")


@dataclass
class FullSizePorts(LoggingPorts):
    """Views, models and renders of the sizes that the embedded engines make."""

    async def synthesize_views(
        self, request: ViewRequest, report: Report = ignore_progress
    ) -> ViewSet:
        await self._called("views", report)
        return _views()

    async def reconstruct(
        self, request: FitRequest, report: Report = ignore_progress
    ) -> SplatModel:
        await self._called("splats", report)
        return some_model(request.num_gaussians, seed=request.seed)

    async def render(
        self, model: SplatModel, cameras: Cameras, *, with_depth: bool = False
    ) -> Renders:
        await self._called("render")
        disc = _disc(cameras.width)
        # Something moves in every frame, or the films would be encoded in no time.
        images = np.stack([np.roll(disc, 4 * i, axis=1) for i in range(len(cameras))])
        depth = np.full(images.shape[:3], 1.5, np.float32) if with_depth else None
        return Renders(images, np.full(images.shape[:3], 255, np.uint8), depth)

    async def estimate_depth(self, views: ViewSet, report: Report = ignore_progress) -> DepthMaps:
        await self._called("depth", report)
        depth = np.where(views.alphas > 0, 1.5, 0).astype(np.float32)
        return DepthMaps(depth, (depth > 0).astype(np.float32), "sleeping-depth")


class LoggingHost(SleepingHost):
    """A `ModelHost` of `LoggingPorts`."""

    ports_type: type[LoggingPorts] = LoggingPorts

    def _build(self) -> LocalPorts:
        folder = self._choice.model_dir
        assert folder is not None
        lane = Lane("sleeping", limit_s=self._call_limit_s)
        ports: Any = self.ports_type(lane=lane, folder=folder)
        return LocalPorts(lane, ports, ports, ports, ports, ports, ports)


class FullSizeHost(LoggingHost):
    """A `ModelHost` of `FullSizePorts`."""

    ports_type = FullSizePorts

    def _build(self) -> LocalPorts:
        # Now, as an engine is warmed up: not in the first job.
        _views()
        return super()._build()


@cache
def _disc(size: int) -> UInt8Array:
    """The demo's photo inside of a circle on white."""
    with Image.open(default_photo()) as photo:
        rgb = np.asarray(photo.convert("RGB").resize((size, size)))
    y, x = np.mgrid[:size, :size] - size / 2
    return np.where((x**2 + y**2 < (0.4 * size) ** 2)[..., None], rgb, np.uint8(255))


@cache
def _views() -> ViewSet:
    cameras = rig_cameras(VIEW_SIZE)
    disc = _disc(VIEW_SIZE)
    images = np.stack([disc.copy() for _ in range(len(cameras))])
    inside = np.where((disc < 255).any(axis=2), np.uint8(255), np.uint8(0))
    alphas = np.repeat(inside[None], len(cameras), axis=0)
    depth = np.where(alphas > 0, 1.5, 0).astype(np.float32)
    return ViewSet(images, alphas, cameras, "sleeping-views", depth, ("It slept.",))
