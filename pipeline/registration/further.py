"""Places further photos against a surface: where it is looked for them, and which are one another.

It does not know what the surface is made of or what the photos change about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.control import UNATTENDED, Control
from pipeline.registration.place_photo import LOOSE, Placed, angle_between, grid, place_photo
from pipeline.registration.pose import Pose, Vector
from pipeline.registration.sketch import Sketch
from pipeline.registration.verdict import left_out, same_picture
from pipeline.types import Cutout, FurtherPhoto, PhotoRegistration

#: Directions of the search where nothing was given.
AZIMUTHS_DEG = tuple(range(0, 360, 15))
ELEVATIONS_DEG = (-10.0, 10.0, 30.0, 55.0)
#: Where the azimuth is given, and around a given elevation.
NEAR_DEG = (-12.0, 0.0, 12.0)
#: How far from a given angle one is believed to be, in `STEPS`: sides are named, not measured.
GIVEN = 1.2
#: How far an elevation that was not given is from the first photo's, in `STEPS`: nobody kneels for
#: one side and climbs for the other; and an azimuth from any other.
ALIKE, ANYWHERE = 2.0, 1e6
#: Photos between these angles to the first one tell how thick the object is.
SIDEWAYS_DEG = (40.0, 140.0)
#: Photos from more above or below than this are neither from behind nor from in front.
LEVEL_DEG = 50.0
#: How loose the thickness is then, in `STEPS`.
THICKNESS_LOOSE = 2.0
#: Photos whose directions lie closer than this show one side.
ONE_SIDE_DEG = 8.0


def place_further(
    photo: FurtherPhoto, sketch: Sketch, first: Pose, *, control: Control = UNATTENDED
) -> Placed:
    """The best pose of a further photo; with a thickness where it is taken from the side.

    Args:
        first: the first photo's.

    Raises:
        Cancelled: `control` asked for it.
    """
    starts, expected, loose = _starts(photo, first)
    tries = 5 if len(starts) > 12 else 2
    return place_photo(
        photo.cutout,
        sketch,
        starts,
        expected=expected,
        loose=loose,
        tries=tries,
        recognise=photo.azimuth_deg is None,
        control=control,
    )


def _starts(photo: FurtherPhoto, first: Pose) -> tuple[list[Pose], Pose, Vector]:
    azimuth, elevation = photo.azimuth_deg, photo.elevation_deg
    loose = LOOSE.copy()
    loose[0], loose[1] = ANYWHERE, ALIKE
    azimuths: Sequence[float] = AZIMUTHS_DEG
    elevations: Sequence[float] = ELEVATIONS_DEG
    if elevation is not None:
        elevations = [float(np.clip(elevation + d, -89.0, 89.0)) for d in NEAR_DEG]
        loose[1] = GIVEN
    if azimuth is not None:
        azimuths = [azimuth + d for d in NEAR_DEG]
        loose[0] = GIVEN
    others = {"distance": first.distance, "axis_deg": first.elevation_deg}
    poses = grid(azimuths, elevations, **others)
    if elevation is not None and abs(elevation) > 75:
        # From above the azimuth is a roll.
        loose[2] = loose[0]
    expected = Pose(
        0.0 if azimuth is None else azimuth,
        first.elevation_deg if elevation is None else elevation,
    )
    return poses, expected, loose


def is_behind(pose: Pose, first: Pose) -> bool:
    """Both from above the same horizon are less than opposite, and see each other's far side."""
    turned = abs((pose.azimuth_deg - first.azimuth_deg + 180) % 360 - 180)
    level = max(abs(pose.elevation_deg), abs(first.elevation_deg)) < LEVEL_DEG
    return level and turned > SIDEWAYS_DEG[1]


def is_sideways(pose: Pose, first: Pose) -> bool:
    apart = angle_between(pose, first)
    return SIDEWAYS_DEG[0] <= apart <= SIDEWAYS_DEG[1] and not is_behind(pose, first)


def with_thickness(
    photo: FurtherPhoto, sketch: Sketch, placed: Placed, *, control: Control = UNATTENDED
) -> Placed:
    """The same photo placed once more, with the thickness of the surface sought as well."""
    loose = LOOSE.copy()
    loose[0] = loose[1] = GIVEN
    loose[7] = THICKNESS_LOOSE
    starts = [replace(placed.pose, thickness=k) for k in (0.6, 1.0, 1.6)]
    return place_photo(
        photo.cutout, sketch, starts, expected=placed.pose, loose=loose, tries=1, control=control
    )


def repeated(cutout: Cutout, photos: Sequence[FurtherPhoto]) -> dict[int, PhotoRegistration]:
    """Those of the further photos, by number, that are one that came before."""
    every = [cutout, *(photo.cutout for photo in photos)]
    found: dict[int, PhotoRegistration] = {}
    for k in range(1, len(every)):
        for before in range(k):
            if before not in found and same_picture(every[before], every[k]):
                note = (
                    f"Photo {k} is the same picture as photo {before} and was left out: "
                    "give one of another side."
                )
                found[k] = left_out(k, note)
                break
    return found


def said_of(registrations: Sequence[PhotoRegistration]) -> tuple[str, ...]:
    """What users should read of the photos: notes of each, and which of them show one side."""
    notes = [found.note for found in registrations if found.note]
    used = [found for found in registrations if found.accepted]
    for k, one in enumerate(used):
        for other in used[k + 1 :]:
            pair = [Pose(found.azimuth_deg, found.elevation_deg) for found in (one, other)]
            if angle_between(*pair) < ONE_SIDE_DEG:
                notes.append(
                    f"Photos {one.photo} and {other.photo} show the same side: both are "
                    "used there, and one of another side would tell more."
                )
    return tuple(notes)
