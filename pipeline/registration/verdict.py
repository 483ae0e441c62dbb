"""Whether a placed photo is believed, how far, and the sentence that says so.

It does not know how it was placed.
"""

from __future__ import annotations

import numpy as np

from pipeline.registration.place_photo import Placed
from pipeline.registration.resemblance import Compared, shown
from pipeline.types import Cutout, PhotoRegistration

#: Overlap of the outlines at which a photo is refused, and from which it is believed fully.
IOU = (0.66, 0.90)
#: Colour difference at which it is refused, and up to which it is believed fully, where colours
#: are known. Photos of other objects at their best place in the views of three analytic ones have
#: .19 to .24, those of the object itself .02 to .06.
COLOR = (0.15, 0.09)
#: Less than this of shape times colour is refused.
FITS = 0.12
#: Expected error of its direction, degrees, at which it counts nothing, and up to which fully.
ERROR_DEG = (40.0, 10.0)
_UNCLEAR = (
    "Photo {} was left out: it fits the object from more than one side. Name its side, or "
    "azimuth_deg and elevation_deg."
)
_UNPLACED = (
    "Photo {} was left out: it could not be placed, because it shows too little of what the other "
    "photos show. Name its side, or azimuth_deg and elevation_deg."
)
#: Less trust than this is said.
UNSURE = 0.5
#: Colours are known where more than this share of what both cover is.
KNOWN = 0.25
#: Two cut-outs with a smaller mean difference are one picture.
SAME = 0.012
_SIDE = 64


def verdict(
    number: int, placed: Placed, *, azimuth_known: bool, searched: bool = False
) -> PhotoRegistration:
    """A photo's registration: accepted or not, with its trust and what is to be said of it.

    Args:
        number: of the photo, 0 is the first.
        azimuth_known: it is the first photo's, which is 0 by definition.
        searched: nobody said from which side it was taken.
    """
    pose, compared = placed.pose, placed.compared
    error = max(placed.elevation_error_deg, 0.0 if azimuth_known else placed.azimuth_error_deg)
    shape = _ramp(compared.iou, *IOU)
    sure = compared.sure >= KNOWN
    difference = compared.sure_color if sure else compared.color
    # What the surface guesses the photo may well show otherwise: that is what it was taken for.
    color = _ramp(difference, *COLOR) if sure else 1.0
    # Of the first photo nothing can be left out: it made everything else.
    accepted = number == 0 or shape * color >= FITS
    unplaced = accepted and searched and not placed.recognised
    unclear = accepted and searched and placed.rivalled
    accepted = accepted and not unplaced and not unclear
    trust = shape * color * _ramp(error, *ERROR_DEG)
    trust = max(trust, 0.1) if accepted else 0.0
    note = _sentence(number, compared, accepted, trust, shape, color, searched=searched)
    if unplaced or unclear:
        note = (_UNPLACED if unplaced else _UNCLEAR).format(number)
    return PhotoRegistration(
        photo=number,
        accepted=accepted,
        trust=round(trust, 4),
        azimuth_deg=round(pose.azimuth_deg, 3) % 360,
        elevation_deg=round(pose.elevation_deg, 3),
        roll_deg=round(pose.roll_deg, 3),
        focal=round(pose.focal, 5),
        outline_iou=round(compared.iou, 4),
        color_error=round(difference, 4),
        azimuth_error_deg=None if azimuth_known else round(placed.azimuth_error_deg, 2),
        elevation_error_deg=round(placed.elevation_error_deg, 2),
        scale_error=round(placed.scale_error, 4),
        note=note,
    )


def by_construction(number: int, placed: Placed) -> PhotoRegistration:
    """Of a photo whose camera the engine knows, because it made the surface of it: confirmed, not
    found, so there are no errors."""
    pose, compared = placed.pose, placed.compared
    return PhotoRegistration(
        photo=number,
        accepted=True,
        trust=1.0,
        azimuth_deg=round(pose.azimuth_deg, 3) % 360,
        elevation_deg=round(pose.elevation_deg, 3),
        roll_deg=round(pose.roll_deg, 3),
        focal=round(pose.focal, 5),
        outline_iou=round(compared.iou, 4),
        color_error=round(compared.color, 4),
    )


def left_out(number: int, note: str, like: PhotoRegistration | None = None) -> PhotoRegistration:
    """Of a photo that is not placed at all, or not any more.

    Args:
        like: where it was found, if it was.
    """
    numbers = (0.0,) * 6 if like is None else (
        like.azimuth_deg, like.elevation_deg, like.roll_deg, like.focal, like.outline_iou,
        like.color_error,
    )  # fmt: skip
    return PhotoRegistration(number, False, 0.0, *numbers, note=note)


def same_picture(one: Cutout, other: Cutout) -> bool:
    """Whether two cut-outs are one photo, perhaps stored anew."""
    a, b = (shown(cutout, _SIDE, 1.0) for cutout in (one, other))
    outline = float(np.abs(a.soft_alpha - b.soft_alpha).mean())
    both = np.minimum(a.alpha, b.alpha)[..., None]
    color = float((np.abs(a.soft_colors - b.soft_colors) * both).sum() / max(3 * both.sum(), 1.0))
    return max(outline, color) < SAME


def _ramp(value: float, nothing: float, fully: float) -> float:
    return float(np.clip((value - nothing) / (fully - nothing), 0.0, 1.0))


def _sentence(
    number: int,
    compared: Compared,
    accepted: bool,
    trust: float,
    shape: float,
    color: float,
    *,
    searched: bool,
) -> str:
    name = f"Photo {number}"
    if not accepted:
        what = "its outline does" if shape < color else "its colours do"
        side = "its side" if searched else "another side"
        return (
            f"{name} was left out: {what} not fit any view of the object in the other photos. "
            f"Name {side}, or azimuth_deg and elevation_deg, or give another photo or mask."
        )
    if trust >= UNSURE:
        return ""
    if number == 0:
        return (
            "The photo fits the views badly "
            f"(outlines overlap by {100 * compared.iou:.0f} %): it counts less. Give elevation_deg "
            "where it is known, or another seed."
        )
    return (
        f"{name} fits only roughly (outlines overlap by {100 * compared.iou:.0f} %): it counts "
        "less than the others."
    )
