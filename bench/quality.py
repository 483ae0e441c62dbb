"""Does refinement refine: `python -m bench quality`, on objects whose every view is known.

Coarse models are fitted to blurred views. Targets are the 16 true views with a gain of +-12 %, a
tint and an offset of their own, and two that show something else: another object, and the mirror
image. Scores are means over eight views that nobody was fitted to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from bench import photo_to_model, photos
from bench.table import Row
from pipeline.control import Control
from pipeline.engines.perceptual.lpips import find_lpips
from pipeline.engines.registry import EngineChoice
from pipeline.flow.local import build_ports
from pipeline.flow.refine import RefineResult, refine
from pipeline.geometry.cameras import held_out_cameras, rig_cameras
from pipeline.options import RefineOptions
from pipeline.requests import RefineRequest
from pipeline.splats.render import render_model
from pipeline.splats.scores import summarise, view_scores
from pipeline.splats.training import (
    DefaultStrategy,
    FitPlan,
    PhotometricObjective,
    PolishSettings,
    Targets,
    fit,
    splats_from_views,
)
from pipeline.types import (
    Cameras,
    DepthMaps,
    FloatArray,
    Scores,
    SplatModel,
    ViewSet,
)
from tests.fakes import MemoryJournal
from tests.oracles.bare_rounds import BareRound
from tests.oracles.objects import Object, bumpy_sphere, mug, photograph, printed_box, torus
from tests.oracles.shells import shell

OBJECTS: dict[str, Callable[[], Object]] = {
    "torus": torus,
    "bumpy sphere": bumpy_sphere,
    "printed box": printed_box,
    "mug": mug,
}

#: Targets that show something else.
HALLUCINATED = (3, 9)


@dataclass(frozen=True)
class Scene:
    """A known object: true views of the rig and their depth, and true views from elsewhere."""

    views: ViewSet
    depths: DepthMaps
    elsewhere: ViewSet


def scene_of(thing: Object) -> Scene:
    views, depths = photograph(thing, rig_cameras())
    elsewhere, _ = photograph(thing, held_out_cameras())
    return Scene(views, depths, elsewhere)


def psnr_of(model: SplatModel, views: ViewSet) -> float:
    return scores_of(model, views).psnr


def scores_of(model: SplatModel, views: ViewSet) -> Scores:
    drawn = render_model(model, views.cameras).images
    wanted = (views.images / 255).astype(np.float32)
    return summarise(view_scores(drawn, wanted, lpips=find_lpips()))


def flawed(views: ViewSet, other: ViewSet, seed: int = 0) -> ViewSet:
    """The views as a careless enhancer would hand them back."""
    rng = np.random.default_rng(seed)
    alphas = (views.alphas / 255)[..., None]
    images = np.empty(views.images.shape)
    for i, image in enumerate(views.images / 255):
        gain, tint = 1 + rng.uniform(-0.12, 0.12), 1 + rng.uniform(-0.04, 0.04, 3)
        offset, color = rng.uniform(-0.03, 0.03, 3), image - (1 - alphas[i])
        images[i] = np.clip(color * gain * tint + offset * alphas[i], 0, 1) + 1 - alphas[i]
    foreign, mirrored = HALLUCINATED
    images[foreign] = other.images[12] / 255
    images[mirrored] = views.images[mirrored][:, ::-1] / 255
    return replace(views, images=np.round(255 * images.clip(0, 1)).astype(np.uint8))


def coarse_model(scene: Scene) -> SplatModel:
    """A short fit of few splats to blurred views."""
    soft = np.stack([cv2.GaussianBlur(image, (0, 0), 3.5) for image in scene.views.images])
    views = replace(scene.views, images=soft)
    return fitted(views, scene.depths, FitPlan(num_gaussians=6000, iterations=30))


def fitted(views: ViewSet, depths: DepthMaps, plan: FitPlan) -> SplatModel:
    strategy = DefaultStrategy()
    start = splats_from_views(views, depths, count=strategy.start_count(plan), seed=0)
    objective = PhotometricObjective(Targets.of_views(views))
    return fit(start, objective, plan, strategy, Control()).model


def refined(
    model: SplatModel, targets: ViewSet, depths: DepthMaps, enhancer: str, rounds: int = 3
) -> RefineResult:
    """The product's loop with its own engines."""
    ports = build_ports(EngineChoice(enhancer=enhancer)).complete()
    journal = MemoryJournal(views=targets, depths=depths, model=model)
    options = RefineOptions(seed=0, num_iterations=rounds)
    return asyncio.run(refine(options, ports, journal))


def run() -> list[Row]:
    """Decibels, weights and seconds."""
    rows: list[Row] = []
    scenes = {name: scene_of(make()) for name, make in OBJECTS.items()}
    rows += _objects(scenes)
    rows += _orderings()
    rows += _hopeless(scenes["torus"])
    rows += _fits(scenes)
    rows += photo_to_model.rows(OBJECTS)
    rows += photos.rows(OBJECTS)
    return rows


def _objects(scenes: dict[str, Scene]) -> list[Row]:
    rows = []
    for name, scene in scenes.items():
        other = scenes["torus" if name != "torus" else "bumpy sphere"].views
        targets, start = flawed(scene.views, other), coarse_model(scene)
        before = psnr_of(start, scene.elsewhere)
        result = refined(start, targets, scene.depths, "auto")
        after = psnr_of(result.model, scene.elsewhere)
        weights = [o.view_weights[v] for o in result.outcomes[1:] for v in HALLUCINATED]
        slowest = max(outcome.seconds for outcome in result.outcomes)
        engine = result.outcomes[-1].enhance_engine
        rows += [
            Row(f"{name}: coarse", before, "dB"),
            Row(f"{name}: refined, {result.stop_reason.value}", after, "dB"),
            Row(f"{name}: gain", after - before, "dB", 5, at_least=True),
            Row(f"{name}: largest weight of a hallucinated view", max(weights), "of 1", 0.15),
            Row(f"{name}: slowest iteration, {engine}", slowest, "s", 20),
        ]
    return rows


def _orderings() -> list[Row]:
    """What each part of the method adds, on a scene of 900 splats that can be met exactly."""
    truth = shell("torus", 900)
    truth = replace(truth, log_scales=truth.log_scales + np.float32(1.2))
    rng = np.random.default_rng(0)

    def views_from(model: SplatModel, cameras: Cameras) -> ViewSet:
        drawn = render_model(model, cameras)
        return ViewSet(
            np.round(255 * drawn.images).astype(np.uint8),
            np.round(255 * drawn.alphas).astype(np.uint8),
            cameras,
            "oracle",
        )

    def noise(values: FloatArray, size: float) -> FloatArray:
        return (values + size * rng.standard_normal(values.shape)).astype(np.float32)

    coarse = replace(
        truth,
        means=noise(truth.means, 0.006),
        log_scales=noise(truth.log_scales, 0.15),
        sh=noise(0.8 * truth.sh, 0.25),
    )
    views = views_from(truth, rig_cameras())
    elsewhere = views_from(truth, held_out_cameras())
    other, _ = photograph(bumpy_sphere(), rig_cameras())
    targets = flawed(views, other)
    free = PolishSettings(anchor_weight=0.0)
    methods = {
        "colours only": BareRound(free),
        "+ exposures": BareRound(free, exposures=True),
        "+ weights": BareRound(free, exposures=True, weights=True),
        "+ geometry": BareRound(free, exposures=True, weights=True, geometry=True),
        "the method": BareRound(exposures=True, weights=True, geometry=True),
    }
    rows = [Row("900 splats: coarse", psnr_of(coarse, elsewhere), "dB")]
    found = {}
    for name, method in methods.items():
        model = coarse
        for seed in range(3):
            request = RefineRequest(model, targets, targets.images[:0], (), 0.01, 120, seed)
            model = method.improve(request)
        found[name] = psnr_of(model, elsewhere)
        rows.append(Row(f"900 splats: {name}", found[name], "dB"))
    behind = max(found.values()) - found["the method"]
    rows.append(Row("900 splats: the method behind the best row", behind, "dB", 0.5))
    return rows


def _hopeless(scene: Scene) -> list[Row]:
    """Every target is noise: the loop has to give the model back as it was."""
    noise = np.random.default_rng(0).integers(0, 256, scene.views.images.shape, np.uint8)
    held_out = [5, 11]
    images = np.where(scene.views.alphas[..., None] > 127, noise, scene.views.images)
    images[held_out] = scene.views.images[held_out]
    start = coarse_model(scene)
    result = refined(start, replace(scene.views, images=images), scene.depths, "unsharp")
    change = psnr_of(result.model, scene.elsewhere) - psnr_of(start, scene.elsewhere)
    name = f"noise for targets: change, {result.stop_reason.value}"
    return [Row(name, change, "dB", 0, at_least=True)]


def _fits(scenes: dict[str, Scene]) -> list[Row]:
    found, slowest = [], 0.0
    for scene in scenes.values():
        started = time.perf_counter()
        model = fitted(scene.views, scene.depths, FitPlan())
        slowest = max(slowest, time.perf_counter() - started)
        found.append(psnr_of(model, scene.elsewhere))
    mean = float(np.mean(found))
    return [
        Row("fit of 16 true views, mean of the objects", mean, "dB", 31, at_least=True),
        Row("fit of 16 true views, slowest", slowest, "s", 15),
    ]
