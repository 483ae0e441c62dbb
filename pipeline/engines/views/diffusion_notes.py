"""What engines say that draw nothing at random in steps, where a request has options for that.

It does not know what the engine does instead.
"""

from __future__ import annotations

from pipeline.requests import ViewRequest


def notes_on_diffusion(request: ViewRequest, engine: str) -> tuple[str, ...]:
    """A sentence for each option of a diffusion engine that was given."""
    return tuple(
        f"The {engine} engine has no use for {option}."
        for option in ("steps", "guidance_scale", "sampler")
        if getattr(request, option) is not None
    )
