"""What the service says of itself and of how models were made: readiness and manifests."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from serve_app.http.schemas.result_answers import CameraAnswer


class PhotoAnswer(BaseModel):
    """The photo of a manifest."""

    file: str
    sha256: str
    processed_sha256: str
    remove_background: bool


class StepAnswer(BaseModel):
    """A generation or refinement that succeeded; `artefacts` maps names to content hashes, `camera`
    is a generation's."""

    kind: Literal["generate", "refine"]
    options: dict[str, Any]
    engines: dict[str, str]
    artefacts: dict[str, str]
    camera: CameraAnswer | None = None


class ManifestAnswer(BaseModel):
    """What made a project's models (`pipeline.flow.manifest`), and why a replay may differ."""

    version: int
    project_id: str
    created_at: str
    photo: PhotoAnswer
    environment: dict[str, Any]
    steps: list[StepAnswer]
    notes: list[str]


class HealthAnswer(BaseModel):
    """Answer of `GET /health`."""

    status: Literal["ok"] = "ok"


class ReadyAnswer(BaseModel):
    """Answer of `GET /ready`: every check with its state, and why where it is not ready."""

    ready: bool
    checks: dict[str, str]
