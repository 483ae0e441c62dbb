"""The manifest of a project: everything needed to make it again, and the hashes to compare with.

It knows names and hashes of artefacts; not where they are stored, nor how a step is run again.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import metadata
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline.engines.registry import engine_specs, weights_catalogue
from pipeline.errors import InvalidInput
from pipeline.flow.machine import gpu, processor
from pipeline.flow.stored_photos import (
    ORIGINAL_FILE,
    PROCESSED_FILE,
    PhotoRecord,
    PlacedPhoto,
    processed_file,
)
from pipeline.flow.view_edits import EditRecord
from pipeline.types import CameraEstimate
from pipeline.weights.folders import digest_of

MANIFEST_VERSION = 1

#: Its own name in a folder.
MANIFEST_FILE = "manifest.json"

#: Packages whose version can change an artefact, beside those that engines name; those of exports
#: and films are not among them.
_PACKAGES = (
    "numpy",
    "nvidia-cublas",
    "nvidia-cublas-cu12",
    "nvidia-cuda-runtime",
    "nvidia-cuda-runtime-cu12",
    "nvidia-cudnn-cu12",
    "nvidia-cudnn-cu13",
    "opencv-python-headless",
    "pillow",
    "scipy",
    "torch",
    "triton",
)

_PIPELINE = Path(__file__).parents[1]

#: An artefact that is a model, and its version.
_MODEL = re.compile(r"models/v(\d+)\.ply")

T = TypeVar("T")


class StepKind(StrEnum):
    """What makes artefacts."""

    GENERATE = "generate"
    REFINE = "refine"


def content_hash(data: bytes) -> str:
    """ "sha256:" and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def environment(model_dir: Path | None = None) -> dict[str, Any]:
    """What shapes results beside photo and options, JSON-ready; imports no engine.

    Versions of the product, Python and packages (those that are there), digests of the weights
    that would be used and of the product's own sources, and the machine with its GPUs. Hashing all
    of it takes some 50 ms the first time. Which engine computes on which device the engines know:
    `pipeline.flow.local.LocalPorts.devices`, which callers add as `devices`.

    Args:
        model_dir: where weights lie that no package carries.
    """
    return {
        "product": _version_of("glimpse3d") or "unknown",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "processor": processor(),
        "gpu": gpu(),
        "packages": {name: found for name in _packages() if (found := _version_of(name))},
        # Files are compared as they are stored, and this library compresses PNG and npz.
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "weights": _weights(model_dir),
        "sources": {
            "pipeline": _digest_of(_PIPELINE, "**/*.py"),
            "native": _digest_of(_PIPELINE / "native", "*.cpp", "*.h"),
        },
    }


def _packages() -> list[str]:
    return sorted({*_PACKAGES, *(name for spec in engine_specs() for name in spec.packages)})


def _version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _weights(model_dir: Path | None) -> dict[str, str]:
    """Only verified files, and bundles by their records: an engine takes no others."""
    return {
        weights.name: digest
        for weights in weights_catalogue().weights
        if (digest := digest_of(weights, model_dir))
    }


def _digest_of(folder: Path, *patterns: str) -> str:
    digest = hashlib.sha256()
    files = {path for pattern in patterns for path in folder.glob(pattern)}
    for path in sorted(files):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(data)}\n".encode())
        digest.update(data)
    return f"sha256:{digest.hexdigest()}"


@dataclass(frozen=True)
class Step:
    """A generation or a refinement that ended well.

    Attributes:
        kind: which of them.
        options: `to_json` of its options, seeds included.
        engines: names of the engines that ran, by port.
        artefacts: content hash of every file it made, by its name relative to the project as
            `pipeline.flow.folder_journal.FolderJournal` has it: `views/00.png`, `models/v0.ply`,
            ...
        camera: of a generation whose view engine looked for the photo's camera.
        photos: of a generation, the first one first; empty: the manifest's `photo` alone.
        parent: the version that it began with: that was refined, or whose stages were kept; None
            where it began with the photo, and in manifests of releases that did not say so.
        edits: of the views that were kept.
    """

    kind: StepKind
    options: dict[str, Any]
    engines: dict[str, str]
    artefacts: dict[str, str]
    camera: CameraEstimate | None = None
    photos: tuple[PlacedPhoto, ...] = ()
    parent: int | None = None
    edits: tuple[EditRecord, ...] = ()

    @property
    def versions(self) -> tuple[int, ...]:
        """The model versions that it made, in their order."""
        found = (_MODEL.fullmatch(name) for name in self.artefacts)
        return tuple(sorted(int(match[1]) for match in found if match is not None))


@dataclass(frozen=True)
class Manifest:
    """What made a project, in the order in which it happened.

    Attributes:
        project_id: of the project; of a run on the command line, the name of its folder.
        created_at: ISO 8601 with a time zone.
        photo: the first one of the first generation.
        photos: further ones, of any generation.
        environment: what `environment` answered where the steps ran, and `devices`: by port,
            which device its engine computed on, in which precision.
        current_version: of the model that further work would have begun with.
    """

    project_id: str
    created_at: str
    photo: PhotoRecord
    environment: dict[str, Any]
    steps: tuple[Step, ...]
    photos: tuple[PhotoRecord, ...] = ()
    current_version: int | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; artefacts are sorted by name."""
        steps = [
            asdict(step)
            | {"kind": step.kind.value, "artefacts": dict(sorted(step.artefacts.items()))}
            for step in self.steps
        ]
        return {"version": MANIFEST_VERSION} | asdict(self) | {"steps": steps}

    @classmethod
    def from_json(cls, values: object) -> Manifest:
        """Inverse of `to_json`; fields that it does not know are ignored.

        Raises:
            InvalidInput: of another version, or a field is missing or of the wrong type; the text
                names it.
        """
        version = _read(_HEAD, values).version
        if version != MANIFEST_VERSION:
            raise InvalidInput(
                f"The manifest has version {version}; this release reads {MANIFEST_VERSION}."
            )
        return _read(_MANIFEST, values)


@dataclass(frozen=True)
class _Head:
    """What every version has: it decides how the rest is read."""

    version: int


_HEAD = TypeAdapter(_Head)
_MANIFEST = TypeAdapter(Manifest)

#: What a value should have been, by the code of pydantic's error.
_EXPECTED = {
    "bool_type": "truth value",
    "dataclass_type": "JSON object",
    "dict_type": "JSON object",
    "float_type": "number",
    "int_type": "whole number",
    "string_type": "string",
    "tuple_type": "list",
}


def _read(adapter: TypeAdapter[T], values: object) -> T:
    """Raises InvalidInput that names the first field that is wrong, and how."""
    try:
        # As JSON, in which lists are tuples and names are members of enums, and nothing else is.
        return adapter.validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    path = path.removeprefix(".") or "the whole"
    if first["type"] == "missing":
        fault = "is missing"
    elif first["type"] == "enum" and isinstance(first["input"], str):
        fault = f"{first['input']!r} is unknown"
    else:
        fault = f"is no {_EXPECTED.get(first['type'], 'string')}"
    raise InvalidInput(f"The manifest is damaged: {path} {fault}.")


class State(StrEnum):
    """What a comparison found."""

    EQUAL = "equal"
    DIFFERS = "differs"
    #: Expected and not found.
    MISSING = "missing"
    #: Found and not expected.
    EXTRA = "extra"


class Subject(StrEnum):
    """What was compared."""

    ARTEFACT = "artefact"
    STEP = "step"
    OPTION = "option"
    ENGINE = "engine"
    PHOTO = "photo"
    CAMERA = "camera"
    ENVIRONMENT = "environment"


@dataclass(frozen=True)
class Difference:
    """One line of a comparison.

    Attributes:
        name: of the artefact, option, engine or number of the camera, or the path of the entry of
            the environment.
        expected, found: both values as text, empty where there is none.
        step: index of the step; None for the photo, its cut-out and the environment.
    """

    subject: Subject
    name: str
    state: State
    expected: str
    found: str
    step: int | None = None


def compare(expected: Manifest, found: Manifest) -> list[Difference]:
    """Every artefact with its state, and whatever else differs: it may say why.

    Artefacts come first, in the order of the steps, equal ones included; then steps, options,
    engines, photos and whence they were taken, numbers of cameras and entries of the environment,
    only those that are not equal.
    """
    lines = _lines(Subject.ARTEFACT, _photo_hashes(expected), _photo_hashes(found), None)
    reasons: list[Difference] = []
    for i, (wanted, got) in enumerate(zip_longest(expected.steps, found.steps)):
        lines += _lines(
            Subject.ARTEFACT, wanted.artefacts if wanted else {}, got.artefacts if got else {}, i
        )
        if wanted is None or got is None or wanted.kind != got.kind:
            kinds = [{} if step is None else {"kind": step.kind.value} for step in (wanted, got)]
            reasons += _lines(Subject.STEP, kinds[0], kinds[1], i)
            continue
        reasons += _lines(Subject.OPTION, _flat(wanted.options), _flat(got.options), i)
        reasons += _lines(Subject.ENGINE, wanted.engines, got.engines, i)
        reasons += _lines(Subject.PHOTO, _placed(wanted), _placed(got), i)
        reasons += _lines(Subject.CAMERA, _numbers(wanted.camera), _numbers(got.camera), i)
    reasons += _lines(
        Subject.ENVIRONMENT, _flat(expected.environment), _flat(found.environment), None
    )
    return lines + [reason for reason in reasons if reason.state is not State.EQUAL]


def is_identical(differences: list[Difference]) -> bool:
    """Whether every artefact was found with the bytes that were expected, and no other."""
    artefacts = [line for line in differences if line.subject is Subject.ARTEFACT]
    return all(line.state is State.EQUAL for line in artefacts)


def _numbers(camera: CameraEstimate | None) -> dict[str, str]:
    return {} if camera is None else _flat(asdict(camera))


def _placed(step: Step) -> dict[str, str]:
    return {
        f"{place} {name}": str(value)
        for place, photo in enumerate(step.photos)
        for name, value in asdict(photo).items()
        if value is not None
    }


def _photo_hashes(manifest: Manifest) -> dict[str, str]:
    first = manifest.photo
    hashes = {ORIGINAL_FILE: first.sha256, PROCESSED_FILE: first.processed_sha256}
    for photo in manifest.photos:
        hashes[photo.file] = photo.sha256
        hashes[processed_file(photo.file)] = photo.processed_sha256
    return hashes


def _lines(
    subject: Subject, expected: Mapping[str, str], found: Mapping[str, str], step: int | None
) -> list[Difference]:
    lines = []
    for name in sorted({*expected, *found}):
        if name not in found:
            state = State.MISSING
        elif name not in expected:
            state = State.EXTRA
        else:
            state = State.EQUAL if expected[name] == found[name] else State.DIFFERS
        wanted, got = expected.get(name, ""), found.get(name, "")
        lines.append(Difference(subject, name, state, wanted, got, step))
    return lines


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested objects as one: `packages.torch` -> text."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
