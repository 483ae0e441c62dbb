"""How far an answer of the network is from the truth about a made object, as numbers to descend.

It does not know the network's inside, or how objects are made.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.engines.views.prior.prior_network import Answer

#: Blocks of the map count where at least this share of them is hit.
HIT_SHARE = 0.4
#: A step in depth larger than this (frame widths) is an edge: how large it is hardly matters.
GRADIENT_LIMIT = 0.15
#: Factors of the light on the back that do not count.
BRIGHTNESS = (0.5, 2.0)
#: Least log error: no pixel is known better than .2 % of the frame.
LEAST_LOG_ERROR = -6.0


@dataclass(frozen=True)
class Truth:
    """What is known of B made objects.

    Attributes:
        front, back: [B, 1, 56, 56], offsets (`pipeline.engines.views.prior.guess`).
        hit: [B, 1, 56, 56], 0..1.
        back_color: [B, 3, 56, 56], sRGB 0..1.
        photo: [B, 3, 56, 56], the photo's own straight colours.
        elevation_deg: [B].
        log_focal: [B].
    """

    front: Tensor
    back: Tensor
    hit: Tensor
    back_color: Tensor
    photo: Tensor
    elevation_deg: Tensor
    log_focal: Tensor


@dataclass(frozen=True)
class Weights:
    """What each part of the loss counts."""

    shift: float = 0.1
    thickness: float = 0.5
    gradient: float = 0.5
    color: float = 0.25
    color_gradient: float = 0.15
    brightness: float = 0.3
    every_hypothesis: float = 0.03
    scores: float = 0.01
    errors: float = 0.02
    camera: float = 0.08


@dataclass(frozen=True)
class Loss:
    """The sum to descend and its parts, each a mean over the batch.

    Attributes:
        parts: shift (absolute, of the whole object along the view), front and back (absolute
            offsets without it), thickness (absolute), color (absolute, of the best hypothesis),
            likely_color (of the one with the highest score), elevation (degrees), focal (absolute
            logarithm).
    """

    total: Tensor
    parts: dict[str, Tensor]


def loss_of(answer: Answer, truth: Truth, weights: Weights = Weights()) -> Loss:
    """Absolute errors of the surfaces, their steps and the best hypothesis of the back; negative
    log likelihoods (Laplace) of the errors that the network expects.

    Where the whole object lies along the view hardly counts: the product centres it, and a single
    far point that is not seen moves the origin of all offsets. It would drown the shape.
    """
    mask = (truth.hit >= HIT_SHARE).float()
    count = mask.sum() + 1.0
    off = torch.cat([answer.front - truth.front, answer.back - truth.back], 1) * mask
    shift = off.sum((1, 2, 3), keepdim=True) / (2.0 * mask.sum((1, 2, 3), keepdim=True) + 1.0)
    off = off - shift * mask
    front, back = off[:, :1], off[:, 1:]
    thickness = (back - front).abs().sum() / count
    total = off.abs().sum() / count + weights.thickness * thickness
    total = total + weights.shift * shift.abs().mean()
    total = total + weights.gradient * _steps(off, mask, GRADIENT_LIMIT) / count

    expected = answer.log_errors.clamp(min=LEAST_LOG_ERROR)
    likelihood = (off.detach().abs() * torch.exp(-expected) + expected) * mask
    total = total + weights.errors * likelihood.sum() / count

    best, color_loss, per_hypothesis = _back(answer, truth, mask, weights)
    total = total + weights.color * color_loss
    total = total + weights.scores * functional.cross_entropy(answer.scores, best)

    elevation = answer.camera[:, 0] - truth.elevation_deg / 30.0
    focal = answer.camera[:, 2] - truth.log_focal
    for off_by, said in ((elevation, answer.camera[:, 1]), (focal, answer.camera[:, 3])):
        log_error = said.clamp(min=LEAST_LOG_ERROR)
        total = total + weights.camera * (off_by.abs() * torch.exp(-log_error) + log_error).mean()

    likely = per_hypothesis.gather(1, answer.scores.argmax(1, keepdim=True)).mean()
    parts = {
        "shift": shift.abs().mean(),
        "front": front.abs().sum() / count,
        "back": back.abs().sum() / count,
        "thickness": thickness,
        "color": per_hypothesis.min(1).values.mean(),
        "likely_color": likely,
        "elevation": 30.0 * elevation.abs().mean(),
        "focal": focal.abs().mean(),
    }
    return Loss(total, {name: value.detach() for name, value in parts.items()})


def _back(
    answer: Answer, truth: Truth, mask: Tensor, weights: Weights
) -> tuple[Tensor, Tensor, Tensor]:
    """Only the best hypothesis of a sample is drawn towards the truth (Guzman-Rivera et al.,
    2012): the mean of all backs that are possible is grey, one of them is not.

    The truth is taken as bright as the hypothesis, within `BRIGHTNESS`: how much light falls on the
    back says little about what it looks like, and three backs that differ in that alone would be
    one. Its own brightness draws the best one by its mean.

    Returns:
        Index of the best [B], what to descend, absolute error of each hypothesis [B, H].
    """
    photo = truth.photo[:, None]
    drawn = answer.copies * photo + (1.0 - answer.copies) * answer.colors
    true = truth.back_color[:, None] * mask[:, None]
    count = mask.sum((1, 2, 3))[:, None] + 1.0
    mean_drawn, mean_true = ((c * mask[:, None]).sum((2, 3, 4)) / count for c in (drawn, true))
    gain = (mean_drawn.detach() / mean_true.clamp(min=1e-3)).clamp(*BRIGHTNESS)
    off = drawn * mask[:, None] - (gain[:, :, None, None, None] * true).clamp(max=1.0)
    error = off.abs().sum((2, 3, 4)) / (3.0 * count)
    best = error.detach().argmin(1)
    chosen = off[torch.arange(len(off)), best]
    steps = _steps(chosen, mask, 1.0) / (3.0 * mask.sum() + 1.0)
    winner = error.gather(1, best[:, None]).mean()
    brightness = (mean_drawn - mean_true).abs().gather(1, best[:, None]).mean()
    descend = (
        3.0 * winner
        + weights.brightness * brightness
        + weights.every_hypothesis * 3.0 * error.mean()
        + weights.color_gradient * 3.0 * steps
    )
    return best, descend, error.detach()


def _steps(off: Tensor, mask: Tensor, limit: float) -> Tensor:
    """Sum of the differences between neighbours 1 and 3 pixels apart, each at most `limit`."""
    total = off.new_zeros(())
    for apart in (1, 3):
        for axis in (2, 3):
            length = off.shape[axis] - apart
            here, there = off.narrow(axis, 0, length), off.narrow(axis, apart, length)
            both = mask.narrow(axis, 0, length) * mask.narrow(axis, apart, length)
            total = total + ((here - there) * both).abs().clamp(max=limit).sum()
    return total
