"""How SyncDreamer's samples may be drawn: samplers, their steps, and what of it is refused.

It loads no torch, so that a request can be checked where no engine is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pipeline.errors import InvalidOption

#: Length of the schedule the network was trained with.
TRAIN_STEPS = 1000


class Sampler(StrEnum):
    """DDIM with eta = 1 as the reference samples, or DPM-Solver++ (2M), a faster approximation."""

    DDIM = "ddim"
    DPM = "dpm++"


DEFAULT_STEPS = {Sampler.DDIM: 50, Sampler.DPM: 25}
DEFAULT_GUIDANCE = 2.0


@dataclass(frozen=True)
class SamplerSettings:
    """How samples are drawn; `choose` checks what a user asked for."""

    sampler: Sampler = Sampler.DDIM
    steps: int = DEFAULT_STEPS[Sampler.DDIM]
    guidance_scale: float = DEFAULT_GUIDANCE

    @classmethod
    def choose(
        cls,
        sampler: str | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> SamplerSettings:
        """What is None is the default; steps depend on the sampler.

        Raises:
            InvalidOption: an unknown sampler, a number of steps that it cannot take, or a
                guidance scale that is negative or not finite.
        """
        name = Sampler.DDIM if sampler is None else sampler
        if name not in tuple(Sampler):
            raise InvalidOption(
                f"sampler must be one of {[s.value for s in Sampler]}, got {name!r}."
            )
        chosen = Sampler(name)
        count = DEFAULT_STEPS[chosen] if steps is None else steps
        if chosen is Sampler.DDIM:
            ddim_timesteps(count)
        elif not 2 <= count <= TRAIN_STEPS // 2:
            raise InvalidOption(
                f"steps of the dpm++ sampler must be between 2 and {TRAIN_STEPS // 2}, got {count}."
            )
        scale = DEFAULT_GUIDANCE if guidance_scale is None else float(guidance_scale)
        if not 0 <= scale < float("inf"):
            raise InvalidOption(f"guidance_scale must be 0 or more, got {scale}.")
        return cls(chosen, count, scale)


def ddim_timesteps(steps: int) -> list[int]:
    """Ascending timesteps 1, 1 + 1000 / steps, ...

    Raises:
        InvalidOption: `steps` does not divide 1000 evenly (3 would step past the schedule's end,
            30 would silently make 31 steps), is 1 (it would stop at pure noise) or 1000 (the last
            timestep would be 1000, one past the end).
    """
    if not 2 <= steps <= TRAIN_STEPS // 2 or TRAIN_STEPS % steps:
        allowed = [n for n in range(2, TRAIN_STEPS // 2 + 1) if TRAIN_STEPS % n == 0]
        raise InvalidOption(f"steps of the ddim sampler must be one of {allowed}, got {steps}.")
    return [first + 1 for first in range(0, TRAIN_STEPS, TRAIN_STEPS // steps)]
