"""One refinement round: pulls a model towards originals and enhanced targets it can trust.

The method is MVCRM as docs/decisions.md describes it: exposure per view, confidence per pixel,
robust weights per view, anchors. It does not render targets, enhance them or judge the result.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pipeline.control import Control
from pipeline.errors import InvalidInput, ModelFailed
from pipeline.requests import Improvement, RefineRequest
from pipeline.splats.render import Rendering, render_model
from pipeline.splats.torch_threads import one_torch_thread
from pipeline.splats.training.losses import photometric_loss, silhouette_loss
from pipeline.splats.training.optimiser import LearningRates, Optimiser
from pipeline.splats.training.targets import Targets, TargetTensors
from pipeline.splats.trust import TargetSet, Trust, trust_targets
from pipeline.types import Cameras, FloatArray, ViewSet

__all__ = ["PolishSettings", "improve_model"]


@dataclass(frozen=True)
class PolishSettings:
    """Weights and rates of a round.

    Attributes:
        enhanced_share: share of the steps that look at an enhanced target (Difix3D, arXiv
            2503.01774: 70 % originals, 30 % enhanced).
        enhanced_weight: weight of their loss (the same).
        photo_share: share of the other steps that look at the photo.
        alpha_weight: of |alpha - mask|.
        disparity_weight: of the disparity loss, where depth is known.
        anchor_weight: of the difference to the model before the round, seen from the targets'
            cameras at an eighth of the resolution.
        flat_weight: of scale ratios above `max_ratio`: needles.
        exposure_rate: Adam's step size for the exposures.
        least_confidence: of a pixel inside the object. At .1 pixels seen at a slant miss too many
            views: .4 to .7 dB less on flawed photographs of a torus and a box at 128 px.
        with_exposures, with_weights, with_geometry: switches for experiments; a round without them
            is what other methods do (`python -m bench quality`).
    """

    enhanced_share: float = 0.3
    enhanced_weight: float = 0.3
    photo_share: float = 0.15
    alpha_weight: float = 0.1
    disparity_weight: float = 0.05
    anchor_weight: float = 0.05
    flat_weight: float = 0.01
    max_ratio: float = 20.0
    exposure_rate: float = 2e-3
    least_confidence: float = 0.5
    with_exposures: bool = True
    with_weights: bool = True
    with_geometry: bool = True


#: Learning rates of a round when `learning_rate` is .01: colours as in a fit, the shape about half
#: of what a fit starts with. Coarse torus and mug, targets with drift and two of another object,
#: held-out dB after two rounds of 150 steps: these 31.8 and 31.0, all halved 30.9 and 30.0, colours
#: alone halved 31.2 and 30.4.
REFINE_RATES = LearningRates(
    means=4e-4, quats=4e-3, log_scales=1e-2, logit_opacities=3e-2, sh0=2e-2, sh_rest=1e-3
)
_RATES_AT = 0.01


def improve_model(
    request: RefineRequest,
    control: Control,
    settings: PolishSettings | None = None,
    *,
    device: torch.device | None = None,
) -> Improvement:
    """A better candidate; the number of splats stays. The same request gives the same result, on a
    GPU up to rounding.

    Args:
        device: where renders and gradients are computed, None is the CPU; targets are weighed in
            numpy.

    Every round starts with an optimiser, exposures and weights of its own: rolling back a
    candidate is leaving it, and an attempt that was killed begins the round anew.

    Raises:
        ModelFailed: the round diverged.
        Cancelled: `control` asked for it.
    """
    settings = settings or PolishSettings()
    device = device or torch.device("cpu")
    goal = _Goal.of(request, device)
    control.step(0.0, "weigh targets")
    drawn = render_model(request.model, goal.cameras, with_depth=True, device=device)
    control.step(0.05, "weigh targets")
    trust = _weigh(request, goal, drawn)
    if not settings.with_weights:
        trust = replace(trust, pixels=np.ones_like(trust.pixels), views=np.ones_like(trust.views))
    blended = _blend(goal, trust, settings).to(device)
    optimiser = Optimiser(request.model, REFINE_RATES, device=device)
    exposures = _Exposures(trust.exposures, goal.originals, settings, device)
    before = avg_pool2d(torch.from_numpy(drawn.images).permute(0, 3, 1, 2), 8).to(device)
    draw = _Draw(goal, settings, torch.Generator().manual_seed(request.seed))
    rate = request.learning_rate / _RATES_AT
    for step in range(request.iterations):
        view = draw.next(trust.views)
        # The rates fall to a tenth, so that the round ends at rest.
        decay = rate * 0.1 ** (step / request.iterations)
        with one_torch_thread():
            try:
                loss = _loss(optimiser, view, goal, blended, trust, exposures, before, settings)
            except InvalidInput as error:
                # Since the first step, only the parameters have changed.
                raise ModelFailed(f"The refinement diverged at step {step + 1}: {error}") from error
            # NaN as well: it is not below anything.
            if not loss.item() < float("inf"):
                raise ModelFailed(f"The refinement diverged at step {step + 1}.")
            torch.autograd.backward([loss])
            optimiser.descend(
                geometry_rate=decay if settings.with_geometry else 0.0, color_rate=decay
            )
            exposures.descend()
        control.step(0.1 + 0.9 * (step + 1) / request.iterations, "Refining", loss=loss.item())
    shown, originals = len(request.originals), goal.originals
    return Improvement(
        model=optimiser.model(),
        view_weights=trust.views[:shown],
        enhanced_weights=trust.views[originals:],
        exposures=exposures.values()[:shown],
        parameters={
            "settings": asdict(settings),
            "rates": asdict(REFINE_RATES),
            "rate": rate,
            "steps": request.iterations,
        },
    )


@dataclass(frozen=True)
class _Goal:
    """All targets in one list: originals (rig views, the photo, auxiliary views), then enhanced.

    Attributes:
        originals: how many are no enhanced ones.
        photo: index of the photo, or None.
        trusted: bool [T], targets that are not weighed: the photo and auxiliary views.
        disparity: float32 [T, H, W], 1 / z where depth is known, else 0.
    """

    tensors: TargetTensors
    images: FloatArray
    masks: FloatArray
    cameras: Cameras
    originals: int
    photo: int | None
    trusted: np.ndarray[tuple[int], np.dtype[np.bool_]]
    disparity: FloatArray
    #: Index of the original that shows what each target shows, [T].
    twin: np.ndarray[tuple[int], np.dtype[np.intp]]

    @classmethod
    def of(cls, request: RefineRequest, device: torch.device) -> _Goal:
        views = request.originals
        parts: list[ViewSet] = [replace(views, photo=None, auxiliary=None)]
        photo: int | None = None
        if views.photo is not None:
            photo = len(views)
            parts.append(views.photo)
        if views.auxiliary is not None:
            parts.append(views.auxiliary)
        originals = sum(len(part) for part in parts)
        which = list(request.enhanced_views)
        images = np.concatenate([*(part.images for part in parts), request.enhanced])
        alphas = np.concatenate([*(part.alphas for part in parts), views.alphas[which]])
        cameras = Cameras(
            np.concatenate([*(p.cameras.viewmats for p in parts), views.cameras.viewmats[which]]),
            np.concatenate(
                [*(p.cameras.intrinsics for p in parts), views.cameras.intrinsics[which]]
            ),
            views.cameras.width,
            views.cameras.height,
        )
        trusted = np.zeros(len(images), bool)
        trusted[len(views) : originals] = True
        disparity = np.zeros(alphas.shape, np.float32)
        if request.depths is not None:
            depth = request.depths.depth
            known = (request.depths.confidence > 0.2) & (depth > 0)
            disparity[: len(views)] = np.where(known, 1 / np.where(known, depth, 1), 0)
        return cls(
            tensors=Targets(images, alphas, cameras).tensors(device),
            images=(images / np.float32(255)).astype(np.float32),
            masks=(alphas / np.float32(255)).astype(np.float32),
            cameras=cameras,
            originals=originals,
            photo=photo,
            trusted=trusted,
            disparity=disparity,
            twin=np.concatenate([np.arange(originals), np.array(which, np.intp)]),
        )

    def __len__(self) -> int:
        return len(self.images)


def _weigh(request: RefineRequest, goal: _Goal, drawn: Rendering) -> Trust:
    """Originals among themselves, enhanced targets among themselves; the photo is believed."""
    assert drawn.median_depth is not None, "asked for"
    pixels = np.zeros(goal.masks.shape, np.float32)
    views = np.zeros(len(goal), np.float32)
    exposures = np.tile(np.eye(3, 4, dtype=np.float32), (len(goal), 1, 1))
    V = len(request.originals)
    for group in (np.arange(V), np.arange(goal.originals, len(goal))):
        if not len(group):
            continue
        found = trust_targets(
            TargetSet(
                goal.images[group],
                goal.masks[group] >= 0.5,
                drawn.images[group],
                drawn.median_depth[group],
                goal.cameras.select(list(group)),
            )
        )
        pixels[group], views[group], exposures[group] = found.pixels, found.views, found.exposures
    believed = goal.trusted
    pixels[believed] = goal.masks[believed] >= 0.5
    views[believed] = 1.0
    # The outline that an enhanced target is cut to is its original's: where nobody believes that
    # one, the target is no use either.
    enhanced = slice(goal.originals, None)
    views[enhanced] *= views[goal.twin[enhanced]]
    # A view of something else has no exposure: what was fitted would shift the gauge of the others.
    kept = (2 * views).clip(0, 1)[:, None, None]
    exposures = (kept * exposures + (1 - kept) * np.eye(3, 4)).astype(np.float32)
    return Trust(pixels, views, exposures)


def _blend(goal: _Goal, trust: Trust, settings: PolishSettings) -> Tensor:
    """Weight of each pixel in the loss, [T, H, W, 1]: outside of the object 1."""
    inside = goal.masks >= 0.5
    floor = settings.least_confidence
    confidence = (floor + (1 - floor) * trust.pixels) * inside
    # A mean of 1 inside of each object: confidence is no weight of the views or of the other terms.
    mean = confidence.sum(axis=(1, 2)) / np.maximum(inside.sum(axis=(1, 2)), 1)
    confidence /= np.maximum(mean, 1e-6)[:, None, None]
    confidence = np.where(inside, confidence, 1.0)
    return torch.from_numpy(confidence.astype(np.float32)[..., None])


class _Exposures:
    """A colour map per target, trained beside the model; their mean over the originals is the
    identity, or all of them together could drift away with the model's colours."""

    def __init__(
        self, start: FloatArray, originals: int, settings: PolishSettings, device: torch.device
    ) -> None:
        self._originals = originals
        if not settings.with_exposures:
            start = np.tile(np.eye(3, 4, dtype=np.float32), (len(start), 1, 1))
        self._maps = torch.from_numpy(start.copy()).to(device)
        self._fix_gauge()
        self._maps.requires_grad_()
        rate = settings.exposure_rate if settings.with_exposures else 0.0
        self._adam = torch.optim.Adam([self._maps], lr=rate)

    def apply(self, view: int, image: Tensor, alpha: Tensor) -> Tensor:
        """The model's image [1, H, W, 3] on white in the colours of a target; white stays."""
        matrix, offset = self._maps[view, :, :3], self._maps[view, :, 3]
        color = image - (1 - alpha)
        return color @ matrix.T + alpha * offset + (1 - alpha)

    def descend(self) -> None:
        self._adam.step()
        self._adam.zero_grad()
        with torch.no_grad():
            self._fix_gauge()

    def _fix_gauge(self) -> None:
        mean = self._maps[: self._originals].mean(dim=0)
        self._maps -= mean - torch.eye(3, 4, device=mean.device)

    def values(self) -> FloatArray:
        values: FloatArray = self._maps.detach().cpu().numpy().copy()
        return values


@dataclass
class _Draw:
    """Which target each step looks at."""

    goal: _Goal
    settings: PolishSettings
    generator: torch.Generator

    def next(self, weights: FloatArray) -> int:
        """Targets that nobody trusts are not looked at."""
        chance, pick = torch.rand(2, generator=self.generator).tolist()
        originals, total = self.goal.originals, len(self.goal)
        groups = [list(range(originals)), list(range(originals, total))]
        believed = [[i for i in group if weights[i] > 0.01] for group in groups]
        if believed[1] and (chance < self.settings.enhanced_share or not believed[0]):
            return believed[1][int(pick * len(believed[1]))]
        photo = self.goal.photo
        share = self.settings.photo_share
        others = [i for i in believed[0] if i != photo]
        if photo is not None:
            if pick < share or not others:
                return photo
            pick = (pick - share) / (1 - share)
        candidates = others or groups[0]
        return candidates[min(int(pick * len(candidates)), len(candidates) - 1)]


def _loss(
    optimiser: Optimiser,
    view: int,
    goal: _Goal,
    confidence: Tensor,
    trust: Trust,
    exposures: _Exposures,
    before: Tensor,
    settings: PolishSettings,
) -> Tensor:
    with_depth = bool(goal.disparity[view].any()) and settings.disparity_weight > 0
    white = torch.ones(1, 3, device=optimiser.device)
    drawn, alpha, _ = optimiser.draw(
        goal.tensors, [view], white, render_mode="RGB+ED" if with_depth else "RGB"
    )
    image = drawn[..., :3]
    exposed = exposures.apply(view, image, alpha)
    photometric = _weighted_loss(exposed, goal.tensors.on([view], white), confidence[view])
    weight = float(trust.views[view])
    if view >= goal.originals:
        weight *= settings.enhanced_weight
    loss = weight * photometric
    outline = silhouette_loss(alpha[..., 0], goal.tensors.alphas[[view]])[0]
    loss = loss + settings.alpha_weight * float(trust.views[view]) * outline
    if with_depth:
        disparity = torch.from_numpy(goal.disparity[view]).to(optimiser.device)
        loss = loss + settings.disparity_weight * weight * _disparity_loss(
            drawn[0, ..., 3], disparity, alpha[0, ..., 0].detach()
        )
    if settings.anchor_weight:
        small = avg_pool2d(image.permute(0, 3, 1, 2), 8)
        loss = loss + settings.anchor_weight * (small - before[[view]]).abs().mean()
    if settings.flat_weight:
        scales = optimiser.params["log_scales"]
        ratio = scales.amax(dim=1) - scales.amin(dim=1)
        excess = (ratio - float(np.log(settings.max_ratio))).clamp_min(0)
        loss = loss + settings.flat_weight * excess.mean()
    return loss


def _weighted_loss(image: Tensor, target: Tensor, confidence: Tensor) -> Tensor:
    """The photometric loss against a target that is the image itself where it is not trusted.

    Both sides are blended: the gradient of |image - target| is a sign, and a blended target alone
    would leave it as large as that of a pixel that is trusted.
    """
    rest = (1 - confidence) * image.detach()
    return photometric_loss(confidence * image + rest, confidence * target + rest)[0]


def _disparity_loss(depth: Tensor, target: Tensor, alpha: Tensor) -> Tensor:
    """Mean |s d + t - d*| of disparities with the best scale and shift (MiDaS, arXiv 1907.01341,
    equation 4): depth estimators know no more than that. d* is brought to the spread of d first,
    or its unit would be a weight; a shape that is turned inside out (s < 0) pulls nothing."""
    known = (target > 0) & (alpha > 0.5) & (depth > 1e-3)
    if int(known.sum()) < 50:
        return depth.sum() * 0
    d, goal = 1 / depth[known], target[known]
    with torch.no_grad():
        d0, g0 = d - d.mean(), goal - goal.mean()
        wanted = g0 * (d0.norm() / g0.norm().clamp_min(1e-9))
        s = ((d0 * wanted).sum() / (d0 * d0).sum().clamp_min(1e-9)).clamp_min(0)
        t = s * d.mean()
    loss: Tensor = (s * d - t - wanted).abs().mean()
    return loss
