"""What a job of each kind does: generate, refine, export, over any ports and within an attempt.

It knows options, journals and result documents; not leases, and not which models run where.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from deployments.jobs.attempt import Attempt
from deployments.jobs.commits import ExportRow, StageCommit
from deployments.jobs.documents import generate_document, refine_document
from deployments.jobs.generate_journal import StoreGenerateJournal
from deployments.jobs.model_pictures import PIPELINE_END, PictureSize, show_models
from deployments.jobs.photo_rows import PhotoRow
from deployments.jobs.refine_journal import StoreRefineJournal
from deployments.jobs.rows import Bucket, Job, JobKind
from pipeline.errors import NotGeneratedYet, OutOfMemory
from pipeline.file_types import find_format
from pipeline.flow.generate import generate
from pipeline.flow.intake import stored_cutout
from pipeline.flow.photo_list import first_elevation, further_photos
from pipeline.flow.refine import refine
from pipeline.options import SPLAT_LIMITS, ExportOptions, GenerateOptions, RefineOptions
from pipeline.ports import Ports
from pipeline.types import Cutout

#: The work of one kind of job; the document that the job's row keeps as its result.
Step = Callable[[Attempt, Ports, PictureSize | None], Awaitable[dict[str, Any]]]


def ran_out_of_memory(job: Job) -> bool:
    """Whether that ended the attempt before this one."""
    return job.last_error is not None and job.last_error.code == OutOfMemory.code


async def _generate(attempt: Attempt, ports: Ports, pictures: PictureSize | None) -> dict[str, Any]:
    options = GenerateOptions.from_json(attempt.job.options)
    notes: list[str] = []
    if ran_out_of_memory(attempt.job):
        # Half as many splats: what the memory of a fit grows with.
        splats = max(options.splat_count // 2, SPLAT_LIMITS[0])
        options = replace(options, num_gaussians=splats)
        notes.append(
            f"The machine ran out of memory: the model has at most {options.splat_count:,} splats."
        )
    # As they were when the job was submitted, in every attempt.
    given = attempt.job.photos
    cutout, *others = await _cutouts(attempt, given)
    directions = [photo.direction for photo in given]
    options = replace(options, elevation_deg=first_elevation(directions, options.elevation_deg))
    journal = StoreGenerateJournal(attempt)
    try:
        photos = further_photos(directions, others)
        result = await generate(cutout, options, ports, journal, photos=photos)
    finally:
        # Also of a generation that failed or was stopped: what it has made is not made again.
        await journal.flush()
    await show_models(attempt, ports, pictures)
    newest = await attempt.read_newest_model()
    return generate_document(
        result, newest, background=cutout.engine, seed=options.seed, notes=notes
    )


async def _cutouts(attempt: Attempt, photos: Sequence[PhotoRow]) -> list[Cutout]:
    paths = {photo.id: photo.processed_path for photo in photos}
    files = await attempt.files.get_all(Bucket.PROCESSED, paths)
    return [
        await asyncio.to_thread(stored_cutout, files[photo.id], photo.background_engine)
        for photo in photos
    ]


async def _refine(attempt: Attempt, ports: Ports, pictures: PictureSize | None) -> dict[str, Any]:
    options = RefineOptions.from_json(attempt.job.options)
    if not attempt.detail.models:
        raise NotGeneratedYet("The project has no model to refine yet.")
    with attempt.progress.within(0.0, PIPELINE_END[JobKind.REFINE]):
        result = await refine(options, ports, StoreRefineJournal(attempt))
    await show_models(attempt, ports, pictures)
    newest = await attempt.read_newest_model()
    engine = await ports.splats.engine_name()
    return refine_document(result, newest, splat_engine=engine, seed=options.seed)


async def _export(attempt: Attempt, ports: Ports, _pictures: PictureSize | None) -> dict[str, Any]:
    options = ExportOptions.from_json(attempt.job.options).canonical()
    model = attempt.detail.newest_model
    if model is None:
        raise NotGeneratedYet("The project has no model to export yet.")
    await attempt.progress.enter("export", 0.0, 1.0)
    started = time.perf_counter()
    splats = await attempt.get_model(model.model_path)
    file = await ports.exporter.export_model(splats, options, attempt.progress.report)
    path = attempt.files.paths.export(find_format(options.format).suffix)
    await attempt.files.put_all(Bucket.MODELS, {path: file.data})
    seconds = time.perf_counter() - started
    row = ExportRow(
        model_version=model.version,
        format=options.format,
        optimize=options.optimize,
        file_path=path,
        file_size_bytes=len(file.data),
        seconds=seconds,
        options=options.to_json(),
        contents=file.contents,
        saved=file.saved,
        notes=file.notes,
    )
    await attempt.commit(StageCommit("export", seconds, exports=(row,)))
    return asdict(row)


#: By the kind of the job.
STEPS: dict[JobKind, Step] = {
    JobKind.GENERATE: _generate,
    JobKind.REFINE: _refine,
    JobKind.EXPORT: _export,
}
