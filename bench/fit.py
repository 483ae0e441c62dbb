"""Fits known objects to 16 views and scores held-out ones: `python -m bench fit`.

16 views of the rig at 256 px, first splats from exact depth (as many as the strategy wants), plan
and strategy as they come; the PSNR is the mean over eight views that were not fitted.
"""

from __future__ import annotations

import time

import numpy as np

from bench.table import Row
from pipeline.control import Control
from pipeline.geometry.cameras import held_out_cameras, rig_cameras
from pipeline.splats.render import render_model
from pipeline.splats.training import (
    DefaultStrategy,
    FitPlan,
    PhotometricObjective,
    Targets,
    fit,
    splats_from_views,
)
from pipeline.types import SplatModel, ViewSet
from tests.oracles.objects import bumpy_sphere, photograph, torus


def psnr(model: SplatModel, views: ViewSet) -> float:
    drawn = render_model(model, views.cameras).images
    errors = ((drawn - views.images / 255.0) ** 2).mean((1, 2, 3))
    return float((-10 * np.log10(errors)).mean())


def run() -> list[Row]:
    """Seconds and PSNR (dB) per object."""
    rows: list[Row] = []
    plan, strategy = FitPlan(), DefaultStrategy()
    for name, thing in (("torus", torus()), ("bumpy sphere", bumpy_sphere())):
        views, depths = photograph(thing, rig_cameras())
        held_out, _ = photograph(thing, held_out_cameras())
        start = time.perf_counter()
        initial = splats_from_views(views, depths, count=strategy.start_count(plan), seed=0)
        ready = time.perf_counter()
        objective = PhotometricObjective(Targets.of_views(views))
        result = fit(initial, objective, plan, strategy, Control())
        seconds = time.perf_counter() - start
        before, after = psnr(initial, held_out), psnr(result.model, held_out)
        rows += [
            Row(f"{name}: first splats", ready - start, "s"),
            Row(f"{name}: first splats and {len(result.losses)} steps", seconds, "s", 15),
            Row(f"{name}: held-out PSNR of the first splats", before, "dB"),
            Row(f"{name}: held-out PSNR of the fit", after, "dB", 28, at_least=True),
        ]
    return rows
