"""The samplers on a problem whose answer is known: data that are themselves normal."""

import threading

import pytest
import torch

from pipeline.control import Control
from pipeline.engines.views.syncdreamer.sampler import (
    Sampler,
    SamplerSettings,
    alphas_cumprod,
    ddim_timesteps,
    sample,
    seeded_noise,
)
from pipeline.errors import Cancelled, InvalidOption

CPU = torch.device("cpu")
MEAN, STD = 0.7, 0.4


def true_noise(x: torch.Tensor, timestep: int) -> torch.Tensor:
    """E[noise | x] where the data are N(MEAN, STD^2)."""
    a = alphas_cumprod()[timestep]
    return (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)


def test_timesteps_are_those_of_the_reference():
    assert ddim_timesteps(50) == list(range(1, 1000, 20))
    assert ddim_timesteps(4) == [1, 251, 501, 751]


@pytest.mark.parametrize("steps", [-1, 0, 1, 3, 30, 999, 1000, 2000])
def test_steps_that_do_not_divide_the_schedule_are_refused(steps):
    with pytest.raises(InvalidOption, match=f"ddim sampler must be one of .* got {steps}"):
        SamplerSettings.choose(None, steps, None)


def test_options_are_checked_and_defaults_filled_in():
    assert SamplerSettings.choose() == SamplerSettings(Sampler.DDIM, 50, 2.0)
    assert SamplerSettings.choose("dpm++") == SamplerSettings(Sampler.DPM, 25, 2.0)
    assert SamplerSettings.choose("dpm++", 30, 1.5) == SamplerSettings(Sampler.DPM, 30, 1.5)
    with pytest.raises(InvalidOption, match="sampler must be one of"):
        SamplerSettings.choose("euler")
    with pytest.raises(InvalidOption, match=r"dpm\+\+ sampler must be between"):
        SamplerSettings.choose("dpm++", 1)
    for scale in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidOption, match="guidance_scale"):
            SamplerSettings.choose(guidance_scale=scale)


@pytest.mark.parametrize(("steps", "tolerance"), [(50, 0.15), (500, 0.01)])
def test_ddim_draws_from_the_distribution(steps, tolerance):
    noise = seeded_noise(1, CPU)
    drawn = sample(true_noise, noise((20_000,)), noise, SamplerSettings(steps=steps), Control())
    assert drawn.mean().item() == pytest.approx(MEAN, abs=0.01)
    # Few ancestral steps draw too narrow a distribution: measured 0.351 with 50, 0.399 with 500.
    assert drawn.std().item() == pytest.approx(STD, rel=tolerance)


@pytest.mark.parametrize("steps", [10, 25, 50, 100])
def test_dpm_solver_follows_the_exact_path(steps):
    start = torch.linspace(-2, 2, 9)
    ended = sample(
        true_noise, start, seeded_noise(1, CPU), SamplerSettings(Sampler.DPM, steps), Control()
    )
    signal = alphas_cumprod()
    first, last = signal[999], signal[1000 // steps - 1]

    def spread(a: torch.Tensor) -> torch.Tensor:
        return (a * STD**2 + 1 - a).sqrt()

    # Along the exact path x keeps its quantile, and the last step returns E[data | x].
    quantile = (start - first.sqrt() * MEAN) / spread(first)
    expected = MEAN + quantile * STD**2 * last.sqrt() / spread(last)
    assert torch.allclose(ended, expected, atol=0.01)


@pytest.mark.parametrize("name", list(Sampler))
def test_it_reports_every_step_and_stops_between_steps(name):
    settings = SamplerSettings.choose(name, 10)
    noise = seeded_noise(1, CPU)
    seen: list[float] = []
    sample(
        true_noise,
        torch.zeros(4),
        noise,
        settings,
        Control(report_to=lambda progress: seen.append(progress.fraction)),
    )
    assert seen == pytest.approx([i / 10 for i in range(1, 11)])

    stop = threading.Event()
    calls = []

    def predict(x: torch.Tensor, timestep: int) -> torch.Tensor:
        calls.append(timestep)
        return true_noise(x, timestep)

    control = Control(stop, lambda progress: progress.fraction >= 0.3 and stop.set())
    with pytest.raises(Cancelled):
        sample(predict, torch.zeros(4), noise, settings, control)
    assert len(calls) == 3


def test_a_seed_gives_the_same_noise_again():
    first, second, other = (seeded_noise(seed, CPU) for seed in (5, 5, 6))
    drawn = first((3, 4))
    assert torch.equal(drawn, second((3, 4)))
    assert not torch.equal(drawn, other((3, 4)))
    assert not torch.equal(drawn, first((3, 4)))
