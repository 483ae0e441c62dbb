"""From noise to samples in a given number of steps: DDIM, or DPM-Solver++ in fewer.

It calls a noise predictor and knows nothing of what it predicts. All of its state is float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.control import Control
from pipeline.engines.views.syncdreamer.sampler_settings import (
    TRAIN_STEPS,
    Sampler,
    SamplerSettings,
    ddim_timesteps,
)

_BETA_START, _BETA_END = 0.00085, 0.012

#: Predicts the noise in x, float32 [...], at a timestep 0..999.
NoisePredictor = Callable[[Tensor, int], Tensor]
#: Draws standard normal noise of a shape.
Noise = Callable[[tuple[int, ...]], Tensor]


def alphas_cumprod() -> Tensor:
    """Share of signal variance at each timestep, float32 [1000]; betas are "scaled linear".

    Computed in float32, as the checkpoint's own buffers were.
    """
    betas = torch.linspace(_BETA_START**0.5, _BETA_END**0.5, TRAIN_STEPS) ** 2
    return torch.cumprod(1 - betas, dim=0)


def seeded_noise(seed: int, device: torch.device) -> Noise:
    """Noise that a seed determines; drawn on the CPU, so that all devices get the same."""
    generator = torch.Generator("cpu").manual_seed(seed)

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float32).to(device)

    return draw


def sample(
    predict: NoisePredictor,
    start: Tensor,
    noise: Noise,
    settings: SamplerSettings,
    control: Control,
) -> Tensor:
    """Walk from noise to a sample; checks for a stop and reports after every step.

    Args:
        predict: the guided noise predictor.
        start: standard normal, float32.
        noise: drawn from between steps by DDIM; DPM-Solver++ draws nothing.

    Raises:
        Cancelled: a stop was asked for.
    """
    walk = _ddim if settings.sampler is Sampler.DDIM else _dpm_solver
    return walk(predict, start, noise, settings.steps, control)


def _report(control: Control, done: int, steps: int) -> None:
    control.step(done / steps, f"step {done} of {steps}")


def _ddim(predict: NoisePredictor, x: Tensor, noise: Noise, steps: int, control: Control) -> Tensor:
    """DDIM with eta = 1 (arXiv 2010.02502, equations 12 and 16)."""
    timesteps = ddim_timesteps(steps)
    signal = alphas_cumprod()
    for index in reversed(range(steps)):
        control.check()
        a = signal[timesteps[index]]
        # Not 1 at the end: the reference keeps the noise of timestep 0.
        a_prev = signal[timesteps[index - 1]] if index else signal[0]
        wide = a.double()
        sigma = torch.sqrt((1 - a_prev) / (1 - wide) * (1 - wide / a_prev)).float()
        direction = torch.clamp(1 - a_prev - sigma**2, min=1e-7).sqrt()
        # As numbers they meet tensors of any device without a copy.
        eps = predict(x, timesteps[index])
        clean = (x - (1 - a).sqrt().item() * eps) / a.sqrt().item()
        x = a_prev.sqrt().item() * clean + direction.item() * eps
        if index:
            x = x + sigma.item() * noise(tuple(x.shape))
        _report(control, steps - index, steps)
    return x


def _dpm_solver(
    predict: NoisePredictor, x: Tensor, _noise: Noise, steps: int, control: Control
) -> Tensor:
    """DPM-Solver++ (2M), deterministic (arXiv 2211.01095), as diffusers implements it."""
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_start=_BETA_START,
        beta_end=_BETA_END,
        beta_schedule="scaled_linear",
        algorithm_type="dpmsolver++",
        solver_order=2,
        # From timestep 999: the noise the walk starts with is nearest to the schedule's there.
        timestep_spacing="trailing",
    )
    with warnings.catch_warnings():
        # Theirs: a tensor becomes an array without the copy argument that numpy 2 wants.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        scheduler.set_timesteps(steps)
    for done, timestep in enumerate(scheduler.timesteps.tolist()):
        control.check()
        x = scheduler.step(predict(x, timestep), timestep, x, return_dict=False)[0]
        _report(control, done + 1, steps)
    return x
