"""`glimpse3d run`: the pipeline with every engine in this process, results in a folder.

It wires ports and a folder journal together; there is no service, no database and no Ray.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from rich.console import Console

from pipeline.cameras import held_out_cameras
from pipeline.contact_sheet import contact_sheet
from pipeline.control import Progress
from pipeline.engines import EngineChoice
from pipeline.folder import FolderJournal, StageSeconds
from pipeline.formats import FORMATS
from pipeline.generate import generate
from pipeline.images import decode_png, frame_object
from pipeline.intake import prepare_upload
from pipeline.local import build_ports
from pipeline.options import ExportOptions, GenerateOptions, RefineOptions
from pipeline.ports import IterationOutcome
from pipeline.previews import make_previews
from pipeline.refine import refine
from serve_app.console import stage_bars, summary_table
from serve_app.settings import Environment

__all__ = ["run_in_process"]


async def run_in_process(
    photo: Path,
    out: Path,
    console: Console,
    *,
    preset: str,
    elevation_deg: float,
    iterations: int,
    seed: int,
) -> None:
    """Photo to refined splats under `out`.

    Raises:
        GlimpseError: what is wrong with the photo, an option or this machine.
    """
    options = GenerateOptions(seed=seed, preset=preset, elevation_deg=elevation_deg)
    # Both are checked before anything is loaded or written.
    refine_options = RefineOptions(seed=seed, num_iterations=iterations) if iterations else None
    local = await asyncio.to_thread(build_ports, EngineChoice(model_dir=Environment().model_dir))
    ports = local.complete()
    with stage_bars(console) as bars:
        bars.enter("background")
        started = time.perf_counter()
        upload = await prepare_upload(photo.read_bytes(), ports.background, remove_background=True)
        background_s = time.perf_counter() - started
        out.mkdir(parents=True, exist_ok=True)
        (out / "original.png").write_bytes(upload.original_png)
        (out / "processed.png").write_bytes(upload.processed_png)
        rgba = decode_png(upload.processed_png)
        cutout = frame_object(rgba[..., :3], rgba[..., 3], size=512, engine=upload.engine)

        def show(progress: Progress) -> None:
            numbers = " ".join(f"{k} {v:.4g}" for k, v in progress.numbers.items())
            bars.update(progress.fraction, numbers or progress.message)

        journal = FolderJournal(out, on_enter=bars.enter, on_progress=show)
        result = await generate(cutout, options, ports, journal)
        model = result.model
        outcomes: tuple[IterationOutcome, ...] = ()
        if refine_options is not None:
            refined = await refine(refine_options, ports, journal)
            model, outcomes = refined.model, refined.outcomes
        bars.enter("export")
        started = time.perf_counter()
        notes = list(result.views.notes)
        for i, found in enumerate(FORMATS.values()):
            bars.update(i / len(FORMATS), found.name)
            exported = await ports.exporter.export_model(model, ExportOptions(found.name))
            (out / "models" / f"final.{found.suffix}").write_bytes(exported.data)
            notes += [note for note in exported.notes if note not in notes]
        export_s = time.perf_counter() - started
        bars.enter("previews")
        started = time.perf_counter()
        previews = await make_previews(model, ports.splats, show)
        previews_s = time.perf_counter() - started
        (out / "thumbnail.png").write_bytes(previews.thumbnail)
        (out / "turntable.mp4").write_bytes(previews.turntable)
        renders = await ports.splats.render(model, held_out_cameras())
        sheet = contact_sheet(
            [
                ("photo and cut-out", [decode_png(upload.original_png)[..., :3], rgba]),
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
    console.print(
        summary_table(
            "Stages",
            ("stage", "seconds:", "engine"),
            [(s.stage, f"{s.seconds:.1f}", s.engine) for s in stages],
        )
    )
    if outcomes:
        console.print(
            summary_table(
                "Scores on held-out views",
                ("iteration", "PSNR dB:", "SSIM:", "quality:", ""),
                [
                    (
                        str(o.iteration),
                        f"{o.scores.psnr:.2f}",
                        f"{o.scores.ssim:.4f}",
                        f"{o.scores.overall_quality:.4f}",
                        "accepted" if o.accepted else "rolled back",
                    )
                    for o in outcomes
                ],
            )
        )
    for note in notes:
        console.print(f"[yellow]Note:[/] {note}")
    console.print(f"{len(model)} splats, seed {seed}. Files under {out}.")
