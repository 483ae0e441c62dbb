"""The photos of a run on the command line: named, read, checked, and what they are called in its
folder.

It does not know what is made of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import InvalidImage, InvalidOption
from pipeline.flow.intake import WHOLE_PHOTO, Upload, masked_upload, prepare_upload
from pipeline.flow.manifest import content_hash
from pipeline.flow.photo_list import Direction, GivenPhoto, check_photos
from pipeline.flow.stored_photos import PhotoRecord, PlacedPhoto, photo_file, processed_file
from pipeline.imaging.decoding import decode_png
from pipeline.imaging.framing import MASK_ALPHA
from pipeline.ports import BackgroundRemover
from pipeline.types import PHOTO_SIDES, UInt8Array


@dataclass(frozen=True)
class FolderPhoto:
    """A photo of a run.

    Attributes:
        file: what it is called in the folder; see `photo_file`.
        remove_background: whether intake was asked to find the object.
    """

    file: str
    upload: Upload
    remove_background: bool = True

    @property
    def record(self) -> PhotoRecord:
        """For the manifest."""
        return PhotoRecord(
            file=self.file,
            sha256=content_hash(self.upload.original_png),
            processed_sha256=content_hash(self.upload.processed_png),
            remove_background=self.remove_background,
            masked=self.upload.engine == MASK_ALPHA,
        )

    def write(self, folder: Path) -> None:
        """Photo and cut-out."""
        (folder / self.file).parent.mkdir(parents=True, exist_ok=True)
        (folder / self.file).write_bytes(self.upload.original_png)
        (folder / processed_file(self.file)).write_bytes(self.upload.processed_png)


def parse_photo(text: str) -> tuple[Path, Direction]:
    """What `--photo back.jpg:back`, `side.jpg:90,10` or `any.jpg` names.

    Raises InvalidOption for an unknown side or a file that is not there.
    """
    name, colon, told = text.rpartition(":")
    direction = Direction.from_text(told) if colon else None
    path = Path(text) if direction is None else Path(name)
    if not path.is_file():
        if colon and direction is None and Path(name).is_file():
            raise InvalidOption(
                f"--photo {text}: {told!r} is neither a side ({', '.join(PHOTO_SIDES)}) nor "
                "AZIMUTH or AZIMUTH,ELEVATION in degrees."
            )
        raise InvalidOption(f"--photo {text}: there is no file {path}.")
    return path, direction or Direction()


def check_directions(directions: Sequence[Direction]) -> None:
    """What can be known before a photo is read. Raises InvalidOption."""
    check_photos([GivenPhoto(direction, "") for direction in directions])


async def read_photos(
    paths: Sequence[Path],
    directions: Sequence[Direction],
    background: BackgroundRemover,
    mask: Path | None = None,
) -> tuple[list[FolderPhoto], list[PlacedPhoto]]:
    """Photos of one object, the first one first, and whence they were taken.

    Args:
        mask: says what of the first one is the object.

    Raises InvalidImage, which names the photo, for one that cannot be used or is there twice.
    """
    photos = []
    for place, path in enumerate(paths):
        masked = mask if place == 0 else None
        try:
            upload = await prepare_upload(
                path.read_bytes(), background, remove_background=masked is None
            )
        except InvalidImage as error:
            if len(paths) == 1:
                raise
            raise InvalidImage(f"{path}: {error.detail}") from error
        if masked is not None:
            upload = await _masked(upload, masked)
        photos.append(FolderPhoto(photo_file(place), upload))
    given = [
        GivenPhoto(direction, photo.record.sha256)
        for direction, photo in zip(directions, photos, strict=True)
    ]
    check_photos(given)
    return photos, [
        PlacedPhoto(photo.file, told.side, told.azimuth_deg, told.elevation_deg)
        for told, photo in zip(directions, photos, strict=True)
    ]


async def _masked(upload: Upload, mask: Path) -> Upload:
    """A photo with the cut-out that a mask tells. Raises InvalidImage, which names the mask."""
    try:
        masked = await masked_upload(upload.original_png, await asyncio.to_thread(mask.read_bytes))
    except InvalidImage as error:
        raise InvalidImage(f"{mask}: {error.detail}") from error
    # Of a photo that was taken whole nothing is told but what there is of its file.
    about_file = upload.notes if upload.engine == WHOLE_PHOTO else ()
    return replace(masked, notes=about_file + masked.notes)


def notes_of(photos: Sequence[FolderPhoto]) -> list[str]:
    """What users should read of the photos, each with its number where there are several."""
    return [
        f"Photo {n}: {note}" if len(photos) > 1 else note
        for n, photo in enumerate(photos)
        for note in photo.upload.notes
    ]


def sheet_row(photos: Sequence[FolderPhoto]) -> tuple[str, list[UInt8Array]]:
    """Photos and cut-outs in a contact sheet."""
    pictures = [decode_png(photo.upload.original_png)[..., :3] for photo in photos]
    pictures += [decode_png(photo.upload.processed_png) for photo in photos]
    return ("photos and cut-outs" if len(photos) > 1 else "photo and cut-out"), pictures
