"""Fits splats to images: `fit(initial, objective, plan, strategy, control)`.

The objective says what is looked at and minimised (`PhotometricObjective`, `RefinementObjective`),
the strategy which splats come and go (`DefaultStrategy`, `McmcStrategy`, `FixedCount`), the plan
all numbers. `splats_from_views` makes the first splats, `improve_model` is a refinement round. It
does not know which engine asks.
"""

from pipeline.splats.training.densify import DefaultStrategy
from pipeline.splats.training.fit_plan import FitPlan, FixedCount, Objective, Strategy
from pipeline.splats.training.initialise import splats_from_views
from pipeline.splats.training.loop import FitResult, fit
from pipeline.splats.training.mcmc import McmcStrategy
from pipeline.splats.training.photo_targets import PhotoTargets
from pipeline.splats.training.photometric import PhotometricObjective
from pipeline.splats.training.polish import PolishSettings, RefinementObjective, improve_model
from pipeline.splats.training.targets import Targets

__all__ = [
    "DefaultStrategy",
    "FitPlan",
    "FitResult",
    "FixedCount",
    "McmcStrategy",
    "Objective",
    "PhotoTargets",
    "PhotometricObjective",
    "PolishSettings",
    "RefinementObjective",
    "Strategy",
    "Targets",
    "fit",
    "improve_model",
    "splats_from_views",
]
