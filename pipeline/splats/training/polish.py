"""One refinement round: pulls a model towards originals and enhanced targets it can believe.

The method is MVCRM as docs/decisions.md describes it: exposure per view, confidence per pixel,
robust weights per view, anchors. It does not render targets, enhance them or judge the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pipeline.control import Control
from pipeline.device import Device
from pipeline.requests import Improvement, RefineRequest
from pipeline.splats.rasterize import Projection
from pipeline.splats.render import Rendering, render_model
from pipeline.splats.target_weights import TargetWeights
from pipeline.splats.training.fit_plan import Batch, FitPlan, FixedCount
from pipeline.splats.training.loop import CPU, fit
from pipeline.splats.training.losses import photometric_loss, silhouette_loss
from pipeline.splats.training.optimiser import REFINEMENT, Optimiser
from pipeline.splats.training.round_targets import RoundTargets, weigh_round
from pipeline.types import FloatArray

#: `learning_rate` at which the rates are those of `REFINEMENT`.
_RATES_AT = 0.01


@dataclass(frozen=True)
class PolishSettings:
    """Weights and rates of a round.

    Attributes:
        enhanced_share: share of the steps that look at an enhanced target (Difix3D, arXiv
            2503.01774: 70 % originals, 30 % enhanced).
        enhanced_weight: weight of their loss (the same).
        photo_share: share of the other steps that look at a photo; each of several has the same
            part.
        alpha_weight: of |alpha - mask|.
        disparity_weight: of the disparity loss, where depth is known.
        anchor_weight: of the difference to the model before the round, seen from the targets'
            cameras at an eighth of the resolution.
        flat_weight: of scale ratios above `max_ratio`: needles.
        exposure_rate: Adam's step size for the exposures; 0 keeps those it begins with.
        least_confidence: of a pixel inside the object. At .1 pixels seen at a slant miss too many
            views: .4 to .7 dB less on flawed photographs of a torus and a box at 128 px.
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


def improve_model(
    request: RefineRequest,
    control: Control,
    settings: PolishSettings | None = None,
    *,
    device: Device = CPU,
) -> Improvement:
    """A better candidate; the number of splats stays. The same request gives the same result, on a
    GPU up to rounding.

    Every round starts with an optimiser, exposures and weights of its own: rolling back a
    candidate is leaving it, and an attempt that was killed begins the round anew.

    Args:
        device: where renders and gradients are computed; targets are weighed in numpy.

    Raises:
        ModelFailed: the round diverged.
        Cancelled: `control` asked for it.
    """
    settings = settings or PolishSettings()
    targets = RoundTargets.of(request, device.torch_device)
    control.step(0.0, "weigh targets")
    drawn = render_model(
        request.model, targets.cameras, with_depth=True, device=device.torch_device
    )
    control.step(0.05, "weigh targets")
    weights = weigh_round(targets, drawn)
    objective = RefinementObjective(targets, weights, drawn, settings)
    plan = plan_of_round(request)
    result = fit(request.model, objective, plan, FixedCount(), control.part(0.1, 1.0), device)
    return Improvement(
        model=result.model,
        view_weights=weights.views[: targets.rig_views],
        enhanced_weights=weights.views[targets.originals :],
        parameters={
            "settings": asdict(settings),
            "rates": asdict(plan.rates),
            "rate": plan.rate_scale,
            "steps": plan.iterations,
        },
    )


def plan_of_round(request: RefineRequest) -> FitPlan:
    """One target a step; the rates fall to a tenth, so that the round ends at rest."""
    return FitPlan(
        num_gaussians=None,
        iterations=request.iterations,
        seed=request.seed,
        views_at_once=1,
        rates=REFINEMENT,
        rate_scale=request.learning_rate / _RATES_AT,
        decay=0.1,
        means_decay=1.0,
        name="refinement",
        message="Refining",
    )


class RefinementObjective:
    """Targets as far as they are believed, beside depth, the model before the round and needles."""

    def __init__(
        self,
        targets: RoundTargets,
        weights: TargetWeights,
        drawn: Rendering,
        settings: PolishSettings,
    ) -> None:
        """
        Args:
            drawn: the model before the round, from the cameras of all targets.
        """
        self._targets, self._settings = targets, settings
        self._views = weights.views
        self._device = device = targets.tensors.alphas.device
        pixels = _pixel_weights(targets.masks, weights.pixels, settings.least_confidence)
        self._pixels = pixels.to(device)
        before = torch.from_numpy(drawn.images).permute(0, 3, 1, 2)
        self._before = avg_pool2d(before, 8).to(device)
        self.exposures = Exposures(
            weights.exposures, targets.originals, settings.exposure_rate, device
        )

    def __len__(self) -> int:
        return len(self._targets)

    def batches(self, views_per_step: int | None, random: torch.Generator) -> Iterator[Batch]:
        """Targets on white, drawn with replacement; of a photo that is larger than the views a
        window."""
        count = views_per_step or len(self)
        white = torch.ones(count, 3, device=self._device)
        large = self._targets.large
        windows = {
            target: large.windows(photo, random)
            for photo, target in enumerate(self._targets.large_of)
            if large is not None
        }
        while True:
            picked = [self._pick(random) for _ in range(count)]
            yield Batch([next(windows[i]) if i in windows else i for i in picked], white)

    def _pick(self, random: torch.Generator) -> int:
        """Targets that nobody believes are not looked at."""
        chance, pick = torch.rand(2, generator=random).tolist()
        originals = self._targets.originals
        groups = [list(range(originals)), list(range(originals, len(self)))]
        believed = [[i for i in group if self._views[i] > 0.01] for group in groups]
        if believed[1] and (chance < self._settings.enhanced_share or not believed[0]):
            return believed[1][int(pick * len(believed[1]))]
        share = self._settings.photo_share
        photos = [i for i in self._targets.photos if self._views[i] > 0.01]
        others = [i for i in believed[0] if i not in photos]
        if photos:
            if pick < share or not others:
                return photos[int(min(pick / share, 1.0 - 1e-9) * len(photos))]
            pick = (pick - share) / (1 - share)
        candidates = others or groups[0]
        return candidates[min(int(pick * len(candidates)), len(candidates) - 1)]

    def loss(self, splats: Optimiser, batch: Batch) -> tuple[Tensor, Projection]:
        """Of one target."""
        (look,), settings, targets = batch.views, self._settings, self._targets
        if isinstance(look, int):
            view, target, window = look, targets.tensors.select([look]), False
        else:
            assert targets.large is not None, "its windows are of photos that it has"
            view, target, window = targets.large_of[look.photo], targets.large.look(look), True
        with_depth = bool(targets.disparity[view].any()) and settings.disparity_weight > 0
        drawn, alpha, projection = splats.draw(
            target, batch.backgrounds, render_mode="RGB+ED" if with_depth else "RGB"
        )
        image = drawn[..., :3]
        exposed = self.exposures.apply(view, image, alpha)
        wanted = target.on(batch.backgrounds)
        # Every pixel of a photo is believed alike.
        photometric = (
            photometric_loss(exposed, wanted)[0]
            if window
            else _weighted_loss(exposed, wanted, self._pixels[view])
        )
        believed = float(self._views[view])
        weight = believed * (settings.enhanced_weight if view >= targets.originals else 1.0)
        outline = silhouette_loss(alpha[..., 0], target.alphas)[0]
        loss = weight * photometric + settings.alpha_weight * believed * outline
        if with_depth:
            disparity = torch.from_numpy(targets.disparity[view]).to(self._device)
            loss = loss + settings.disparity_weight * weight * _disparity_loss(
                drawn[0, ..., 3], disparity, alpha[0, ..., 0].detach()
            )
        if settings.anchor_weight and not window:
            small = avg_pool2d(image.permute(0, 3, 1, 2), 8)
            loss = loss + settings.anchor_weight * (small - self._before[[view]]).abs().mean()
        if settings.flat_weight:
            scales = splats.params["log_scales"]
            ratio = scales.amax(dim=1) - scales.amin(dim=1)
            excess = (ratio - float(np.log(settings.max_ratio))).clamp_min(0)
            loss = loss + settings.flat_weight * excess.mean()
        return loss, projection

    def descend(self) -> None:
        self.exposures.descend()


def _pixel_weights(masks: FloatArray, pixels: FloatArray, floor: float) -> Tensor:
    """Weight of each pixel in the loss, [T, H, W, 1]: outside of the object 1."""
    inside = masks >= 0.5
    confidence = (floor + (1 - floor) * pixels) * inside
    # A mean of 1 inside of each object: confidence is no weight of the views or of the other terms.
    mean = confidence.sum(axis=(1, 2)) / np.maximum(inside.sum(axis=(1, 2)), 1)
    confidence /= np.maximum(mean, 1e-6)[:, None, None]
    confidence = np.where(inside, confidence, 1.0)
    return torch.from_numpy(confidence.astype(np.float32)[..., None])


class Exposures:
    """A colour map per target, trained beside the model; their mean over the originals is the
    identity, or all of them together could drift away with the model's colours.

    Attributes:
        maps: float32 [T, 3, 4], matrix and offset.
    """

    def __init__(
        self, start: FloatArray, originals: int, rate: float, device: torch.device
    ) -> None:
        self._originals = originals
        self.maps = torch.from_numpy(start.copy()).to(device)
        self._fix_gauge()
        self.maps.requires_grad_()
        self._adam = torch.optim.Adam([self.maps], lr=rate)

    def apply(self, view: int, image: Tensor, alpha: Tensor) -> Tensor:
        """The model's image [1, H, W, 3] on white in the colours of a target; white stays."""
        matrix, offset = self.maps[view, :, :3], self.maps[view, :, 3]
        color = image - (1 - alpha)
        return color @ matrix.T + alpha * offset + (1 - alpha)

    def descend(self) -> None:
        self._adam.step()
        self._adam.zero_grad()
        with torch.no_grad():
            self._fix_gauge()

    def _fix_gauge(self) -> None:
        mean = self.maps[: self._originals].mean(dim=0)
        self.maps -= mean - torch.eye(3, 4, device=mean.device)


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
    d, wanted = 1 / depth[known], target[known]
    with torch.no_grad():
        d0, g0 = d - d.mean(), wanted - wanted.mean()
        wanted = g0 * (d0.norm() / g0.norm().clamp_min(1e-9))
        s = ((d0 * wanted).sum() / (d0 * d0).sum().clamp_min(1e-9)).clamp_min(0)
        t = s * d.mean()
    loss: Tensor = (s * d - t - wanted).abs().mean()
    return loss
