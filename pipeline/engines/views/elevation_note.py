"""What engines say of how far above the horizon the photo was taken: estimated, or assumed.

It does not know what an engine does with the elevation, or who estimates it.
"""

from __future__ import annotations

from typing import Protocol

from pipeline.requests import ViewRequest
from pipeline.types import CameraEstimate, UInt8Array

#: An elevation that is expected to be further off than this is worth a warning.
UNSURE_DEG = 12.0


class CameraSeer(Protocol):
    """Whoever tells a photo's camera from the photo, for engines that cannot."""

    def camera_of(self, rgba: UInt8Array) -> CameraEstimate:
        """Of a cut-out uint8 [S, S, 4]. Raises DeviceLost."""


def note_on_elevation(request: ViewRequest, engine: str) -> tuple[str, ...]:
    """A sentence where `ViewRequest.assumed_elevation_deg` was not given; else none."""
    if request.elevation_deg is not None:
        return ()
    return (
        f"The {engine} engine cannot tell from how far above the horizon the photo was taken: "
        f"{request.assumed_elevation_deg:g} degrees were assumed. Give elevation_deg where that is "
        "wrong.",
    )


def note_on_estimate(elevation_deg: float, error_deg: float) -> tuple[str, ...]:
    """A sentence on an elevation that was estimated from the photo, with how far it may be off."""
    estimated = (
        f"The photo was taken from about {elevation_deg:z.0f} degrees above the horizon, "
        f"give or take {error_deg:.0f}: estimated from the photo."
    )
    if error_deg <= UNSURE_DEG:
        return (estimated,)
    unsure = "That is unsure, and the model may lean: give elevation_deg where it is known."
    return (f"{estimated} {unsure}",)
