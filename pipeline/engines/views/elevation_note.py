"""What engines say that cannot tell from the photo how far above the horizon it was taken.

It does not know what an engine does with the elevation that is assumed.
"""

from __future__ import annotations

from pipeline.requests import ViewRequest


def note_on_elevation(request: ViewRequest, engine: str) -> tuple[str, ...]:
    """A sentence where `ViewRequest.assumed_elevation_deg` was not given; else none."""
    if request.elevation_deg is not None:
        return ()
    return (
        f"The {engine} engine cannot tell from how far above the horizon the photo was taken: "
        f"{request.assumed_elevation_deg:g} degrees were assumed. Give elevation_deg where that is "
        "wrong.",
    )
