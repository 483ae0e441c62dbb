"""How the flow network is sampled: steps, guidance, and when the steps are taken.

It loads no torch, so that a request can be checked where no engine is, and knows no preset.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.errors import InvalidOption

#: More steps than anybody has a use for; a typing error stops here.
MOST_STEPS = 200


@dataclass(frozen=True)
class SamplerSettings:
    """How samples are drawn; the defaults are TripoSplat's.

    Attributes:
        steps: Euler steps.
        guidance_scale: g of v = g v_cond - (g - 1) v_null; up to 1 there is no guidance.
        shift: s of `times`: more of it spends more steps near the noise.
    """

    steps: int = 20
    guidance_scale: float = 3.0
    shift: float = 3.0

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
