"""Which photos of one object may stand together, and what a generation is handed of them.

It knows whence each was taken, as far as somebody said so; not where photos are kept, nor what is
in them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import InvalidImage, InvalidOption
from pipeline.options import BY_VIEWS, ELEVATION_LIMITS_DEG
from pipeline.types import PHOTO_SIDES, Cutout, FurtherPhoto

#: Of one object.
MAX_PHOTOS = 8

#: How far from the first a photo may be taken that a generator uses.
QUARTER_TURN_DEG = 90.0

_NUMBER = r"[+-]?\d+(?:\.\d+)?"
_ANGLES = re.compile(rf"({_NUMBER})(?:,({_NUMBER}))?")


@dataclass(frozen=True)
class Direction:
    """Whence a photo was taken: a side, or angles, or not known. `checked` makes valid ones.

    Attributes:
        side: a word of `PHOTO_SIDES`; then there are no angles.
        azimuth_deg: 0 is the front, counter-clockwise seen from above.
        elevation_deg: above the horizon.
    """

    side: str | None = None
    azimuth_deg: float | None = None
    elevation_deg: float | None = None

    @classmethod
    def checked(
        cls,
        side: str | None = None,
        azimuth_deg: float | None = None,
        elevation_deg: float | None = None,
    ) -> Direction:
        """Raises InvalidOption for an unknown side, a side beside angles, and what is no angle."""
        if side is not None and side not in PHOTO_SIDES:
            raise InvalidOption(
                f"side must be one of {', '.join(PHOTO_SIDES)}, not {side[:40]!r}. For any other "
                "direction give azimuth_deg, or nothing: then it is looked for."
            )
        if side is not None and (azimuth_deg is not None or elevation_deg is not None):
            raise InvalidOption(
                "A side and angles exclude each other: give side, or azimuth_deg and elevation_deg."
            )
        if azimuth_deg is not None and not -360 <= azimuth_deg <= 360:
            raise InvalidOption(f"azimuth_deg must be -360 to 360, not {azimuth_deg:g}.")
        if elevation_deg is not None and not -90 <= elevation_deg <= 90:
            raise InvalidOption(f"elevation_deg must be -90 to 90, not {elevation_deg:g}.")
        return cls(side, azimuth_deg, elevation_deg)

    @classmethod
    def from_text(cls, text: str) -> Direction | None:
        """What "back", "90" or "90,10" says; None where it is neither a side nor angles.

        Raises InvalidOption for what is no angle.
        """
        if text in PHOTO_SIDES:
            return cls(side=text)
        match = _ANGLES.fullmatch(text)
        if match is None:
            return None
        return cls.checked(None, float(match[1]), None if match[2] is None else float(match[2]))

    @property
    def is_known(self) -> bool:
        """Somebody said something."""
        return self != Direction()

    @property
    def angles(self) -> tuple[float | None, float | None]:
        """Azimuth, 0 to below 360, and elevation in degrees, as far as they are known."""
        azimuth, elevation = (
            (self.azimuth_deg, self.elevation_deg) if self.side is None else PHOTO_SIDES[self.side]
        )
        return None if azimuth is None else azimuth % 360, elevation

    def __str__(self) -> str:
        if self.side is not None:
            return f"from the {self.side}"
        azimuth, elevation = self.azimuth_deg, self.elevation_deg
        parts = [] if azimuth is None else [f"azimuth {azimuth:g}"]
        parts += [] if elevation is None else [f"elevation {elevation:g}"]
        return ", ".join(parts) or "from a side that nobody named"


@dataclass(frozen=True)
class GivenPhoto:
    """What decides whether a photo may stand beside others.

    Attributes:
        sha256: content hash of the photo as it is stored; empty: not known.
    """

    direction: Direction
    sha256: str


def check_count(count: int) -> None:
    """Raises InvalidOption for more photos than there may be."""
    if count > MAX_PHOTOS:
        raise InvalidOption(
            f"There may be at most {MAX_PHOTOS} photos of one object, not {count}: leave out those "
            "that show least."
        )


def check_photos(photos: Sequence[GivenPhoto]) -> None:
    """Whether these may be the photos of one object, the first one first.

    Raises:
        InvalidOption: there are too many, two are said to be from one direction, or the first is
            not from a side that views can be made around.
        InvalidImage: one is there twice.
    """
    check_count(len(photos))
    _check_first(photos[0].direction)
    for place, photo in enumerate(photos):
        for other in range(place):
            before = photos[other]
            if photo.sha256 and photo.sha256 == before.sha256:
                raise InvalidImage(
                    f"Photo {place} is the same picture as photo {other}: the same photo twice "
                    "shows nothing new. Leave it out, or send another one."
                )
            if _of_place(other, before.direction) == _of_place(place, photo.direction) is not None:
                raise InvalidOption(
                    f"Photos {other} and {place} are both {_told(place, photo.direction)}: two "
                    "photos of one side say where they stand in other words. Name another side or "
                    "azimuth_deg for one of them, or nothing: then it is looked for."
                )


def _check_first(direction: Direction) -> None:
    """Raises InvalidOption where views cannot be made around it."""
    lowest, highest = ELEVATION_LIMITS_DEG
    elevation = direction.angles[1]
    if elevation is not None and not lowest <= elevation <= highest:
        raise InvalidOption(
            f"Photo 0 is the one that the views are made around, so it must be taken from an "
            f"elevation of {lowest:g} to {highest:g} degrees, and this one is {direction}. Put "
            "another photo first."
        )


def _of_place(place: int, direction: Direction) -> tuple[float, float | None] | None:
    """What says that two are from one direction; None: nothing is known."""
    azimuth, elevation = direction.angles
    if elevation is not None and abs(elevation) == 90:
        return 0.0, elevation  # from above there is no azimuth that others would share
    if azimuth is None:
        # The first photo is the front where nobody says otherwise.
        return (0.0, elevation) if place == 0 else None
    return azimuth, elevation


def _told(place: int, direction: Direction) -> str:
    return str(direction) if direction.is_known or place else "from the front"


def first_elevation(photos: Sequence[Direction], asked: float | None) -> float | None:
    """The elevation of the first photo: what was asked for, else what the photo says."""
    return photos[0].angles[1] if asked is None else asked


def further_photos(
    directions: Sequence[Direction], cutouts: Sequence[Cutout]
) -> tuple[FurtherPhoto, ...]:
    """All photos but the first, as `flow.generate` takes them.

    Args:
        directions: of all photos, the first one first.
        cutouts: of all but the first.
    """
    places = angles_around(directions)[1:]
    return tuple(
        FurtherPhoto(cutout, *angles) for angles, cutout in zip(places, cutouts, strict=True)
    )


def angles_around(directions: Sequence[Direction]) -> list[tuple[float | None, float | None]]:
    """Azimuth, 0 to below 360, and elevation of each photo in degrees, as far as they are known.

    In the world 0 is the first photo, whichever side it shows.
    """
    front = directions[0].angles[0] or 0.0
    found: list[tuple[float | None, float | None]] = [(0.0, directions[0].angles[1])]
    for direction in directions[1:]:
        azimuth, elevation = direction.angles
        found.append((None if azimuth is None else (azimuth - front) % 360, elevation))
    return found


def check_quarter_turn(directions: Sequence[Direction]) -> None:
    """Raises InvalidOption where a photo is said to be from farther than a quarter turn from the
    first: a generator makes all photos agree on one side, which such photos do not show."""
    for place, (azimuth, elevation) in enumerate(angles_around(directions)):
        turn = 0.0 if azimuth is None else min(azimuth, 360 - azimuth)
        if turn > QUARTER_TURN_DEG or abs(elevation or 0.0) == QUARTER_TURN_DEG:
            raise InvalidOption(
                f"Photo {place} is {directions[place]}, and an engine that makes the model in one "
                "pass can use photos within a quarter turn of the first alone: take it out, or "
                f"ask for engine={BY_VIEWS}."
            )
