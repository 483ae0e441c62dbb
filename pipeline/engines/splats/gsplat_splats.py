"""The splat engine for GPUs, which draws with gsplat and fits to all views in every step.

It does not know whether there is a GPU: on a CPU device the same code draws with the C++ of the CPU
engine.
"""

from __future__ import annotations

import numpy as np
import torch

from pipeline.device import Device
from pipeline.engines.splats.cpu_splats import SplatsOnDevice
from pipeline.errors import InvalidOption
from pipeline.geometry.cameras import rig_cameras
from pipeline.requests import FitRequest
from pipeline.splats.render import render_model
from pipeline.splats.scores import LpipsLike
from pipeline.splats.training import (
    DefaultStrategy,
    FitPlan,
    McmcStrategy,
    PhotometricObjective,
    Strategy,
    Targets,
)
from pipeline.splats.training.loop import take_step
from pipeline.splats.training.optimiser import ALL_VIEWS, Optimiser
from pipeline.types import SplatModel

STRATEGIES: dict[str, Strategy] = {
    "mcmc": McmcStrategy(),
    "default": DefaultStrategy(every=15, prunes_late=False),
}

_WARM_UP_SIZE = 32


class GsplatSplats(SplatsOnDevice):
    """Engine "gsplat": all views in every step, on a GPU; on a CPU the same code draws in C++.

    The same request gives the same model, bit by bit, on a CPU. On a GPU gradients are sums of
    atomics: two runs are close, not equal.
    """

    def __init__(
        self, device: Device, lpips: LpipsLike | None = None, *, strategy: str = "mcmc"
    ) -> None:
        """
        Args:
            device: splats are optimised in fp32, whatever its precision.
            lpips: without one no score has an LPIPS.
            strategy: how splats come and go, one of `STRATEGIES`.

        Raises:
            InvalidOption: there is no such strategy.
        """
        super().__init__(device, lpips)
        if strategy not in STRATEGIES:
            raise InvalidOption(f"strategy must be one of {(*STRATEGIES,)}, got {strategy!r}")
        self._strategy = strategy

    @property
    def name(self) -> str:
        return "gsplat" if self._device.is_cuda else "gsplat-on-cpu"

    def warm_up(self) -> None:
        """Loads the rasteriser, compiles it where that was not done yet (gsplat: minutes, once per
        machine) and takes one small step.

        Raises:
            Unavailable: it is not installed or cannot be compiled.
        """
        cameras = rig_cameras(_WARM_UP_SIZE)
        shape = (len(cameras), _WARM_UP_SIZE, _WARM_UP_SIZE)
        splat = SplatModel(
            means=np.zeros((1, 3), np.float32),
            quats=np.array([[1, 0, 0, 0]], np.float32),
            log_scales=np.full((1, 3), -3, np.float32),
            logit_opacities=np.zeros(1, np.float32),
            sh=np.zeros((1, 1, 3), np.float32),
        )
        device = self._device.torch_device
        white = np.full((*shape, 3), 255, np.uint8), np.zeros(shape, np.uint8)
        with self._device.reporting_faults("The splat engine"):
            objective = PhotometricObjective(Targets.of(*white, cameras, device))
            batch = next(objective.batches(None, torch.Generator()))
            optimiser = Optimiser(splat, ALL_VIEWS, device=device, fused=True)
            take_step(optimiser, objective, batch, len(batch))
            render_model(splat, cameras, with_depth=True, device=device)

    def _plan(self, request: FitRequest) -> tuple[FitPlan, Strategy]:
        plan = FitPlan(
            request.num_gaussians,
            request.iterations,
            request.seed,
            views_per_step=None,
            rates=ALL_VIEWS,
            fused=True,
        )
        return plan, STRATEGIES[self._strategy]
