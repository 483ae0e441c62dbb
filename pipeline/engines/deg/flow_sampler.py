"""From noise to a latent and a camera: Euler steps along what the flow network says.

It does not know how features are made or what a latent is decoded to. Its state and the guidance
are float32, whatever the network computes in. What depends on the photo alone is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pipeline.engines.deg.deg_config import FlowConfig
from pipeline.engines.deg.deg_draws import Draw, normal_noise
from pipeline.engines.deg.flow_network import (
    FlowNetwork,
    Moment,
    PhotoContext,
    PhotoFeatures,
    Velocity,
)
from pipeline.engines.deg.flow_settings import SamplerSettings
from pipeline.errors import ModelFailed


class FlowSource(Protocol):
    """Which network is asked at a time: the same throughout, or one of several phases."""

    @property
    def config(self) -> FlowConfig:
        """The same sizes at every time."""

    def network_at(self, t: float) -> FlowNetwork:
        """For a step that starts at t."""


@dataclass(frozen=True)
class FlowNoise:
    """Where sampling starts.

    Attributes:
        latent: [1, latent_tokens, latent_channels], float32.
        cameras: [photos, 1, 5], float32.
    """

    latent: Tensor
    cameras: Tensor

    @classmethod
    def of_seed(cls, config: FlowConfig, seed: int, photos: int = 1) -> FlowNoise:
        """Standard normal, drawn on the CPU; another number of photos leaves the others' noise."""
        shape = (1, config.latent_tokens, config.latent_channels)
        cameras = [
            normal_noise(seed, Draw.CAMERA_NOISE, (1, config.camera_channels), index)
            for index in range(photos)
        ]
        return cls(normal_noise(seed, Draw.LATENT_NOISE, shape), torch.stack(cameras))


@dataclass(frozen=True)
class FlowState:
    """A latent [1, latent_tokens, latent_channels] and a camera of each photo [photos, 1, 5].

    Both are float32, on the network's device.
    """

    latent: Tensor
    cameras: Tensor


@dataclass(frozen=True)
class SamplerStep:
    """A step that was taken.

    Attributes:
        step: 1 to `steps`.
        t: where it started; 1 is noise.
        estimate: x - t v, what sampling would end with if the velocity stayed as it was.
        state: after the step.
    """

    step: int
    steps: int
    t: float
    estimate: FlowState
    state: FlowState


@torch.no_grad()
def sample(
    network: FlowSource,
    features: Sequence[PhotoFeatures],
    settings: SamplerSettings,
    noise: FlowNoise,
    on_step: Callable[[SamplerStep], None] | None = None,
) -> FlowState:
    """Walk from noise at t = 1 to t = 0.

    Several photos share a latent (multi-diffusion, after TRELLIS): its velocity is the mean of what
    each photo says, guided by one velocity without a photo from the mean camera; each camera
    follows its own photo without guidance. Every photo wants the object turned to itself, so photos
    from far apart pull against each other.

    Args:
        features: of each photo.
        on_step: called after every step; what it raises ends the sampling.

    Raises:
        ValueError: no photo, or noise of another shape.
        ModelFailed: the result is not finite.
    """
    config = network.config
    _check_shapes(config, features, noise)
    times = settings.times()
    walker = _Walker(network, features, settings, times)
    device = network.network_at(times[0]).device
    latent, cameras = noise.latent.to(device).float(), noise.cameras.to(device).float()
    for index in range(settings.steps):
        t, t_next = times[index], times[index + 1]
        v_latent, v_cameras = walker.velocity(index, latent, cameras)
        before = FlowState(latent, cameras)
        latent = latent - v_latent * (t - t_next)
        cameras = cameras - v_cameras * (t - t_next)
        if on_step is not None:
            estimate = FlowState(before.latent - t * v_latent, before.cameras - t * v_cameras)
            state = FlowState(latent, cameras)
            on_step(SamplerStep(index + 1, settings.steps, t, estimate, state))
    if not (torch.isfinite(latent).all() and torch.isfinite(cameras).all()):
        raise ModelFailed(
            "The flow network made a latent that is not finite. If it computes in fp16, try the "
            "precision bf16; otherwise the weights may be damaged: verify them."
        )
    return FlowState(latent, cameras)


@dataclass(frozen=True)
class _Prepared:
    """What one network takes that no step changes."""

    contexts: tuple[PhotoContext, ...]
    empty: PhotoContext | None
    moments: list[Moment]


class _Walker:
    """The guided velocity of every step; what a network needs once is computed when it comes."""

    def __init__(
        self,
        source: FlowSource,
        features: Sequence[PhotoFeatures],
        settings: SamplerSettings,
        times: Sequence[float],
    ) -> None:
        self._source = source
        self._features = features
        self._settings = settings
        self._times = times
        self._prepared: dict[FlowNetwork, _Prepared] = {}

    def velocity(self, index: int, latent: Tensor, cameras: Tensor) -> tuple[Tensor, Tensor]:
        """At the start of a step: of the latent, and of every camera [photos, 1, 5]."""
        t = self._times[index]
        network = self._source.network_at(t)
        prepared = self._of(network)
        moment = prepared.moments[index]
        said = [
            network(latent, camera[None], moment, context)
            for camera, context in zip(cameras, prepared.contexts, strict=True)
        ]
        along = torch.cat([velocity.camera for velocity in said])
        if len(said) == 1:
            together = said[0].latent
        else:
            together = torch.stack([velocity.latent for velocity in said]).mean(0)
        if prepared.empty is None:
            return together, along
        g = self._settings.guidance_scale
        null: Velocity = network(latent, cameras.mean(0, keepdim=True), moment, prepared.empty)
        if len(said) == 1:
            along = g * along - (g - 1) * null.camera
        return g * together - (g - 1) * null.latent, along

    def _of(self, network: FlowNetwork) -> _Prepared:
        if network not in self._prepared:
            tokens = self._features[0].feature1.shape[1]
            self._prepared[network] = _Prepared(
                contexts=tuple(network.photo_context(one) for one in self._features),
                empty=network.empty_context(tokens) if self._settings.guided else None,
                moments=network.moments(torch.tensor(self._times[:-1], dtype=torch.float64)),
            )
        return self._prepared[network]


def _check_shapes(config: FlowConfig, features: Sequence[PhotoFeatures], noise: FlowNoise) -> None:
    if not features:
        raise ValueError("sampling needs a photo")
    wanted = (
        (1, config.latent_tokens, config.latent_channels),
        (len(features), 1, config.camera_channels),
    )
    found = (tuple(noise.latent.shape), tuple(noise.cameras.shape))
    if found != wanted:
        raise ValueError(f"the noise must have the shapes {wanted}, got {found}")
    if len({one.feature1.shape[1] for one in features}) != 1:
        raise ValueError("photos must have the same number of tokens")
