"""How the flow network is sampled: steps, guidance, and when the steps are taken.

It loads no torch, so that a request can be checked where no engine is, and knows no preset.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.errors import InvalidOption

#: More steps than anybody has a use for; a typing error stops here.
MOST_STEPS = 200
#: The first of several photos leads at the beginning: its part of the velocity at t = 1.
LEADING_PART = 0.65


@dataclass(frozen=True)
class SamplerSettings:
    """How samples are drawn; the defaults are TripoSplat's.

    Attributes:
        steps: Euler steps.
        guidance_scale: g of v = g v_cond - (g - 1) v_null; up to 1 there is no guidance.
        shift: s of `times`: more of it spends more steps near the noise.
        leading_photo: with several photos, whether the first has `LEADING_PART` of the velocity at
            t = 1, falling to an equal part at t = 0; otherwise all have the same throughout.
    """

    steps: int = 20
    guidance_scale: float = 3.0
    shift: float = 3.0
    leading_photo: bool = False

    def __post_init__(self) -> None:
        """Raises InvalidOption that names the option."""
        if not 1 <= self.steps <= MOST_STEPS:
            raise InvalidOption(f"steps must be 1 to {MOST_STEPS}, got {self.steps}.")
        if not (math.isfinite(self.guidance_scale) and self.guidance_scale >= 0):
            raise InvalidOption(f"guidance_scale must be 0 or more, got {self.guidance_scale}.")
        if not (math.isfinite(self.shift) and self.shift > 0):
            raise InvalidOption(f"shift must be more than 0, got {self.shift}.")

    @property
    def guided(self) -> bool:
        """Whether a step also asks for the velocity without a photo."""
        return self.guidance_scale > 1

    def times(self) -> tuple[float, ...]:
        """steps + 1 moments from 1 (noise) to 0: t = s u / (1 + (s - 1) u), u even."""
        evenly = (1 - i / self.steps for i in range(self.steps + 1))
        return tuple(self.shift * u / (1 + (self.shift - 1) * u) for u in evenly)

    def parts(self, photos: int, t: float) -> tuple[float, ...]:
        """The part of each photo in the velocity of the latent at time t; they add up to 1."""
        equal = 1 / photos
        if photos == 1 or not self.leading_photo:
            return (equal,) * photos
        first = equal + (LEADING_PART - equal) * t * t * (3 - 2 * t)
        return (first, *[(1 - first) / (photos - 1)] * (photos - 1))
