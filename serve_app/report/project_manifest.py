"""The manifest of a project from its rows: what made it, with the hashes to compare with.

It knows which jobs are steps of the way to the models; not how a step is made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from deployments.jobs.photo_rows import PhotoRow
from deployments.jobs.rows import Bucket, JobKind, JobState, ProjectJob
from deployments.jobs.store import Blobs, Records
from pipeline.flow.intake import WHOLE_PHOTO
from pipeline.flow.manifest import Manifest, Step, StepKind, content_hash
from pipeline.flow.stored_photos import PhotoRecord, PlacedPhoto, photo_file
from pipeline.flow.view_edits import EditKind, EditRecord
from pipeline.imaging.framing import MASK_ALPHA
from pipeline.types import CameraEstimate
from serve_app.report.lately import Lately

_KINDS = {JobKind.GENERATE: StepKind.GENERATE, JobKind.REFINE: StepKind.REFINE}

#: Of hashes that are kept: some thousands.
_KEPT_CHARS = 512 * 1024

#: Stages of generate and refine that make models; the others draw pictures of them, which a
#: replay leaves out.
_STAGES = ("candidates", "generator", "views", "depth", "photos", "splats", "iteration-")


class PhotoHashes:
    """Hashes of stored photos, each read once: a path never gets another content."""

    def __init__(self) -> None:
        self._gate = asyncio.Lock()
        self._known = Lately(_KEPT_CHARS)

    async def of(self, blobs: Blobs, bucket: Bucket, path: str) -> str:
        """See `content_hash`. Raises NotFound, Unavailable."""
        if (known := self._known.get((bucket, path))) is not None:
            return known
        async with self._gate:
            if (known := self._known.get((bucket, path))) is not None:
                return known
            found = await asyncio.to_thread(content_hash, await blobs.get(bucket, path))
            self._known.keep((bucket, path), found)
            return found


async def manifest_document(
    records: Records, blobs: Blobs, project_id: str, hashes: PhotoHashes
) -> dict[str, Any]:
    """The manifest as JSON, and `notes`: why a replay may make something else.

    Args:
        hashes: of photos, as far as they are known.

    Raises:
        NotFound: no such project.
    """
    project = await records.get_project(project_id)
    jobs = await records.project_jobs(project_id)
    done = [one for one in jobs if one.job.kind in _KINDS and one.job.state is JobState.SUCCEEDED]
    # Each once, whichever generations worked with it.
    used = {photo.id: photo for one in done for photo in one.job.photos}
    photos = [*used.values()] or [*(await records.project_detail(project_id)).photos[:1]]
    files = {photo.id: photo_file(place) for place, photo in enumerate(photos)}
    first, *further = await asyncio.gather(
        *(_record(photo, files[photo.id], blobs, hashes) for photo in photos)
    )
    environments = [where for one in done if (where := newest_environment(one))]
    finished = [one.job.finished_at for one in done if one.job.finished_at is not None]
    manifest = Manifest(
        project_id=project.id,
        created_at=max(finished, default=project.created_at).isoformat(),
        photo=first,
        environment=environments[-1] if environments else {},
        steps=tuple(_step(one, files) for one in done),
        photos=tuple(further),
        current_version=project.current_version,
    )
    return {**manifest.to_json(), "notes": _notes(jobs, done, environments)}


async def _record(photo: PhotoRow, file: str, blobs: Blobs, hashes: PhotoHashes) -> PhotoRecord:
    original, processed = await asyncio.gather(
        hashes.of(blobs, Bucket.UPLOADS, photo.original_path),
        hashes.of(blobs, Bucket.PROCESSED, photo.processed_path),
    )
    return PhotoRecord(
        file=file,
        sha256=original,
        processed_sha256=processed,
        remove_background=photo.background_engine != WHOLE_PHOTO,
        masked=photo.background_engine == MASK_ALPHA,
    )


def newest_environment(one: ProjectJob) -> dict[str, Any]:
    """Where the newest attempt of a job ran; empty in rows of releases that did not keep it."""
    kept = [c.detail["environment"] for c in one.commits if "environment" in c.detail]
    return dict(kept[-1]) if kept else {}


def _step(one: ProjectJob, files: Mapping[str, str]) -> Step:
    """`files`: names of photos by their ids."""
    named = (one.job.result or {}).get("engines", {})
    engines = {name: engine for name, engine in named.items() if engine}
    if one.job.photos:
        engines["background"] = one.job.photos[0].background_engine
    camera = (one.job.result or {}).get("camera")
    return Step(
        kind=_KINDS[one.job.kind],
        options=dict(one.job.options),
        engines=engines,
        artefacts=_artefacts(one),
        camera=None if camera is None else CameraEstimate(**camera),
        photos=tuple(
            PlacedPhoto(files[photo.id], photo.side, photo.azimuth_deg, photo.elevation_deg)
            for photo in one.job.photos
        ),
        parent=_parent(one),
        edits=tuple(
            EditRecord(**{**edit, "kind": EditKind(edit["kind"])})
            for commit in one.commits
            for edit in commit.detail.get("edits", ())
        ),
    )


def _artefacts(one: ProjectJob) -> dict[str, str]:
    return {
        name: sha256
        for commit in one.commits
        if commit.stage.startswith(_STAGES)
        for name, sha256 in commit.detail.get("hashes", {}).items()
    }


def _parent(one: ProjectJob) -> int | None:
    """The version that a job began with."""
    if one.job.kind is JobKind.REFINE:
        version: int | None = one.job.options.get("version")
        return version
    return next((row.parent for commit in one.commits for row in commit.models), None)


def _notes(
    jobs: tuple[ProjectJob, ...], done: list[ProjectJob], environments: list[dict[str, Any]]
) -> list[str]:
    notes = []
    for one in jobs:
        versions = [row.version for commit in one.commits for row in commit.models]
        if versions and one not in done:
            named = ", ".join(str(version) for version in versions)
            notes.append(
                f"Model version {named} comes from a job that is {one.job.state.value}: it is no "
                "step, and a step that begins with it cannot be replayed."
            )
    if any(environment != environments[0] for environment in environments):
        notes.append("The steps ran in different environments; the one of the newest is given.")
    if any(not _artefacts(one) for one in done):
        notes.append("A step was made by a release that kept no hashes.")
    return notes
