"""Splats are pulled flat: against a slow loop, and in a fit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from pipeline.control import Control
from pipeline.geometry.cameras import rig_cameras
from pipeline.splats.training import (
    DefaultStrategy,
    FitPlan,
    PhotometricObjective,
    Targets,
    fit,
    splats_from_views,
)
from pipeline.splats.training.flatness import FLAT, thickness
from tests.oracles.objects import photograph, torus


def test_thickness_and_its_gradient_are_those_of_a_loop() -> None:
    scales = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    scales[:50] *= 4
    leaf = scales.clone().requires_grad_()
    found = thickness(leaf)
    found.backward()
    assert leaf.grad is not None
    total, gradient = 0.0, np.zeros((200, 3))
    for i, splat in enumerate(scales.tolist()):
        low, middle, _ = sorted(splat)
        excess = low - middle - math.log(FLAT)
        if excess > 0:
            total += excess / 200
            gradient[i, splat.index(low)] = 1 / 200
    assert math.isclose(found.item(), total, rel_tol=1e-5)
    np.testing.assert_allclose(leaf.grad.numpy(), gradient, atol=1e-9)
    assert 20 < (gradient > 0).sum() < 180


def test_a_fit_makes_splats_flat() -> None:
    views, depths = photograph(torus(), rig_cameras(48))
    first = splats_from_views(views, depths, count=600, seed=0)
    objective = PhotometricObjective(Targets.of_views(views))
    ratios = []
    for each in (replace(objective, flat_weight=0.0), objective):
        model = fit(first, each, FitPlan(800, 60), DefaultStrategy(), Control()).model
        thin, middle, _ = np.sort(model.scales, axis=1).T
        ratios.append(float(np.median(thin / middle)))
    assert ratios[1] < 0.8 * ratios[0]
