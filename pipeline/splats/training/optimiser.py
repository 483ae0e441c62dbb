"""The trainable splats: parameters, Adam, one gradient step, adding and removing.

It does not decide how many steps, which views or when to densify: `pipeline.splats.training.fit`
and the refine stage do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from pipeline.errors import InvalidInput, ModelFailed
from pipeline.splats.rasterize import Projection, RasterRequest, RenderMode, rasterize
from pipeline.splats.torch_threads import one_torch_thread
from pipeline.splats.training.losses import photometric_loss, silhouette_loss
from pipeline.splats.training.targets import TargetTensors
from pipeline.types import FloatArray, SplatModel

__all__ = ["GEOMETRY", "LearningRates", "Optimiser", "StepResult"]

#: Parameters that shape the object; the others ("sh0", "sh_rest") colour it.
GEOMETRY = ("means", "quats", "log_scales", "logit_opacities")

_BETAS = (0.9, 0.999)
_ADAM_EPS = 1e-15


@dataclass(frozen=True)
class LearningRates:
    """Adam's step sizes, in the unit of each parameter.

    Tuned for 300 steps on 16 views at 256 px (`bench/fit.py`), mean held-out PSNR: 36.1 dB; all
    halved 35.5, all times 1.7 36.0.
    """

    means: float = 8e-4
    quats: float = 6e-3
    log_scales: float = 1.5e-2
    logit_opacities: float = 5e-2
    sh0: float = 2e-2
    sh_rest: float = 1e-3


@dataclass(frozen=True)
class StepResult:
    """One step: the loss before it and, per splat, the gradient and box of the projection.

    Attributes:
        loss: mean over the views of the step, with their weights.
        absgrad: float32 [B, N, 2], absolute screen gradients in pixels^-1, summed over pixels.
        radii: int32 [B, N, 2], half boxes in pixels, 0 = not seen.
    """

    loss: float
    absgrad: Tensor
    radii: Tensor


class Optimiser:
    """N trainable splats.

    On the CPU steps are bitwise reproducible on one machine: the rasteriser and the loss are, and
    the rest runs on one torch thread. On a GPU they are close: see `rasterize`.

    Attributes:
        params: name to float32 leaf tensor [N, ...]; names are those of `LearningRates`.
        steps: gradient steps taken so far.
    """

    params: dict[str, Tensor]
    steps: int

    def __init__(
        self,
        model: SplatModel,
        rates: LearningRates,
        *,
        sh_degree: int | None = None,
        device: torch.device | None = None,
        fused: bool = False,
    ) -> None:
        """
        Args:
            model: the starting point; it is not changed.
            sh_degree: 0..3 of the result; bands the model lacks start at 0. None keeps its own.
            device: of the parameters, and so of everything a step does; None is the CPU.
            fused: take the steps with torch's fused kernel, one launch per parameter: the same up
                to rounding.
        """
        self.sh_degree = model.sh_degree if sh_degree is None else sh_degree
        self.device = device or torch.device("cpu")
        self.steps = 0
        self._rates = rates
        self._fused = fused
        sh = np.zeros((len(model), (self.sh_degree + 1) ** 2, 3), np.float32)
        shared = min(sh.shape[1], model.sh.shape[1])
        sh[:, :shared] = model.sh[:, :shared]
        values = {
            "means": model.means,
            "quats": model.quats,
            "log_scales": model.log_scales,
            "logit_opacities": model.logit_opacities,
            "sh0": sh[:, :1],
        }
        if self.sh_degree > 0:
            values["sh_rest"] = sh[:, 1:]
        self.params = {}
        self._moments: dict[str, tuple[Tensor, Tensor]] = {}
        for name, value in values.items():
            self._set(name, torch.from_numpy(np.array(value, np.float32)).to(self.device))

    def __len__(self) -> int:
        return len(self.params["means"])

    def _set(self, name: str, value: Tensor, moments: tuple[Tensor, Tensor] | None = None) -> None:
        self.params[name] = value.detach().clone().requires_grad_()
        first, second = moments or (torch.zeros_like(value), torch.zeros_like(value))
        self._moments[name] = (first.clone(), second.clone())

    def step(
        self,
        targets: TargetTensors,
        views: list[int],
        *,
        background: Tensor | None = None,
        alpha_weight: float = 0.1,
        geometry_rate: float = 1.0,
        means_rate: float = 1.0,
        color_rate: float = 1.0,
        penalty: Callable[[dict[str, Tensor]], Tensor] | None = None,
        at_once: int | None = None,
    ) -> StepResult:
        """One Adam step towards the views `views` of `targets`.

        Args:
            views: indices; their losses are averaged with the weights of the targets.
            background: float32 [3] or one for each view [B, 3], drawn behind splats and targets;
                white without.
            alpha_weight: weight of |alpha - mask| beside the photometric loss.
            geometry_rate: multiplies the learning rates of `GEOMETRY`; 0 freezes the shape.
            means_rate: multiplies that of the means once more (its decay).
            color_rate: multiplies the learning rates of the colours; 0 freezes them.
            penalty: further loss, of the parameters alone; not part of the reported one.
            at_once: views drawn at once; gradients of the parts are added. None draws all.

        Raises:
            InvalidInput: model or cameras cannot be drawn; found by the first step.
            ModelFailed: earlier steps made the splats so.
            torch.OutOfMemoryError: the views did not fit; parameters and moments are as before, and
                the step can be taken again with fewer at once.
        """
        with one_torch_thread():
            for value in self.params.values():
                value.grad = None  # of a step that did not fit
            ground = torch.ones(3, device=self.device) if background is None else background
            backgrounds = ground.expand(len(views), 3)
            size = at_once or len(views)
            parts = [
                self._pull(
                    targets,
                    views[i : i + size],
                    backgrounds[i : i + size],
                    alpha_weight,
                    len(views),
                )
                for i in range(0, len(views), size)
            ]
            if penalty is not None:
                torch.autograd.backward([penalty(self.params)])
            self.descend(geometry_rate=geometry_rate, means_rate=means_rate, color_rate=color_rate)
            losses, absgrads, radii = zip(*parts, strict=True)
            return StepResult(
                torch.stack(losses).sum().item(), torch.cat(absgrads), torch.cat(radii)
            )

    def _pull(
        self,
        targets: TargetTensors,
        views: list[int],
        backgrounds: Tensor,
        alpha_weight: float,
        of: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Adds the gradients of some of the `of` views of a step; loss, absgrad [B, N, 2], radii
        [B, N, 2] of this part."""
        try:
            image, alpha, projection = self.draw(targets, views, backgrounds)
        except InvalidInput as error:
            if self.steps == 0:
                raise
            # Since the first step, only the parameters have changed.
            raise ModelFailed(
                f"The optimisation diverged at step {self.steps + 1}: {error}"
            ) from error
        losses = photometric_loss(image, targets.on(views, backgrounds))
        losses = losses + alpha_weight * silhouette_loss(alpha[..., 0], targets.alphas[views])
        loss = (losses * targets.weights[views]).mean() * (len(views) / of)
        torch.autograd.backward([loss])
        return loss.detach(), projection.absgrad, projection.radii

    def descend(
        self, *, geometry_rate: float = 1.0, means_rate: float = 1.0, color_rate: float = 1.0
    ) -> None:
        """One Adam step along the gradients that a caller's loss has left; see `step`."""
        rates = {
            "means": geometry_rate * means_rate,
            **dict.fromkeys(GEOMETRY[1:], geometry_rate),
        }
        self._adam({name: rates.get(name, color_rate) for name in self.params})

    def draw(
        self,
        targets: TargetTensors,
        views: list[int],
        backgrounds: Tensor,
        *,
        render_mode: RenderMode = "RGB",
    ) -> tuple[Tensor, Tensor, Projection]:
        """Image [B, H, W, 3 or 4], alpha [B, H, W, 1] and projection from the cameras of `views`.

        Args:
            backgrounds: float32 [B, 3].
            render_mode: "RGB+ED" adds the expected z-depth as a fourth channel.
        """
        p = self.params
        sh = p["sh0"] if self.sh_degree == 0 else torch.cat([p["sh0"], p["sh_rest"]], dim=1)
        request = RasterRequest(
            p["means"],
            p["quats"],
            p["log_scales"].exp(),
            p["logit_opacities"].sigmoid(),
            sh,
            targets.viewmats[views],
            targets.Ks[views],
            targets.width,
            targets.height,
            sh_degree=self.sh_degree,
            backgrounds=backgrounds,
            render_mode=render_mode,
            absgrad=True,
        )
        return rasterize(request)

    @torch.no_grad()
    def _adam(self, rates: dict[str, float]) -> None:
        """Kingma & Ba 2015, algorithm 1, with one step count for all splats.

        Not torch.optim.Adam, because splats come and go: their moments are rows here.
        """
        if self._fused:
            self._fused_adam(rates)
            return
        self.steps += 1
        beta1, beta2 = _BETAS
        correction = (1 - beta2**self.steps) ** 0.5 / (1 - beta1**self.steps)
        for name, value in self.params.items():
            gradient, (first, second) = value.grad, self._moments[name]
            if gradient is None:
                continue
            first.lerp_(gradient, 1 - beta1)
            second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            rate = getattr(self._rates, name) * rates[name] * correction
            if rate:
                value.addcdiv_(first, second.sqrt().add_(_ADAM_EPS), value=-rate)
            value.grad = None

    def _fused_adam(self, rates: dict[str, float]) -> None:
        """The same with torch's functional form, which takes moments as arguments."""
        for name, value in self.params.items():
            if value.grad is None:
                continue
            first, second = self._moments[name]
            adam(
                [value],
                [value.grad],
                [first],
                [second],
                [],
                [torch.full((), float(self.steps), device=self.device)],
                fused=True,
                amsgrad=False,
                beta1=_BETAS[0],
                beta2=_BETAS[1],
                lr=getattr(self._rates, name) * rates[name],
                weight_decay=0.0,
                eps=_ADAM_EPS,
                maximize=False,
            )
            value.grad = None
        self.steps += 1

    @torch.no_grad()
    def overwrite(self, rows: Tensor, values: dict[str, Tensor]) -> None:
        """Gives the splats `rows` (indices [n]) new values (name to [n, ...]) and no moments;
        parameters that `values` does not name keep theirs."""
        for name, value in self.params.items():
            if name in values:
                value[rows] = values[name]
            for moment in self._moments[name]:
                moment[rows] = 0

    def replace(self, kept: Tensor, added: dict[str, Tensor]) -> None:
        """Keeps the splats `kept` (indices [n]) and appends `added` (name to [m, ...]).

        Kept splats keep their moments, added ones start with none.
        """
        for name, value in list(self.params.items()):
            new = added[name]
            first, second = self._moments[name]
            empty = torch.zeros_like(new)
            self._set(
                name,
                torch.cat([value.detach()[kept], new]),
                (torch.cat([first[kept], empty]), torch.cat([second[kept], empty])),
            )

    def model(self) -> SplatModel:
        """The splats as they are now."""

        def array(name: str) -> FloatArray:
            values: FloatArray = self.params[name].detach().cpu().numpy().copy()
            return values

        sh = [array("sh0")] + ([array("sh_rest")] if self.sh_degree > 0 else [])
        return SplatModel(
            means=array("means"),
            quats=array("quats"),
            log_scales=array("log_scales"),
            logit_opacities=array("logit_opacities"),
            sh=np.concatenate(sh, axis=1),
        )
