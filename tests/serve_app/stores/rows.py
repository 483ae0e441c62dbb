"""Example rows, and short ways to bring a project into a state."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from deployments.jobs.commits import (
    DepthRow,
    EnhancedViewRow,
    ExportRow,
    IterationRow,
    ModelRow,
    PreviewRow,
    SheetRow,
    StageCommit,
    ViewRow,
)
from deployments.jobs.photo_rows import NewPhoto
from deployments.jobs.rows import Job, JobKind, JobState, Lease, NewJob, Project
from deployments.jobs.store import Records

LEASE_S = 600.0


def view(index: int) -> ViewRow:
    return ViewRow(index, f"p/views/{index:02}.png", 22.5 * index, 30.0, "relief")


def depth(index: int) -> DepthRow:
    return DepthRow(index, f"p/depth/{index:02}.npy", f"p/depth/{index:02}.png", "midas", 0.1, 2.3)


SCORES = {
    "silhouette_iou": 0.9371,
    "consistency": None,
    "floaters": 0.1 + 0.2,
    "views": [{"view": 5, "psnr": "inf", "ssim": 0.5, "lpips": None, "silhouette_iou": 1.0}],
    "extra": {"photo_psnr": 21.123456789012345},
}


def model(version: int, *, psnr: float | None = None) -> ModelRow:
    path = f"p/models/v{version}.ply"
    return ModelRow(version, path, "cpu", "generate", 1000, 56_000, psnr, scores=SCORES)


def iteration(number: int, *, version: int | None, quality: float = 0.5) -> IterationRow:
    return IterationRow(
        iteration_number=number,
        accepted=version is not None,
        model_version=version,
        enhance_engine="unsharp",
        strength=0.3,
        learning_rate=0.01,
        seconds=1.5,
        view_agreement=quality,
        psnr=28.123456789012345,
        ssim=0.91,
        lpips=None,
        note="kept" if version is not None else "rolled back",
        scores=SCORES,
        detail={
            "parameters": {"steps": 120, "rates": [0.01, 0.002]},
            "view_weights": {"0": 0.25, "15": 1.0},
            "guards": [] if version is not None else ["photo_psnr: 21 became 19."],
        },
    )


def enhanced(number: int, index: int) -> EnhancedViewRow:
    start = f"p/enhanced/{number}/{index:02}"
    if index == 0:  # without pictures and trust
        return EnhancedViewRow(number, index, f"{start}.png", "unsharp")
    return EnhancedViewRow(
        number, index, f"{start}.png", "unsharp", f"{start}.before.png", f"{start}.after.png", 0.75
    )


def export(version: int, *, format: str = "glb") -> ExportRow:
    return ExportRow(
        version,
        format,
        True,
        f"p/models/final.{format}",
        12_345,
        0.75,
        options={"format": format, "optimize": True, "face_limit": 500},
        contents={"vertices": 300, "faces": 500},
        saved={"bytes": 99},
        notes=("The surface was closed.", "It had a hole."),
    )


def preview(version: int) -> PreviewRow:
    return PreviewRow(version, f"p/models/v{version}.png", f"p/models/v{version}.mp4")


def sheet(version: int) -> SheetRow:
    return SheetRow(version, f"p/models/sheet-{version}.png")


VIEWS = StageCommit(
    "views", 2.5, views=(view(0), view(1)), detail={"engine": "relief", "cameras": [[1.0, 2.5]]}
)
DEPTH = StageCommit("depth", 1.25, depths=(depth(0), depth(1)))
SPLATS = StageCommit("splats", 4.0, models=(model(0),))
PREVIEWS = StageCommit("previews-v0", 6.0, previews=(preview(0),))
SHEET = StageCommit("contact-sheet", 1.5, sheets=(sheet(0),))


async def add_project(
    records: Records,
    project_id: str,
    *,
    original_path: str,
    processed_path: str,
    background_engine: str,
) -> Project:
    """One that is uploaded, whether there are files or not."""
    photo = NewPhoto(project_id, original_path, processed_path, background_engine)
    await records.begin_upload(project_id, [photo])
    return (await records.finish_upload(project_id)).project


async def project(records: Records, project_id: str = "project-1") -> str:
    await add_project(
        records,
        project_id,
        original_path=f"{project_id}/original.png",
        processed_path=f"{project_id}/processed.png",
        background_engine="grabcut",
    )
    return project_id


async def submit(
    records: Records,
    project_id: str,
    kind: JobKind = JobKind.GENERATE,
    *,
    key: str | None = None,
    fingerprint: str = "f",
    max_attempts: int = 3,
    client: str = "",
    shape: str = "",
    webhook_url: str | None = None,
) -> Job:
    new = NewJob(
        project_id,
        kind,
        {"preset": "draft"},
        fingerprint,
        key,
        max_attempts,
        client=client,
        shape=shape,
        webhook_url=webhook_url,
    )
    return (await records.submit_job(new)).job


async def claim(records: Records, lease_s: float = LEASE_S) -> Lease:
    lease = await records.claim_job("worker-1", lease_s)
    assert lease is not None
    return lease


async def claimed(records: Records, project_id: str, kind: JobKind = JobKind.GENERATE) -> Lease:
    """A job of the project that is running under a long lease."""
    await submit(records, project_id, kind)
    return await claim(records)


async def expire(records: Records, lease: Lease, *, stage: str = "views") -> None:
    """Renew a lease for a moment, and let the server's clock pass it."""
    beat = await records.heartbeat(
        lease.job.id, lease.fence, lease_s=0.001, stage=stage, progress=0.25
    )
    assert beat.owned
    await asyncio.sleep(0.01)


async def generated(records: Records, project_id: str = "project-1") -> str:
    """A project with two views, their depths and model 0."""
    await project(records, project_id)
    lease = await claimed(records, project_id)
    for commit in (VIEWS, DEPTH, SPLATS):
        await records.commit_stage(lease.job.id, lease.fence, commit)
    await records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED, result={})
    return project_id


async def sql(dsn: str, query: str, *arguments: Any) -> list[asyncpg.Record]:
    """Run a statement beside the store: clocks are put back, rows are counted."""
    connection = await asyncpg.connect(dsn)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(query, *arguments)
        return rows
    finally:
        await connection.close()
