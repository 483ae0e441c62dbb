"""Photos as a manifest has them: what they are called, their hashes, whence they were taken.

It does not know where they are stored, nor what was made of them.
"""

from __future__ import annotations

from dataclasses import dataclass

#: What the first photo and its cut-out are called among the artefacts.
ORIGINAL_FILE = "original.png"
PROCESSED_FILE = "processed.png"


def photo_file(number: int) -> str:
    """What a stored photo is called; 0 is the first one."""
    return f"photos/{number}/{ORIGINAL_FILE}" if number else ORIGINAL_FILE


def processed_file(file: str) -> str:
    """What the cut-out of a stored photo is called, beside it."""
    return file.rpartition(ORIGINAL_FILE)[0] + PROCESSED_FILE


@dataclass(frozen=True)
class PhotoRecord:
    """A photo that something was made of.

    Attributes:
        file: name of the stored photo, relative to the manifest: what intake made of the upload
            (upright, sRGB, PNG).
        sha256: content hash of that file.
        processed_sha256: content hash of the cut-out made from it.
        remove_background: whether intake was asked to find the object.
        masked: somebody has said with a mask what the object is: the cut-out is not made from the
            photo alone, and must be beside it.
    """

    file: str
    sha256: str
    processed_sha256: str
    remove_background: bool
    masked: bool = False


@dataclass(frozen=True)
class PlacedPhoto:
    """A photo that a generation worked with, and whence it was said to be taken.

    Attributes:
        file: of its `PhotoRecord`.
        side, azimuth_deg, elevation_deg: as in `pipeline.flow.photo_list.Direction`.
    """

    file: str
    side: str | None = None
    azimuth_deg: float | None = None
    elevation_deg: float | None = None
