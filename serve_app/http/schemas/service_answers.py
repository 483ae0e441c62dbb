"""What the service says of itself and of how models were made: readiness and manifests."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from pipeline.flow.view_edits import EditKind
from serve_app.http.schemas.result_answers import CameraAnswer


class PhotoRecordAnswer(BaseModel):
    """A photo of a manifest, by its name in the project."""

    file: str
    sha256: str
    processed_sha256: str
    remove_background: bool
    masked: bool = False


class PlacedPhotoAnswer(BaseModel):
    """A photo that a generation worked with, and whence it was said to be taken."""

    file: str
    side: str | None
    azimuth_deg: float | None
    elevation_deg: float | None


class StepEditAnswer(BaseModel):
    """What was done to a view that a generation kept (`pipeline.flow.view_edits.EditRecord`)."""

    view: int
    kind: EditKind
    sha256: str | None
    source_version: int | None


class StepAnswer(BaseModel):
    """A generation or refinement that succeeded; `artefacts` maps names to content hashes, `camera`
    and `photos` are a generation's. `parent` is the version it began with, None where that was the
    photo."""

    kind: Literal["generate", "refine"]
    options: dict[str, Any]
    engines: dict[str, str]
    artefacts: dict[str, str]
    camera: CameraAnswer | None = None
    photos: list[PlacedPhotoAnswer] = []
    parent: int | None = None
    edits: list[StepEditAnswer] = []


class ManifestAnswer(BaseModel):
    """What made a project's models (`pipeline.flow.manifest`), and why a replay may differ."""

    version: int
    project_id: str
    created_at: str
    photo: PhotoRecordAnswer
    photos: list[PhotoRecordAnswer]
    environment: dict[str, Any]
    steps: list[StepAnswer]
    current_version: int | None = None
    notes: list[str]


class HealthAnswer(BaseModel):
    """Answer of `GET /health`."""

    status: Literal["ok"] = "ok"


class ReadyAnswer(BaseModel):
    """Answer of `GET /ready`: every check with its state, and why where it is not ready."""

    ready: bool
    checks: dict[str, str]
