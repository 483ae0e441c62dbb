"""`glimpse3d run`: the pipeline with every engine in this process, results in a folder.

It wires ports and a folder journal together and leaves a manifest; there is no service, no
database and no Ray.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from pipeline.control import Progress, Report
from pipeline.file_types import FORMATS
from pipeline.flow.folder_journal import FolderJournal, StageSeconds
from pipeline.flow.generate import GenerateResult, generate
from pipeline.flow.intake import Upload, prepare_upload, stored_cutout
from pipeline.flow.local import build_ports
from pipeline.flow.manifest import (
    MANIFEST_FILE,
    ORIGINAL_FILE,
    PROCESSED_FILE,
    Manifest,
    PhotoRecord,
    StepKind,
    content_hash,
    environment,
)
from pipeline.flow.previews import make_previews
from pipeline.flow.refine import RefineResult, refine
from pipeline.geometry.cameras import held_out_cameras
from pipeline.imaging.contact_sheet import contact_sheet
from pipeline.imaging.decoding import decode_png
from pipeline.journals import Candidate, IterationOutcome
from pipeline.options import ExportOptions, GenerateOptions, RefineOptions
from pipeline.ports import Ports
from pipeline.types import SplatModel
from serve_app.cli.console import StageBars, scores_table, stage_bars, summary_table
from serve_app.settings import Environment


@dataclass(frozen=True)
class StepRunner:
    """Runs steps over a folder and notes them for the manifest."""

    upload: Upload
    ports: Ports
    journal: FolderJournal

    async def generate(self, options: GenerateOptions) -> GenerateResult:
        """A new model."""
        cutout = stored_cutout(self.upload.processed_png, self.upload.engine)
        engines = {"background": self.upload.engine}
        self.journal.begin(StepKind.GENERATE, options.to_json(), engines)
        return await generate(cutout, options, self.ports, self.journal)

    async def refine(self, options: RefineOptions) -> RefineResult:
        """The newest model, refined."""
        engines = {"splats": await self.ports.splats.engine_name()}
        self.journal.begin(StepKind.REFINE, options.to_json(), engines)
        return await refine(options, self.ports, self.journal)


def shown_on(bars: StageBars) -> Report:
    """Progress on the newest bar, numbers rather than words."""

    def show(progress: Progress) -> None:
        numbers = " ".join(f"{k} {v:.4g}" for k, v in progress.numbers.items())
        bars.update(progress.fraction, numbers or progress.message)

    return show


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """As JSON for people: indented."""
    text = json.dumps(manifest.to_json(), indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")


async def manifest_of(
    journal: FolderJournal,
    upload: Upload,
    *,
    project_id: str,
    remove_background: bool,
    model_dir: Path | None,
) -> Manifest:
    """What has been done in a folder so far."""
    return Manifest(
        project_id=project_id,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        photo=PhotoRecord(
            file=ORIGINAL_FILE,
            sha256=content_hash(upload.original_png),
            processed_sha256=content_hash(upload.processed_png),
            remove_background=remove_background,
        ),
        environment=await asyncio.to_thread(environment, model_dir),
        steps=tuple(journal.steps),
    )


def begin_folder(folder: Path, upload: Upload) -> None:
    """The photo and its cut-out; an earlier run's manifest goes before its files do."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    (folder / ORIGINAL_FILE).write_bytes(upload.original_png)
    (folder / PROCESSED_FILE).write_bytes(upload.processed_png)


async def run_in_process(
    photo: Path,
    out: Path,
    console: Console,
    *,
    preset: str,
    elevation_deg: float,
    iterations: int,
    seed: int,
    candidates: int = 1,
) -> None:
    """Photo to refined splats under `out`.

    Raises:
        GlimpseError: what is wrong with the photo, an option or this machine.
    """
    options = GenerateOptions(
        seed=seed, preset=preset, elevation_deg=elevation_deg, candidates=candidates
    )
    # Both are checked before anything is loaded or written.
    refine_options = RefineOptions(seed=seed, num_iterations=iterations) if iterations else None
    choice = Environment().engine_choice()
    local = await asyncio.to_thread(build_ports, choice)
    ports = local.complete()
    with stage_bars(console) as bars:
        show = shown_on(bars)
        bars.enter("background")
        started = time.perf_counter()
        upload = await prepare_upload(photo.read_bytes(), ports.background, remove_background=True)
        background_s = time.perf_counter() - started
        begin_folder(out, upload)
        journal = FolderJournal(out, on_enter=bars.enter, on_progress=show)
        steps = StepRunner(upload, ports, journal)
        result = await steps.generate(options)
        model = result.model
        outcomes: tuple[IterationOutcome, ...] = ()
        if refine_options is not None:
            refined = await steps.refine(refine_options)
            model, outcomes = refined.model, refined.outcomes
        manifest = await manifest_of(
            journal,
            upload,
            project_id=out.resolve().name,
            remove_background=True,
            model_dir=choice.model_dir,
        )
        write_manifest(out, manifest)
        bars.enter("export")
        started = time.perf_counter()
        notes = dict.fromkeys([*result.views.notes, *await _export(model, ports, out, bars)])
        export_s = time.perf_counter() - started
        bars.enter("previews")
        started = time.perf_counter()
        previews = await make_previews(model, ports.splats, show)
        previews_s = time.perf_counter() - started
        (out / "thumbnail.png").write_bytes(previews.thumbnail)
        (out / "turntable.mp4").write_bytes(previews.turntable)
        renders = await ports.splats.render(model, held_out_cameras())
        pictures = [decode_png(upload.original_png)[..., :3], decode_png(upload.processed_png)]
        sheet = contact_sheet(
            [
                ("photo and cut-out", pictures),
                ("16 views", list(result.views.images)),
                ("final model", list(renders.images)),
            ]
        )
        (out / "contact_sheet.png").write_bytes(sheet)
        bars.finish()
    stages = [
        StageSeconds("background", background_s, upload.engine),
        *journal.seconds,
        StageSeconds("export", export_s, f"{len(FORMATS)} formats"),
        StageSeconds("previews", previews_s, "thumbnail, turntable"),
    ]
    rows = [(s.stage, f"{s.seconds:.1f}", s.engine) for s in stages]
    console.print(summary_table("Stages", ("stage", "seconds:", "engine"), rows))
    if result.ranking:
        _print_ranking(console, result.ranking)
    if outcomes:
        scores = [(o.iteration, o.accepted, o.scores) for o in outcomes]
        console.print(
            scores_table((i, s.psnr, s.ssim, s.overall_quality, kept) for i, kept, s in scores)
        )
    for note in notes:
        console.print(f"[yellow]Note:[/] {escape(note)}")
    console.print(f"{len(model)} splats, seed {seed}. Files under {escape(str(out))}.")


async def _export(model: SplatModel, ports: Ports, out: Path, bars: StageBars) -> list[str]:
    """Every format; the notes of all."""
    notes: list[str] = []
    for i, found in enumerate(FORMATS.values()):
        bars.update(i / len(FORMATS), found.name)
        exported = await ports.exporter.export_model(model, ExportOptions(found.name))
        (out / "models" / f"final.{found.suffix}").write_bytes(exported.data)
        notes += exported.notes
    return notes


def _print_ranking(console: Console, ranking: Sequence[Candidate]) -> None:
    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    console.print(
        summary_table(
            f"Best of {len(ranking)} on held-out views",
            ("seed:", "PSNR dB:", "SSIM:", "quality:", ""),
            [
                (
                    str(c.seed),
                    number(c.psnr, 2),
                    number(c.ssim, 4),
                    number(c.overall_quality, 4),
                    "kept" if c.chosen else escape(c.note),
                )
                for c in ranking
            ],
        )
    )
