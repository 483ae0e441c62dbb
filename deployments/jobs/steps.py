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
from deployments.jobs.edit_rows import ViewEditRow
from deployments.jobs.generate_journal import StoreGenerateJournal
from deployments.jobs.kept_stages import KeptStages
from deployments.jobs.lineage import Generation, generation_of
from deployments.jobs.model_pictures import PIPELINE_END, PictureSize, show_models
from deployments.jobs.photo_rows import PhotoRow
from deployments.jobs.refine_journal import StoreRefineJournal
from deployments.jobs.rows import Bucket, Job, JobKind
from pipeline.errors import NotGeneratedYet, OutOfMemory
from pipeline.file_types import find_format
from pipeline.flow.generate import generate
from pipeline.flow.intake import stored_cutout, whole_photos
from pipeline.flow.photo_list import first_elevation, further_photos
from pipeline.flow.refine import refine
from pipeline.flow.view_edits import EditKind
from pipeline.options import (
    FEWEST_GENERATED,
    SPLAT_LIMITS,
    ExportOptions,
    GenerateOptions,
    RefineOptions,
)
from pipeline.ports import Ports
from pipeline.requests import WholePhoto
from pipeline.types import Cutout

#: The work of one kind of job; the document that the job's row keeps as its result.
Step = Callable[[Attempt, Ports, PictureSize | None], Awaitable[dict[str, Any]]]


def ran_out_of_memory(job: Job) -> bool:
    """Whether that ended the attempt before this one."""
    return job.last_error is not None and job.last_error.code == OutOfMemory.code


async def _generate(attempt: Attempt, ports: Ports, pictures: PictureSize | None) -> dict[str, Any]:
    options = GenerateOptions.from_json(attempt.job.options)
    notes: list[str] = []
    # Neither is made again where it is there: memory was short behind it.
    is_made = not attempt.committed.keys().isdisjoint(("generator", "splats"))
    if ran_out_of_memory(attempt.job) and not is_made:
        # Half as many splats: what the memory of a fit grows with.
        fewest = FEWEST_GENERATED if options.by_generator else SPLAT_LIMITS[0]
        splats = max(options.splat_count // 2, fewest)
        options = replace(options, num_gaussians=splats)
        notes.append(
            f"The machine ran out of memory: the model has at most {options.splat_count:,} splats."
        )
    base, kept = await _going_on(attempt, options)
    if kept is not None:
        notes += _notes_on_edits(attempt, kept)
    # As they were when the job was submitted, or those of the version that it goes on from.
    given = attempt.job.photos
    cutouts, stored = await _cutouts(attempt, given)
    cutout, *others = cutouts
    directions = [photo.direction for photo in given]
    options = replace(options, elevation_deg=first_elevation(directions, options.elevation_deg))
    journal = StoreGenerateJournal(attempt, base=base, kept=kept)
    try:
        photos = further_photos(directions, others)
        whole: tuple[WholePhoto, ...] = ()
        if options.by_generator:
            whole = await asyncio.to_thread(whole_photos, directions, stored)
        result = await generate(cutout, options, ports, journal, photos=photos, whole=whole)
    finally:
        # Also of a generation that failed or was stopped: what it has made is not made again.
        await journal.flush()
    await show_models(attempt, ports, pictures)
    newest = await attempt.read_newest_model()
    return generate_document(
        result,
        newest,
        background=cutout.engine,
        seed=options.seed,
        notes=notes,
        drawn_by=await ports.splats.engine_name() if options.by_generator else None,
    )


async def _cutouts(
    attempt: Attempt, photos: Sequence[PhotoRow]
) -> tuple[list[Cutout], list[bytes]]:
    """Of each photo, and the files that they were stored as."""
    paths = {photo.id: photo.processed_path for photo in photos}
    files = await attempt.files.get_all(Bucket.PROCESSED, paths)
    stored = [files[photo.id] for photo in photos]
    return [
        await asyncio.to_thread(stored_cutout, file, photo.background_engine)
        for file, photo in zip(stored, photos, strict=True)
    ], stored


async def _going_on(
    attempt: Attempt, options: GenerateOptions
) -> tuple[Generation | None, KeptStages | None]:
    """The generation that one goes on from, and what is kept of it."""
    if options.version is None:
        return None, None
    jobs = await attempt.read_jobs()
    base = generation_of(jobs, options.version)
    # Depth is what an edited view must have anew.
    edits = _waiting(attempt, base) if options.from_stage == "depth" else ()
    stages = options.kept_of(GenerateOptions.from_json(base.job.options))
    return base, KeptStages(base, stages, edits, jobs)


def _waiting(attempt: Attempt, base: Generation) -> tuple[ViewEditRow, ...]:
    """Edits of the views of a generation that no other job has done."""
    return tuple(
        edit
        for edit in attempt.detail.edits
        if edit.version == base.version and edit.applied_by in (None, attempt.job.id)
    )


def _notes_on_edits(attempt: Attempt, kept: KeptStages) -> list[str]:
    words = {EditKind.REPLACE: "replaced", EditKind.STRIKE: "struck out"}
    done = [f"View {edit.view_index} is {words.get(edit.kind, 'restored')}." for edit in kept.edits]
    waiting = len(_waiting(attempt, kept.base)) - len(kept.edits)
    if waiting and "views" in kept.stages:
        done.append(
            f"Edits of views that wait, and were not used: {waiting}. A generation from depth uses "
            "them."
        )
    return done


async def _refine(attempt: Attempt, ports: Ports, pictures: PictureSize | None) -> dict[str, Any]:
    options = RefineOptions.from_json(attempt.job.options)
    journal = StoreRefineJournal(attempt)
    with attempt.progress.within(0.0, PIPELINE_END[JobKind.REFINE]):
        result = await refine(options, ports, journal)
    await show_models(attempt, ports, pictures)
    engine = await ports.splats.engine_name()
    return refine_document(result, journal.best_row, splat_engine=engine, seed=options.seed)


async def _export(attempt: Attempt, ports: Ports, _pictures: PictureSize | None) -> dict[str, Any]:
    options = ExportOptions.from_json(attempt.job.options).canonical()
    model = attempt.detail.model(options.version)
    if model is None:
        raise NotGeneratedYet("The project has no such model to export.")
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
        options=options.of_the_file(),
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
