"""The last stage of generate and refine: pictures of the models, and one of the whole project.

It asks for what is missing, whoever left it out: versions without previews, and a contact sheet
when there is none of the current version. It knows rows and blobs, not how pictures are drawn.
"""

from __future__ import annotations

import asyncio
import logging
import time

from deployments.jobs.attempt import Attempt
from deployments.jobs.commits import ModelRow, PreviewRow, SheetRow, StageCommit
from deployments.jobs.lineage import generation_of
from deployments.jobs.rows import Bucket, JobKind, ProjectDetail
from pipeline.errors import InvalidInput, ModelFailed
from pipeline.flow.artifacts import PHOTO_FILES, decode_photo_cameras
from pipeline.flow.generate import STAGE_SPANS
from pipeline.flow.previews import make_previews
from pipeline.flow.seen_pictures import SEEN_ROW, seen_pictures
from pipeline.geometry.cameras import held_out_cameras
from pipeline.imaging.contact_sheet import contact_sheet
from pipeline.imaging.decoding import decode_png
from pipeline.ports import Ports
from pipeline.requests import Renders
from pipeline.types import Cameras, UInt8Array

log = logging.getLogger("ray.serve")

#: Frames of a turntable, and pixels along each side of it and of a thumbnail.
PictureSize = tuple[int, int]

#: Where the pipeline's own stages end in the progress of the whole job.
PIPELINE_END = {JobKind.GENERATE: STAGE_SPANS["splats"][1], JobKind.REFINE: 0.85}

#: Stages of this module, and where each begins and ends.
PREVIEW_SPANS = {
    kind: {"previews": (end, 0.98), "contact-sheet": (0.98, 1.0)}
    for kind, end in PIPELINE_END.items()
}


async def show_models(attempt: Attempt, ports: Ports, pictures: PictureSize | None = None) -> None:
    """Thumbnail and turntable of every version that has none, then the contact sheet.

    Every version is a commit of its own: an attempt that follows goes on with the next one. An
    older version that cannot be drawn is logged and stays without, or no job of the project would
    ever succeed again.

    Args:
        pictures: None: the pipeline's own.

    Raises:
        ModelFailed: the newest version cannot be drawn, or an engine or ffmpeg failed. The models
            are kept.
        Unavailable: a file or row cannot be stored, or there is no ffmpeg.
        StaleAttempt: the job belongs to a newer attempt.
    """
    wanted = {} if pictures is None else dict(zip(("frames", "size"), pictures, strict=True))
    spans, paths = PREVIEW_SPANS[attempt.job.kind], attempt.files.paths
    detail = await attempt.read_detail()
    newest = detail.newest_model
    shown = {row.version for row in detail.previews}
    missing = [row for row in detail.models if row.version not in shown]
    start, end = spans["previews"]
    for i, row in enumerate(missing):
        share = (end - start) / len(missing)
        await attempt.progress.enter("previews", start + i * share, start + (i + 1) * share)
        started = time.perf_counter()
        try:
            model = await attempt.get_model(row.model_path)
            previews = await make_previews(model, ports.splats, attempt.progress.report, **wanted)
        except InvalidInput as error:
            sentence = f"Version {row.version} cannot be drawn: {error}"
            if row == newest:
                # Not an error of the client, as its class says: the model is ours.
                raise ModelFailed.openly(sentence) from error
            log.warning("project %s: %s", detail.project.id, sentence)
        else:
            stem = f"v{row.version}"
            thumbnail, turntable = paths.picture(f"{stem}.png"), paths.picture(f"{stem}.mp4")
            await attempt.files.put_all(
                Bucket.MODELS, {thumbnail: previews.thumbnail, turntable: previews.turntable}
            )
            seconds = time.perf_counter() - started
            shots = PreviewRow(row.version, thumbnail, turntable)
            await attempt.commit(StageCommit(f"previews-{stem}", seconds, previews=(shots,)))

    sheet, current = detail.contact_sheet, detail.current_model
    if current is not None and (sheet is None or sheet.model_version != current.version):
        await attempt.progress.enter("contact-sheet", *spans["contact-sheet"])
        await _draw_sheet(await attempt.read_detail(), current, attempt, ports)


async def _draw_sheet(
    detail: ProjectDetail, shown: ModelRow, attempt: Attempt, ports: Ports
) -> None:
    started = time.perf_counter()
    # Those that the views beside them were made of.
    given = detail.generated_photos or detail.photos
    wanted = {
        "photo": (Bucket.UPLOADS, [photo.original_path for photo in given]),
        "cut-out": (Bucket.PROCESSED, [photo.processed_path for photo in given]),
        "views": (Bucket.VIEWS, [row.image_path for row in detail.views]),
        "depth": (Bucket.DEPTH, [row.heat_map_path for row in detail.depths[::2]]),
        "versions": (Bucket.MODELS, [row.thumbnail_path for row in detail.previews]),
    }
    files = {
        kind: list((await attempt.files.get_all(bucket, {path: path for path in paths})).values())
        for kind, (bucket, paths) in wanted.items()
    }
    model = await attempt.get_model(shown.model_path)
    cameras = held_out_cameras()
    renders = await ports.splats.render(model, cameras)
    photos = await _photo_cameras(shown, attempt)
    seen = [] if photos is None else await seen_pictures(model, cameras, photos, ports.splats)
    title = f"version {shown.version}: {len(model):,} splats, from cameras that were never fitted"
    versions = "versions " + ", ".join(str(row.version) for row in detail.previews)
    data = await asyncio.to_thread(_sheet, files, title, renders, seen, versions)
    path = attempt.files.paths.picture("contact_sheet.png")
    await attempt.files.put_all(Bucket.MODELS, {path: data})
    seconds = time.perf_counter() - started
    row = SheetRow(shown.version, path)
    await attempt.commit(StageCommit("contact-sheet", seconds, sheets=(row,)))


async def _photo_cameras(shown: ModelRow, attempt: Attempt) -> Cameras | None:
    """Where the photos of a version were taken from; None where nobody looked for that."""
    generation = generation_of(await attempt.read_jobs(), shown.version)
    paths = generation.files("views", "photos")
    for name in PHOTO_FILES:
        if name in paths:
            data = await attempt.files.get(Bucket.VIEWS, paths[name])
            return await asyncio.to_thread(decode_photo_cameras, data, name)
    return None


def _sheet(
    files: dict[str, list[bytes]],
    title: str,
    renders: Renders,
    seen: list[UInt8Array],
    versions: str,
) -> bytes:
    def pictures(kind: str) -> list[UInt8Array]:
        return [decode_png(data) for data in files[kind]]

    shown = "photo and cut-out" if len(files["photo"]) == 1 else "photos and cut-outs"
    rows: list[tuple[str, list[UInt8Array]]] = [
        (shown, [p[..., :3] for p in pictures("photo")] + pictures("cut-out")),
        (f"{len(files['views'])} views", pictures("views")),
        ("depth", pictures("depth")),
        (title, list(renders.images)),
        (SEEN_ROW, seen),
        (versions, pictures("versions")),
    ]
    return contact_sheet([(label, images) for label, images in rows if images])
