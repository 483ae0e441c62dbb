"""Which samples a step of the training sees, and how they are varied: a function of the step alone.

It does not know the network, or how many processes share a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipeline.engines.views.prior.prior_network import Answer
from training.prior.losses import Truth
from training.prior.shards import SHARD_SIZE, Records, Shards

#: Share of the samples whose elevation the network is told, and the error of what it is told.
KNOWN_SHARE = 0.5
TOLD_ERROR_DEG = 3.0


Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Batch:
    """Inputs of the network (`PriorNetwork.forward`) and the truth."""

    rgba: Tensor
    inflated: Tensor
    elevation: Tensor
    known: Tensor
    truth: Truth

    def to(self, device: torch.device) -> Batch:
        truth = Truth(**{name: value.to(device) for name, value in vars(self.truth).items()})
        moved = {name: getattr(self, name).to(device) for name in _INPUTS}
        return Batch(**moved, truth=truth)

    def answered_by(self, network: nn.Module) -> Answer:
        answer = network(self.rgba, self.inflated, self.elevation, self.known)
        assert isinstance(answer, Answer)
        return answer


_INPUTS = ("rgba", "inflated", "elevation", "known")


def pool_size(step: int, batch: int, passes_per_object: int, first_objects: int) -> int:
    """How many objects there are at a step: they are made while the training runs, so that each
    is seen some `passes_per_object` times."""
    wanted = first_objects + step * batch // passes_per_object
    return -(-wanted // SHARD_SIZE) * SHARD_SIZE


def batch_of(
    shards: Shards, pool: int, batch: int, seed: int, step: int, part: slice = slice(None)
) -> Batch:
    """Samples drawn from the first `pool`, mirrored, recoloured and with a told elevation.

    Args:
        part: of the batch that this process computes.
    """
    rng = np.random.default_rng([seed, step])
    indices = rng.integers(pool, size=batch)
    mirrored = rng.random(batch) < 0.5
    gains = np.exp(0.1 * rng.standard_normal((batch, 3)) + 0.15 * rng.standard_normal((batch, 1)))
    channels = np.stack([rng.permutation(3) for _ in range(batch)])
    told_off = TOLD_ERROR_DEG * rng.standard_normal(batch)
    known = rng.random(batch) < KNOWN_SHARE

    records = shards.read(indices[part])
    elevation = records["elevation_deg"] + told_off[part]
    plain = plain_batch(records, elevation, known[part])
    flipped = torch.from_numpy(mirrored[part])[:, None, None, None]

    def mirror(maps: Tensor) -> Tensor:
        return torch.where(flipped, maps.flip(3), maps)

    gain = torch.from_numpy(gains[part].astype(np.float32))[:, :, None, None]
    order = torch.from_numpy(channels[part])

    def recolour(colors: Tensor) -> Tensor:
        at = order[:, :, None, None].expand_as(colors)
        return (mirror(colors).gather(1, at) * gain).clamp(0.0, 1.0)

    rgba = torch.cat([recolour(plain.rgba[:, :3]), mirror(plain.rgba[:, 3:])], 1)
    truth = Truth(
        mirror(plain.truth.front),
        mirror(plain.truth.back),
        mirror(plain.truth.hit),
        recolour(plain.truth.back_color),
        recolour(plain.truth.photo),
        plain.truth.elevation_deg,
        plain.truth.log_focal,
    )
    return Batch(rgba, mirror(plain.inflated), plain.elevation, plain.known, truth)


def plain_batch(records: Records, elevation: Values, known: Values) -> Batch:
    """The records as they are.

    Args:
        elevation, known: [B], what the network is told (`PriorNetwork.forward`).
    """

    def maps(name: str) -> Tensor:
        return torch.from_numpy(records[name].astype(np.float32))[:, None]

    def pictures(name: str) -> Tensor:
        return torch.from_numpy(records[name].astype(np.float32) / 255.0).permute(0, 3, 1, 2)

    rgba = pictures("rgba")
    truth = Truth(
        maps("front"),
        maps("back"),
        maps("hit") / 255.0,
        pictures("back_color"),
        half_size_photo(rgba),
        torch.from_numpy(records["elevation_deg"].copy()),
        torch.from_numpy(np.log(records["focal"])),
    )
    told = torch.from_numpy(np.asarray(elevation, np.float32))
    is_known = torch.from_numpy(np.asarray(known, np.float32))
    return Batch(rgba, maps("inflated"), told, is_known, truth)


def half_size_photo(rgba: Tensor) -> Tensor:
    """Straight colours of rgba [B, 4, H, W] at half its size, [B, 3, H / 2, W / 2]."""
    alpha = rgba[:, 3:]
    weighted = nn.functional.avg_pool2d(torch.cat([rgba[:, :3] * alpha, alpha], 1), 2)
    colors: Tensor = weighted[:, :3] / weighted[:, 3:].clamp(min=1e-3)
    return colors
