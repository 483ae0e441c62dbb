"""`glimpse3d run`: the pipeline with every engine in this process, results in a folder.

It wires ports and a folder journal together and leaves a manifest; there is no service, no
database and no Ray.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from pipeline.file_types import FORMATS
from pipeline.flow.folder_journal import FolderJournal, GoingOn, StageSeconds
from pipeline.flow.generate import GenerateResult, generate
from pipeline.flow.intake import stored_cutout, whole_photos
from pipeline.flow.local import build_ports
from pipeline.flow.manifest import MANIFEST_FILE, Manifest, StepKind, environment
from pipeline.flow.photo_list import (
    Direction,
    first_elevation,
    further_photos,
)
from pipeline.flow.previews import make_previews
from pipeline.flow.refine import RefineResult, refine
from pipeline.flow.seen_pictures import SEEN_ROW, seen_pictures
from pipeline.flow.stored_photos import PlacedPhoto
from pipeline.geometry.cameras import held_out_cameras
from pipeline.imaging.contact_sheet import contact_sheet
from pipeline.journals import IterationOutcome
from pipeline.options import ExportOptions, GenerateOptions, RefineOptions
from pipeline.ports import Ports
from pipeline.requests import WholePhoto
from pipeline.types import SplatModel, UInt8Array, ViewSet
from serve_app.cli.console import (
    StageBars,
    iterations_table,
    print_notes,
    scores_table,
    stage_bars,
    summary_table,
)
from serve_app.cli.folder_photos import (
    FolderPhoto,
    check_directions,
    notes_of,
    read_photos,
    sheet_row,
)
from serve_app.settings import Environment


class FolderRun:
    """Steps over one folder, noted for its manifest.

    An earlier run's manifest goes before its files do.

    Args:
        photos: all that any step works with, the first one first.
    """

    def __init__(self, folder: Path, photos: Sequence[FolderPhoto], bars: StageBars) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST_FILE).unlink(missing_ok=True)
        # It removes the photos of an earlier run, too.
        self.journal = FolderJournal(folder, on_enter=bars.enter, on_progress=bars.show)
        for photo in photos:
            photo.write(folder)
        self._photos = photos

    async def generate(
        self,
        options: GenerateOptions,
        ports: Ports,
        placed: Sequence[PlacedPhoto] = (),
        going_on: GoingOn | None = None,
    ) -> GenerateResult:
        """A new model.

        Args:
            placed: the photos to work with, the first one first; none: the run's first alone.
            going_on: what is kept of an earlier version.
        """
        by_file = {photo.file: photo.upload for photo in self._photos}
        used = placed or (PlacedPhoto(self._photos[0].file),)
        directions = [
            Direction(photo.side, photo.azimuth_deg, photo.elevation_deg) for photo in used
        ]
        cutout, *others = [
            stored_cutout(by_file[photo.file].processed_png, by_file[photo.file].engine)
            for photo in used
        ]
        engines = {"background": by_file[used[0].file].engine}
        whole: tuple[WholePhoto, ...] = ()
        if options.by_generator:
            engines["splats"] = await ports.splats.engine_name()
            stored = [by_file[photo.file].processed_png for photo in used]
            whole = whole_photos(directions, stored)
        self.journal.begin(StepKind.GENERATE, options.to_json(), engines, placed, going_on)
        elevation_deg = first_elevation(directions, options.elevation_deg)
        return await generate(
            cutout,
            replace(options, elevation_deg=elevation_deg),
            ports,
            self.journal,
            photos=further_photos(directions, others),
            whole=whole,
        )

    async def refine(
        self, options: RefineOptions, ports: Ports, going_on: GoingOn | None = None
    ) -> RefineResult:
        """The newest model, refined, or that of another version."""
        engines = {"splats": await ports.splats.engine_name()}
        self.journal.begin(StepKind.REFINE, options.to_json(), engines, going_on=going_on)
        return await refine(options, ports, self.journal)

    async def manifest(
        self, project_id: str, model_dir: Path | None, devices: Mapping[str, str]
    ) -> Manifest:
        """What has been done so far, on these devices (`LocalPorts.devices`)."""
        first, *further = [photo.record for photo in self._photos]
        created_at = datetime.now(UTC).isoformat(timespec="seconds")
        where = await asyncio.to_thread(environment, model_dir)
        where |= {"devices": dict(devices)}
        steps = tuple(self.journal.steps)
        return Manifest(project_id, created_at, first, where, steps, tuple(further))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """As JSON for people: indented."""
    text = json.dumps(manifest.to_json(), indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")


async def run_in_process(
    photo: Path,
    out: Path,
    console: Console,
    options: GenerateOptions,
    iterations: int,
    further: Sequence[tuple[Path, Direction]] = (),
    mask: Path | None = None,
) -> None:
    """Photo to refined splats under `out`.

    Args:
        mask: says what of `photo` is the object.
        further: photos of the same object, and whence each was taken.

    Raises:
        GlimpseError: what is wrong with a photo, an option or this machine.
    """
    # Checked before anything is loaded or written.
    paths = [photo, *(path for path, _ in further)]
    directions = [Direction(), *(direction for _, direction in further)]
    check_directions(directions)
    refine_options = RefineOptions(options.seed, iterations) if iterations else None
    choice = Environment().engine_choice()
    options = choice.settled(options)
    for asked in (options, refine_options):
        if asked is not None:
            choice.check(asked)
    local = await asyncio.to_thread(build_ports, choice)
    ports = local.complete()
    with stage_bars(console) as bars:
        bars.enter("background")
        started = time.perf_counter()
        photos, placed = await read_photos(paths, directions, ports.background, mask)
        background_s = time.perf_counter() - started
        run = FolderRun(out, photos, bars)
        result = await run.generate(options, ports, placed if further else ())
        model = result.model
        outcomes: tuple[IterationOutcome, ...] = ()
        if refine_options is not None:
            refined = await run.refine(refine_options, ports)
            model, outcomes = refined.model, refined.outcomes
        name = out.resolve().name
        manifest = await run.manifest(name, choice.model_dir, local.devices())
        write_manifest(out, manifest)
        bars.enter("export")
        started = time.perf_counter()
        exported = await _export(model, ports, out, bars)
        notes = dict.fromkeys([*notes_of(photos), *result.notes, *exported])
        export_s = time.perf_counter() - started
        bars.enter("previews")
        started = time.perf_counter()
        previews = await make_previews(model, ports.splats, bars.show)
        previews_s = time.perf_counter() - started
        (out / "thumbnail.png").write_bytes(previews.thumbnail)
        (out / "turntable.mp4").write_bytes(previews.turntable)
        sheet = await _contact_sheet(photos, result.views, model, ports)
        (out / "contact_sheet.png").write_bytes(sheet)
        bars.finish()
    stages = [
        StageSeconds("background", background_s, photos[0].upload.engine),
        *run.journal.seconds,
        StageSeconds("export", export_s, f"{len(FORMATS)} formats"),
        StageSeconds("previews", previews_s, "thumbnail, turntable"),
    ]
    rows = [(s.stage, f"{s.seconds:.1f}", s.engine) for s in stages]
    console.print(summary_table("Stages", ("stage", "seconds:", "engine"), rows))
    _print_scores(console, result, outcomes)
    print_notes(console, notes)
    console.print(f"{len(model)} splats, seed {options.seed}. Files under {escape(str(out))}.")


def _print_scores(
    console: Console, result: GenerateResult, outcomes: Sequence[IterationOutcome]
) -> None:
    if result.ranking:
        title = f"Best of {len(result.ranking)}, by the photo that their trials did not see"
        kept = (
            (c.seed, c.photo_psnr, c.ssim, c.view_agreement, "kept" if c.chosen else escape(c.note))
            for c in result.ranking
        )
        console.print(scores_table(title, "seed:", kept))
    if outcomes:
        scores = [(o.iteration, o.accepted, o.scores) for o in outcomes]
        console.print(
            iterations_table((i, s.psnr, s.ssim, s.view_agreement, kept) for i, kept, s in scores)
        )


async def _contact_sheet(
    photos: Sequence[FolderPhoto], views: ViewSet, model: SplatModel, ports: Ports
) -> bytes:
    """Photos, cut-outs, views, and the model, also with a tint where no photo saw it."""
    cameras = held_out_cameras()
    renders = await ports.splats.render(model, cameras)
    rows: list[tuple[str, list[UInt8Array]]] = [
        sheet_row(photos),
        ("16 views", list(views.images)),
        ("final model", list(renders.images)),
    ]
    if views.photos is not None:
        seen = await seen_pictures(model, cameras, views.photos.cameras, ports.splats)
        rows.append((SEEN_ROW, seen))
    return contact_sheet(rows)


async def _export(model: SplatModel, ports: Ports, out: Path, bars: StageBars) -> list[str]:
    """Every format; the notes of all."""
    notes: list[str] = []
    for i, found in enumerate(FORMATS.values()):
        bars.update(i / len(FORMATS), found.name)
        exported = await ports.exporter.export_model(model, ExportOptions(found.name))
        (out / "models" / f"final.{found.suffix}").write_bytes(exported.data)
        notes += exported.notes
    return notes
