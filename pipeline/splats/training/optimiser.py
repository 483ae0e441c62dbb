"""The trainable splats: parameters, Adam, adding and removing.

It does not decide what is minimised, how many steps are taken or which splats come and go.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from pipeline.splats.rasterize import (
    AS_VIEWERS,
    Projection,
    RasterRequest,
    RenderMode,
    rasterize,
)
from pipeline.splats.training.targets import Targets
from pipeline.types import FloatArray, SplatModel

_BETAS = (0.9, 0.999)
_ADAM_EPS = 1e-15


@dataclass(frozen=True)
class LearningRates:
    """Adam's step sizes, in the unit of each parameter; colours are `sh0` and `sh_rest`."""

    means: float
    quats: float
    log_scales: float
    logit_opacities: float
    sh0: float
    sh_rest: float


#: Rates of a fit that sees one view in every step, of one that sees all, and of a refinement round
#: whose `learning_rate` is .01. Measured: docs/decisions.md, "Learning rates".
ONE_VIEW = LearningRates(8e-4, 6e-3, 1.5e-2, 5e-2, 2e-2, 1e-3)
ALL_VIEWS = LearningRates(3.2e-3, 2.4e-2, 6e-2, 0.2, 8e-2, 4e-3)
REFINEMENT = LearningRates(4e-4, 4e-3, 1e-2, 3e-2, 2e-2, 1e-3)


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
        device: torch.device | None = None,
        fused: bool = False,
        plain: bool = False,
    ) -> None:
        """
        Args:
            model: the starting point; it is not changed.
            device: of the parameters, and so of everything a step does; None is the CPU.
            fused: take the steps with torch's fused kernel, one launch per parameter: the same up
                to rounding.
            plain: draw as viewers do that know nothing better.
        """
        self.sh_degree = model.sh_degree
        self.device = device or torch.device("cpu")
        self.steps = 0
        self._rates = rates
        self._fused = fused
        self._style = AS_VIEWERS if plain else {}
        values = {
            "means": model.means,
            "quats": model.quats,
            "log_scales": model.log_scales,
            "logit_opacities": model.logit_opacities,
            "sh0": model.sh[:, :1],
        }
        if self.sh_degree > 0:
            values["sh_rest"] = model.sh[:, 1:]
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

    def forget_gradients(self) -> None:
        for value in self.params.values():
            value.grad = None

    @torch.no_grad()
    def descend(self, scale: float = 1.0, means_scale: float = 1.0) -> None:
        """One Adam step along the gradients that a loss has left, which are forgotten.

        Kingma & Ba 2015, algorithm 1, with one step count for all splats. Not torch.optim.Adam,
        because splats come and go: their moments are rows here.

        Args:
            scale: multiplies the learning rates; 0 changes nothing but the moments.
            means_scale: multiplies that of the means once more.

        Raises:
            torch.OutOfMemoryError: nothing has been changed.
        """
        # All that it needs, before anything is changed: a step that does not fit was not taken.
        largest = max(value.numel() for value in self.params.values())
        scratch = torch.empty(0 if self._fused else largest, device=self.device)
        counts = torch.full((len(self.params),), float(self.steps), device=self.device).unbind()
        self.steps += 1
        for (name, value), count in zip(self.params.items(), counts, strict=True):
            if value.grad is None:
                continue
            rate = getattr(self._rates, name) * (scale * means_scale if name == "means" else scale)
            if self._fused:
                self._fused_adam(value, value.grad, *self._moments[name], rate, count)
            else:
                self._adam(value, value.grad, *self._moments[name], rate, scratch)
            value.grad = None

    def _adam(
        self,
        value: Tensor,
        gradient: Tensor,
        first: Tensor,
        second: Tensor,
        rate: float,
        scratch: Tensor,
    ) -> None:
        """In place. `scratch`: float32, as many numbers as `value` or more."""
        beta1, beta2 = _BETAS
        correction = (1 - beta2**self.steps) ** 0.5 / (1 - beta1**self.steps)
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        if rate:
            root = torch.sqrt(second, out=scratch[: second.numel()].view_as(second))
            value.addcdiv_(first, root.add_(_ADAM_EPS), value=-rate * correction)

    def _fused_adam(
        self,
        value: Tensor,
        gradient: Tensor,
        first: Tensor,
        second: Tensor,
        rate: float,
        count: Tensor,
    ) -> None:
        """The same with torch's functional form, which takes moments as arguments, and the number
        of steps before this one, which it counts up."""
        adam(
            [value],
            [gradient],
            [first],
            [second],
            [],
            [count],
            fused=True,
            amsgrad=False,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=rate,
            weight_decay=0.0,
            eps=_ADAM_EPS,
            maximize=False,
        )

    def draw(
        self,
        targets: Targets,
        backgrounds: Tensor,
        *,
        render_mode: RenderMode = "RGB",
    ) -> tuple[Tensor, Tensor, Projection]:
        """Image [B, H, W, 3 or 4], alpha [B, H, W, 1] and projection from the cameras of B targets.

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
            targets.viewmats,
            targets.Ks,
            targets.width,
            targets.height,
            sh_degree=self.sh_degree,
            backgrounds=backgrounds,
            render_mode=render_mode,
            absgrad=True,
            **self._style,
        )
        return rasterize(request)

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
