"""What SDXL-Lightning can do of what a refinement asks for.

It loads no torch, so that a request can be checked where no engine is.
"""

from __future__ import annotations

import math

from pipeline.errors import InvalidOption

#: Of the distilled UNet; every step is 1/8 of the strength.
STEPS = 8
#: Less noise than this is less than one step.
MIN_STRENGTH = 1 / STEPS


def steps_for(strength: float) -> int:
    """Denoising steps that are run, 1..8: the strength rounded to the nearest eighth, times 8.

    Raises:
        InvalidOption: strength is below 1/8, above 1 or not a number.
    """
    if not MIN_STRENGTH <= strength <= 1.0:
        raise InvalidOption(
            f"strength of the sdxl enhancer must be within {MIN_STRENGTH}..1 (it runs one to "
            f"{STEPS} steps), got {strength:g}."
        )
    return math.floor(STEPS * strength + 0.5)


def refuse_negative_prompt(prompt: str | None) -> None:
    """Raises InvalidOption where there is one."""
    if prompt is not None:
        raise InvalidOption(
            "negative_prompt has no effect on the sdxl enhancer, whose distilled UNet runs "
            "without guidance: leave it out."
        )
