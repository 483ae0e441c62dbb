"""Does a fit generalise: `python -m bench fit_generalises`, hard objects and views never fitted.

The standard preset fits 16 true views of the rig at 256 px, with exact depth to begin with; scores
are means over twelve true views at 0, 15 and 45 degrees above the horizon, between the azimuths of
the rig. Beside it stands the same fit as it was without what was done against learning views by
heart, and a fit with the photo as a further target at 512 px.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from bench.table import Row
from pipeline.control import Control
from pipeline.geometry.cameras import orbit_cameras, photo_camera, rig_cameras
from pipeline.imaging.psnr import psnr
from pipeline.options import GenerateOptions
from pipeline.splats.render import render_model
from pipeline.splats.training import (
    DefaultStrategy,
    FitPlan,
    PhotometricObjective,
    PhotoTargets,
    Targets,
    fit,
    splats_from_views,
)
from pipeline.types import DepthMaps, SplatModel, ViewSet
from tests.oracles.hard_objects import HARD_OBJECTS
from tests.oracles.objects import Object, photograph

#: How splats came and went.
BEFORE = DefaultStrategy(start_share=0.5)

#: Degrees above the horizon of the views that nobody is fitted to.
ELEVATIONS_DEG = (0.0, 15.0, 45.0)
PHOTO_DEG = 20.0


@dataclass(frozen=True)
class Scene:
    """True views of the rig and their depth, views from elsewhere, and the photo."""

    views: ViewSet
    depths: DepthMaps
    elsewhere: ViewSet
    photo: ViewSet


@dataclass(frozen=True)
class Fitted:
    """A model and the seconds that it took, with its first splats."""

    model: SplatModel
    seconds: float


def scene_of(thing: Object, photo_pixels: int) -> Scene:
    views, depths = photograph(thing, rig_cameras(), supersample=4)
    azimuths = [30.0 * i + 11.25 for i in range(12)]
    cameras = orbit_cameras(azimuths, [*ELEVATIONS_DEG] * 4)
    elsewhere, _ = photograph(thing, cameras, supersample=4)
    photo, _ = photograph(thing, photo_camera(PHOTO_DEG, photo_pixels), supersample=4)
    return Scene(views, depths, elsewhere, photo)


def decibels(model: SplatModel, views: ViewSet, *, plain: bool = False) -> list[float]:
    """PSNR of each view, drawn as in the fit."""
    drawn = render_model(model, views.cameras, plain=plain).images
    wanted = (views.images / 255).astype(np.float32)
    return [psnr(a, b) for a, b in zip(drawn, wanted, strict=True)]


def fitted(
    scene: Scene, plan: FitPlan, strategy: DefaultStrategy | None = None, *, photo: bool = False
) -> Fitted:
    strategy, views = strategy or DefaultStrategy(), scene.views
    size = views.cameras.width, views.cameras.height
    began = time.perf_counter()
    seen = replace(views, alphas=np.where(views.alphas > 127, 255, 0).astype(np.uint8))
    # Where every rim is taken for opaque, its splats begin as pale as its pixels.
    start = splats_from_views(
        seen if plan.plain else views, scene.depths, count=strategy.start_count(plan), seed=0
    )
    photos = PhotoTargets.of(scene.photo, np.ones(1, np.float32), size) if photo else None
    objective = PhotometricObjective(Targets.of_views(scene.views), photos=photos)
    if plan.plain:
        objective = replace(objective, flat_weight=0.0)
    model = fit(start, objective, plan, strategy, Control()).model
    return Fitted(model, time.perf_counter() - began)


def run() -> list[Row]:
    """Decibels and seconds, object by object, and their means."""
    options = GenerateOptions(seed=0)
    plan = FitPlan(num_gaussians=options.splat_count, iterations=options.fit_iterations)
    rows: list[Row] = []
    found: dict[str, list[float]] = {}
    for name, make in HARD_OBJECTS.items():
        scene = scene_of(make(), options.photo_pixels)
        numbers = _numbers(scene, plan)
        for what, value in numbers.items():
            found.setdefault(what, []).append(value)
            rows.append(Row(f"{name}: {what}", value, "s" if what.startswith("seconds") else "dB"))
    for what, values in found.items():
        unit = "s" if what.startswith("seconds") else "dB"
        rows.append(Row(f"mean: {what}", float(np.mean(values)), unit))
    gain = np.mean(found["unseen"]) - np.mean(found["unseen, before"])
    front = float(np.min(found["photo, fitted to it"]))
    rows += [
        Row("gain on unseen elevations", float(gain), "dB", 1.5, at_least=True),
        Row("photo, worst object", front, "dB", 30, at_least=True),
        Row("slowest fit", max(found["seconds"]), "s", 15),
        Row("slowest fit with the photo", max(found["seconds with the photo"]), "s", 15),
    ]
    return rows


def _numbers(scene: Scene, plan: FitPlan) -> dict[str, float]:
    """Of one object, dB and seconds by what they say."""
    found: dict[str, float] = {}
    before, after = fitted(scene, replace(plan, plain=True), BEFORE), fitted(scene, plan)
    was = decibels(before.model, scene.elsewhere, plain=True)
    found["unseen, before"] = float(np.mean(was))
    unseen = decibels(after.model, scene.elsewhere)
    found["unseen"] = float(np.mean(unseen))
    for i, elevation in enumerate(ELEVATIONS_DEG):
        values = unseen[i :: len(ELEVATIONS_DEG)]
        found[f"unseen at {elevation:g} degrees"] = float(np.mean(values))
    found["fitted views"] = float(np.mean(decibels(after.model, scene.views)))
    with_photo = fitted(scene, plan, photo=True)
    found["unseen, with the photo"] = float(np.mean(decibels(with_photo.model, scene.elsewhere)))
    found["photo, not fitted to it"] = decibels(after.model, scene.photo)[0]
    found["photo, fitted to it"] = decibels(with_photo.model, scene.photo)[0]
    found["seconds, before"], found["seconds"] = before.seconds, after.seconds
    found["seconds with the photo"] = with_photo.seconds
    return found
