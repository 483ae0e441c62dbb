"""The objective of a first fit: colours and outlines of all targets alike.

It does not know how often it is asked or which splats come and go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.splats.rasterize import Projection
from pipeline.splats.training.fit_plan import Batch
from pipeline.splats.training.losses import photometric_loss, silhouette_loss
from pipeline.splats.training.optimiser import Optimiser
from pipeline.splats.training.targets import Targets


@dataclass(frozen=True)
class PhotometricObjective:
    """Colours and outlines of all targets alike, `alpha_weight` of |alpha - mask| beside them."""

    targets: Targets
    alpha_weight: float = 0.1

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, views_per_step: int | None, random: torch.Generator) -> Iterator[Batch]:
        """Views in a random order, all of them before one comes again; all at once in their own.

        Model and target are on a random grey, of its own for each view, so that light halos around
        the object cannot hide in front of white.
        """
        count, device = len(self), self.targets.alphas.device
        size = min(views_per_step or count, count)
        order = _shuffled(count, random)
        while True:
            greys = torch.rand(size, 1, generator=random).expand(-1, 3).to(device)
            views = list(range(count)) if size == count else [next(order) for _ in range(size)]
            yield Batch(views, greys)

    def loss(self, splats: Optimiser, batch: Batch) -> tuple[Tensor, Projection]:
        views, targets = batch.views, self.targets
        image, alpha, projection = splats.draw(targets, views, batch.backgrounds)
        losses = photometric_loss(image, targets.on(views, batch.backgrounds))
        losses = losses + self.alpha_weight * silhouette_loss(alpha[..., 0], targets.alphas[views])
        return losses.mean(), projection

    def descend(self) -> None:
        """Nothing but the splats is trained."""


def _shuffled(count: int, random: torch.Generator) -> Iterator[int]:
    """View indices without end; each round shows every view once, in a new order."""
    while True:
        yield from torch.randperm(count, generator=random).tolist()
