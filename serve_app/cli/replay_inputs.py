"""What a replay reads before anything is made: the manifest, and the pictures beside it.

It checks that they are the ones that the manifest means; it does not know how a step is run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InvalidInput, InvalidOption
from pipeline.flow.manifest import Manifest, Step, content_hash
from pipeline.flow.photo_list import Direction
from pipeline.flow.stored_photos import PhotoRecord, processed_file


def read_manifest(path: Path) -> Manifest:
    """Raises InvalidInput when the file cannot be read or is no manifest."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InvalidInput(f"{path} is no JSON: {error}.") from error
    return Manifest.from_json(values)


@dataclass(frozen=True)
class ReplayInputs:
    """What the steps of a manifest begin with.

    Attributes:
        photos: stored photos, by their names in the manifest.
        cutouts: of those photos for which somebody sent a mask, by the names of the photos.
        pictures: that replaced views, by their hashes.
    """

    photos: Mapping[str, bytes]
    cutouts: Mapping[str, bytes]
    pictures: Mapping[str, bytes]

    @classmethod
    def read(cls, expected: Manifest, path: Path, photo: Path | None = None) -> ReplayInputs:
        """All of them.

        Args:
            path: of the manifest.
            photo: where the first photo lies, if it is not beside the manifest.

        Raises:
            InvalidInput: one is missing or another one, or the steps do not fit together.
        """
        beside = path.parent / Path(expected.photo.file).name
        photos = {expected.photo.file: _read_photo(expected.photo, photo or beside, "--photo")}
        for record in expected.photos:
            photos[record.file] = _read_photo(record, _beside(path, record.file))
        for step in expected.steps:
            _check_placed(step, photos)
        _check_branches(expected)
        cutouts = {
            record.file: _read_cutout(record, _beside(path, processed_file(record.file)))
            for record in (expected.photo, *expected.photos)
            if record.masked
        }
        return cls(photos, cutouts, _read_pictures(expected, path.parent))


def _check_placed(step: Step, known: Iterable[str]) -> None:
    """Raises InvalidInput where a step names a photo that there is not, or no direction."""
    for photo in step.photos:
        if photo.file not in known:
            raise InvalidInput(f"The manifest is damaged: {photo.file!r} is none of its photos.")
        try:
            Direction.checked(photo.side, photo.azimuth_deg, photo.elevation_deg)
        except InvalidOption as error:
            raise InvalidInput(f"The manifest is damaged: {error}") from error


def _beside(manifest: Path, file: str) -> Path:
    """Where a further photo is looked for. Raises InvalidInput where it would not be beside."""
    parts = Path(file).parts
    if Path(file).is_absolute() or ".." in parts or not parts:
        raise InvalidInput(f"The manifest is damaged: {file!r} is no file beside it.")
    return manifest.parent / file


def _read_photo(record: PhotoRecord, path: Path, option: str = "") -> bytes:
    """Raises InvalidInput unless it is the photo of the record.

    Args:
        option: with which another place can be named.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        way_out = (
            f"Name the project's {record.file} with {option}."
            if option
            else f"It must be the {record.file} that the project stored."
        )
        raise InvalidInput(f"The photo {path} cannot be read: {error.strerror}. {way_out}") from (
            error
        )
    if content_hash(data) != record.sha256:
        raise InvalidInput(
            f"{path} is another photo: its hash is {content_hash(data)}, the manifest has "
            f"{record.sha256}. It must be the {record.file} that the project "
            "stored, not the file that was uploaded."
        )
    return data


def _read_cutout(record: PhotoRecord, path: Path) -> bytes:
    """Raises InvalidInput unless it is the cut-out of the record."""
    name = processed_file(record.file)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"The cut-out {path} cannot be read: {error.strerror}. Somebody drew a mask for this "
            f"photo, so that its cut-out cannot be made from it alone: save the photo's "
            f"processed_url as {name} beside the manifest."
        ) from error
    if content_hash(data) != record.processed_sha256:
        raise InvalidInput(
            f"{path} is another cut-out: its hash is {content_hash(data)}, the manifest has "
            f"{record.processed_sha256}. It must be the {name} that the project stored."
        )
    return data


def _check_branches(expected: Manifest) -> None:
    """Raises InvalidInput where a step begins with a version that none before it has made."""
    made: set[int] = set()
    for number, step in enumerate(expected.steps, 1):
        wanted = [edit.source_version for edit in step.edits]
        for version in (step.options.get("version"), *wanted):
            if version is not None and version not in made:
                raise InvalidInput(
                    f"Step {number} begins with version {version}, which no step before it has "
                    "made: it comes from a job that did not succeed."
                )
        made.update(step.versions)


def _read_pictures(expected: Manifest, folder: Path) -> dict[str, bytes]:
    """The pictures that replaced views, by their hashes. Raises InvalidInput where one is missing
    or another one."""
    found: dict[str, bytes] = {}
    for record in (record for step in expected.steps for record in step.edits):
        if record.file is None or record.sha256 is None:
            continue
        try:
            data = (folder / record.file).read_bytes()
        except OSError as error:
            raise InvalidInput(
                f"The picture that replaced view {record.view} cannot be read: {error.strerror}. "
                f"Save it as {record.file} beside the manifest; the project's status has its "
                "image_url among the edits."
            ) from error
        if content_hash(data) != record.sha256:
            raise InvalidInput(
                f"{record.file} beside the manifest is another picture than the one that replaced "
                f"view {record.view}."
            )
        found[record.sha256] = data
    return found
