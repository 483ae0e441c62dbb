"""The objective of a first fit: colours and outlines of all views and photos.

It does not know how often it is asked or which splats come and go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.splats.rasterize import Projection
from pipeline.splats.training.fit_plan import Batch, Look
from pipeline.splats.training.flatness import thickness
from pipeline.splats.training.losses import photometric_loss, silhouette_loss
from pipeline.splats.training.optimiser import Optimiser
from pipeline.splats.training.photo_targets import PhotoTargets
from pipeline.splats.training.targets import Targets


@dataclass(frozen=True)
class PhotometricObjective:
    """Colours and outlines of all views alike, and of photos as often as they are trusted.

    Attributes:
        targets: the views.
        alpha_weight: of |alpha - mask| beside the colours.
        flat_weight: of the thickness of splats (docs/decisions.md, "What was tried against
            learning views by heart").
        photos: at their own resolution; None = there are none.
    """

    targets: Targets
    alpha_weight: float = 0.1
    flat_weight: float = 0.02
    photos: PhotoTargets | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, views_per_step: int | None, random: torch.Generator) -> Iterator[Batch]:
        """Views in a random order, all of them before one comes again, and windows of the photos
        between them; all views at once in their own order, and one window of each photo.

        Model and target are on a random grey, of its own for each look, so that light halos around
        the object cannot hide in front of white.
        """
        views, device = len(self), self.targets.alphas.device
        size = min(views_per_step or views, views)
        looks = self._all(random) if size == views else self._some(size, random)
        weights = self._weights if size == views else None
        while True:
            count = size if weights is None else len(weights)
            greys = torch.rand(count, 1, generator=random).expand(-1, 3).to(device)
            yield Batch(next(looks), greys, weights)

    @property
    def _weights(self) -> tuple[float, ...] | None:
        """Of all views and a window of each photo: as `PhotoTargets.looks` has them in many steps
        with one look each."""
        if self.photos is None:
            return None
        looks = self.photos.looks
        shares = [(1 - float(looks.sum())) / len(self)] * len(self) + looks.tolist()
        return tuple(len(shares) * share for share in shares)

    def _all(self, random: torch.Generator) -> Iterator[list[Look]]:
        photos = self.photos
        windows = [] if photos is None else [photos.windows(i, random) for i in range(len(photos))]
        while True:
            yield [*range(len(self)), *(next(some) for some in windows)]

    def _some(self, size: int, random: torch.Generator) -> Iterator[list[Look]]:
        views = _shuffled(len(self), random)
        looks = views if self.photos is None else _mixed(views, self.photos, random)
        while True:
            yield [next(looks) for _ in range(size)]

    def loss(self, splats: Optimiser, batch: Batch) -> tuple[Tensor, Projection]:
        wanted = self._looked_at(batch.views)
        image, alpha, projection = splats.draw(wanted, batch.backgrounds)
        losses = photometric_loss(image, wanted.on(batch.backgrounds))
        losses = losses + self.alpha_weight * silhouette_loss(alpha[..., 0], wanted.alphas)
        if batch.weights is not None:
            losses = losses * losses.new_tensor(batch.weights)
        loss = losses.mean()
        if self.flat_weight:
            loss = loss + self.flat_weight * thickness(splats.params["log_scales"])
        return loss, projection

    def _looked_at(self, looks: Sequence[Look]) -> Targets:
        views = [look for look in looks if isinstance(look, int)]
        if len(views) == len(looks):
            return self.targets.select(views)
        return Targets.joined([self._one(look) for look in looks])

    def _one(self, look: Look) -> Targets:
        if isinstance(look, int):
            return self.targets.select([look])
        assert self.photos is not None, "its windows are of photos that it has"
        return self.photos.look(look)

    def descend(self) -> None:
        """Nothing but the splats is trained."""


def _shuffled(count: int, random: torch.Generator) -> Iterator[int]:
    """View indices without end; each round shows every view once, in a new order."""
    while True:
        yield from torch.randperm(count, generator=random).tolist()


def _mixed(views: Iterator[int], photos: PhotoTargets, random: torch.Generator) -> Iterator[Look]:
    """Views and windows of photos without end, each photo as often as it is to be looked at, evenly
    spread."""
    windows = [photos.windows(photo, random) for photo in range(len(photos))]
    due = [0.0] * len(photos)
    while True:
        due = [owed + share for owed, share in zip(due, photos.looks.tolist(), strict=True)]
        photo = max(range(len(photos)), key=due.__getitem__)
        if due[photo] >= 1:
            due[photo] -= 1
            yield next(windows[photo])
        else:
            yield next(views)
