"""Photos as targets at their own resolution: a step looks at a window of one, as large as a view.

It does not know where the photos' cameras come from, or what else is fitted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.errors import InvalidInput
from pipeline.splats.training.targets import Targets
from pipeline.types import FloatArray, ViewSet

#: Less trusted photos are no targets.
_LEAST_TRUST = 0.01

#: Share of all looks that go to one fully trusted photo, and most that go to photos together.
#: Measured: docs/decisions.md, "The photo in the first fit".
LOOKS, MOST_LOOKS = 0.2, 0.5

#: Windows reach so far beyond the object where the picture does, pixels of the photo: its outline
#: lies inside of them.
_MARGIN = 8

#: Windows are moved at random by up to this share of their side, so that their borders wander.
_JITTER = 0.125


@dataclass(frozen=True)
class Window:
    """A part of a photo, as large as a view.

    Attributes:
        photo: index in `PhotoTargets`.
        corner: column and row of its first pixel.
    """

    photo: int
    corner: tuple[int, int]


@dataclass(frozen=True)
class PhotoTargets:
    """P photos that are believed.

    Attributes:
        targets: P pictures, each side at least that of a window.
        photos: which of the photos that were given these are.
        looks: float64 [P], share of a fit's looks that go to each; the views have the rest.
        size: width and height of a window, pixels.
    """

    targets: Targets
    photos: tuple[int, ...]
    looks: npt.NDArray[np.float64]
    size: tuple[int, int]

    @classmethod
    def of(
        cls,
        photos: ViewSet | None,
        trust: FloatArray,
        size: tuple[int, int],
        device: torch.device | None = None,
    ) -> PhotoTargets | None:
        """The photos that are trusted; None where there are none.

        Args:
            trust: float32 [P], 0..1: a photo is looked at as often as it is trusted.
            size: width and height of the views, pixels.

        Raises:
            InvalidInput: the photos are smaller than the views.
        """
        believed = believed_photos(trust)
        if photos is None or not believed:
            return None
        if photos.cameras.width < size[0] or photos.cameras.height < size[1]:
            raise InvalidInput(
                f"photos must be at least as large as the views, {size[0]} x {size[1]} pixels, "
                f"got {photos.cameras.width} x {photos.cameras.height}"
            )
        looks = LOOKS * np.asarray(trust, np.float64)[believed]
        looks *= min(1.0, MOST_LOOKS / float(looks.sum()))
        targets = Targets.of_views(photos.select(believed), device)
        return cls(targets, tuple(believed), looks, size)

    def __len__(self) -> int:
        return len(self.targets)

    def windows(self, photo: int, random: torch.Generator) -> Iterator[Window]:
        """Windows of one photo without end; each round covers the object once, in a new order."""
        height, width = self.targets.alphas.shape[1:]
        inside = self.targets.alphas[photo] > 0
        columns = _places(inside.any(0), self.size[0], width)
        rows = _places(inside.any(1), self.size[1], height)
        limit = torch.tensor([width - self.size[0], height - self.size[1]])
        reach = torch.tensor(self.size) * _JITTER
        # A whole picture has one window; it is not moved.
        places = torch.tensor([(x, y) for y in rows for x in columns])
        while True:
            for index in torch.randperm(len(places), generator=random).tolist():
                moved = places[index] + (2 * torch.rand(2, generator=random) - 1) * reach
                x, y = moved.round().long().clamp_min(0).minimum(limit).tolist()
                yield Window(photo, (x, y))

    def look(self, window: Window) -> Targets:
        """The part of a photo that a window shows, as one target."""
        return self.targets.window(window.photo, window.corner, self.size)


def believed_photos(trust: FloatArray) -> list[int]:
    """Which photos are targets at all, of a trust 0..1 for each."""
    found: list[int] = np.flatnonzero(trust > _LEAST_TRUST).tolist()
    return found


def _places(occupied: Tensor, length: int, whole: int) -> list[int]:
    """First pixels of the fewest windows of `length` that cover the occupied ones, evenly apart.

    Args:
        occupied: bool [whole].
    """
    found = torch.nonzero(occupied)[:, 0].tolist() or [0, whole - 1]
    low, high = max(found[0] - _MARGIN, 0), min(found[-1] + 1 + _MARGIN, whole)
    count = math.ceil((high - low) / length)
    if count == 1:
        middle = (low + high - length) // 2
        return [min(max(middle, 0), whole - length)]
    step = (high - length - low) / (count - 1)
    return [round(low + i * step) for i in range(count)]
