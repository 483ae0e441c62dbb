"""Refinement rounds with parts of the method left out, for tests and benches that compare them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.control import Control
from pipeline.requests import RefineRequest
from pipeline.splats.render import render_model
from pipeline.splats.training import FixedCount, PolishSettings, RefinementObjective, fit
from pipeline.splats.training.loop import CPU
from pipeline.splats.training.polish import plan_of_round
from pipeline.splats.training.round_targets import RoundTargets, weigh_round
from pipeline.types import SplatModel


@dataclass(frozen=True)
class BareRound:
    """A round without exposures, weights of the targets, or steps of the geometry."""

    settings: PolishSettings = field(default_factory=PolishSettings)
    exposures: bool = False
    weights: bool = False
    geometry: bool = False

    def objective(self, request: RefineRequest) -> RefinementObjective:
        targets = RoundTargets.of(request, CPU.torch_device)
        drawn = render_model(request.model, targets.cameras, with_depth=True)
        found, settings = weigh_round(targets, drawn), self.settings
        if not self.weights:
            ones = np.ones_like(found.pixels), np.ones_like(found.views)
            found = replace(found, pixels=ones[0], views=ones[1])
        if not self.exposures:
            same = np.tile(np.eye(3, 4, dtype=np.float32), (len(targets), 1, 1))
            found, settings = replace(found, exposures=same), replace(settings, exposure_rate=0.0)
        return RefinementObjective(targets, found, drawn, settings)

    def improve(self, request: RefineRequest) -> SplatModel:
        plan = plan_of_round(request)
        if not self.geometry:
            colors = replace(plan.rates, means=0, quats=0, log_scales=0, logit_opacities=0)
            plan = replace(plan, rates=colors)
        return fit(request.model, self.objective(request), plan, FixedCount(), Control()).model
