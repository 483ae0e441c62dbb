"""The photos of a project as a store keeps and answers them.

Fields are the names in the JSON of the SQL functions. It does not know which photos may stand
together (`pipeline.flow.photo_list`) nor who stores their files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator

from pipeline.flow.photo_list import Direction, GivenPhoto

_Utc = Annotated[datetime, AfterValidator(lambda moment: moment.astimezone(UTC))]


@dataclass(frozen=True)
class NewPhoto:
    """A photo whose files are about to be stored.

    Attributes:
        original_path, processed_path: in the buckets UPLOADS and PROCESSED.
        background_engine: who found the object in it.
        sha256: content hash of the stored original; empty: not known.
        side, azimuth_deg, elevation_deg: as in `Direction`.
        notes: sentences that a user should read.
    """

    id: str
    original_path: str
    processed_path: str
    background_engine: str
    sha256: str = ""
    side: str | None = None
    azimuth_deg: float | None = None
    elevation_deg: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PhotoRow:
    """One row of `project_photos`. Its files never change; where it stands and whence it was taken
    may.

    Attributes:
        position: 0 for the first; None where it is none of the project's any more.
        others: as in `NewPhoto`.
    """

    id: str
    position: int | None
    original_path: str
    processed_path: str
    background_engine: str
    sha256: str
    side: str | None
    azimuth_deg: float | None
    elevation_deg: float | None
    notes: tuple[str, ...]
    created_at: _Utc

    @property
    def direction(self) -> Direction:
        """Whence it was taken, as far as somebody said so."""
        return Direction(self.side, self.azimuth_deg, self.elevation_deg)

    @property
    def given(self) -> GivenPhoto:
        """What decides whether it may stand beside others."""
        return GivenPhoto(self.direction, self.sha256)


@dataclass(frozen=True)
class PlacedPhoto:
    """A photo in a list that is to be the project's: its place is the one in the list."""

    id: str
    side: str | None = None
    azimuth_deg: float | None = None
    elevation_deg: float | None = None

    @classmethod
    def of(cls, photo_id: str, direction: Direction) -> PlacedPhoto:
        """A photo, taken from there."""
        return cls(photo_id, direction.side, direction.azimuth_deg, direction.elevation_deg)


@dataclass(frozen=True)
class DuePhoto:
    """A photo whose files are to go; None where another photo has the same file."""

    id: str
    project_id: str
    original_path: str | None
    processed_path: str | None


#: What a generation found out of each of its photos, in their order
#: (`pipeline.types.PhotoRegistration`), as the detail of a stage has it.
Registrations = tuple[Mapping[str, Any], ...]
