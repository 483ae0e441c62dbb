"""The demo: the whole product over HTTP, on this machine, in one command.

It uses the service as any client would and knows nothing of what is behind its URLs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from rich.console import Console

from pipeline.cameras import held_out_cameras
from pipeline.contact_sheet import contact_sheet
from pipeline.formats import FORMATS, read_ply
from pipeline.generate import STAGE_SPANS
from pipeline.images import decode_png
from pipeline.refine import ITERATION_SPANS
from pipeline.splats.render import render_model
from pipeline.types import UInt8Array
from serve_app.client import Client
from serve_app.console import StageBars, stage_bars, summary_table
from serve_app.server import running_service
from serve_app.settings import AppArgs

__all__ = ["default_photo", "run_demo"]

Json = Mapping[str, Any]


def default_photo() -> Path:
    """A real photo that an installed package carries: scikit-image's cup of coffee."""
    import skimage.data

    return Path(skimage.data.__file__).parent / "coffee.png"


@dataclass
class _Run:
    """Jobs of one client, shown as bars."""

    client: Client
    bars: StageBars

    def job(self, kind: str, project_id: str, body: Json) -> Json:
        def watch(job: Json) -> None:
            if job["stage"] in ("", "start"):
                return
            self.bars.enter(job["stage"])
            eta = "" if job["eta_s"] is None else f"{job['eta_s']:.0f} s left"
            self.bars.update(_stage_fraction(job, body), eta)

        job = self.client.run_job(kind, project_id, body, watch)
        self.bars.finish("")
        return job


def run_demo(photo: Path, out: Path, console: Console, *, seed: int, iterations: int) -> None:
    """Upload, generate, refine, export, download, and draw the contact sheet.

    Raises:
        GlimpseError: whatever went wrong, in one sentence. Nothing is left running.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="glimpse3d-demo-") as assets:
        console.print("Starting the service on this machine ...")
        with running_service(AppArgs(asset_dir=Path(assets))) as service:
            console.print(f"Ready at {service.url} after {service.started_in_s:.1f} s.")
            client = Client.of(service.url)
            with stage_bars(console) as bars:
                run = _Run(client, bars)
                bars.enter("upload")
                started = time.perf_counter()
                project = client.upload(photo)
                upload_s = time.perf_counter() - started
                project_id = project["project_id"]
                bars.finish(project["background_engine"])
                generated = run.job("generate", project_id, {"seed": seed})
                run.job("refine", project_id, {"seed": seed, "num_iterations": iterations})
                bars.enter("export")
                exports = [client.export(project_id, name) for name in FORMATS]
                bars.finish()
                bars.enter("download")
                status = client.status(project_id)
                files = _download(client, status, exports, out)
                bars.finish()
    sheet = _contact_sheet(files, out)
    _print_tables(
        console, status, generated, upload_s, [*files["models"], *files["exports"], sheet]
    )


def _stage_fraction(job: Json, body: Json) -> float:
    """How far the job's stage is, 0..1, from the progress of the whole job."""
    progress, stage = float(job["progress"]), job["stage"]
    if stage in STAGE_SPANS:
        start, end = STAGE_SPANS[stage]
    else:
        progress = progress * int(body["num_iterations"]) % 1.0
        start, end = ITERATION_SPANS.get(stage, (0.0, 1.0))
    return min(max((progress - start) / (end - start), 0.0), 1.0)


def _download(
    client: Client, status: Json, exports: list[Json], out: Path
) -> dict[str, list[Path]]:
    """Save every file of the project under `out`; what was saved, by kind."""
    wanted = {
        "input": [status["project"]["original_url"]],
        "cut-out": [status["project"]["processed_url"]],
        "views": status["view_urls"],
        "depth": status["depth_urls"],
        "models": [model["model_url"] for model in status["models"]],
    }
    saved = {kind: [_save(client, url, out) for url in urls] for kind, urls in wanted.items()}
    saved["exports"] = []
    for export in exports:
        target = out / f"final.{export['format']}"
        target.write_bytes(client.download(export["download_url"]))
        saved["exports"].append(target)
    return saved


def _save(client: Client, url: str, out: Path) -> Path:
    """Under the object path without bucket and project: `views/00.png`, `models/v0.ply`."""
    parts = Path(urlsplit(url).path).parts
    target = out.joinpath(*parts[4:])  # after /, files, bucket, project
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(client.download(url))
    return target


def _contact_sheet(files: Mapping[str, list[Path]], out: Path) -> Path:
    def pictures(kind: str) -> list[UInt8Array]:
        return [decode_png(path.read_bytes()) for path in files[kind]]

    model = read_ply(files["models"][-1].read_bytes())
    renders = render_model(model, held_out_cameras()).images
    rows: list[tuple[str, list[UInt8Array]]] = [
        ("photo and cut-out", [p[..., :3] for p in pictures("input")] + pictures("cut-out")),
        ("16 views", pictures("views")),
        ("depth", pictures("depth")[::2]),
        (
            f"final model: {len(model)} splats, from eight cameras that were never fitted",
            list(np.round(renders * 255).astype(np.uint8)),
        ),
    ]
    sheet = out / "contact_sheet.png"
    sheet.write_bytes(contact_sheet(rows))
    return sheet


def _print_tables(
    console: Console,
    status: Json,
    generated: Json,
    upload_s: float,
    listed: list[Path],
) -> None:
    engines = generated["result"]["engines"]
    rows = [("upload", f"{upload_s:.1f}", engines["background"])]
    rows += [
        (stage, f"{generated['timings'][stage]:.1f}", engines[stage])
        for stage in ("views", "depth", "splats")
    ]
    rows += [
        (f"iteration {i['iteration_number']}", f"{i['seconds']:.1f}", i["engine"] or "scores only")
        for i in status["iterations"]
    ]
    console.print(summary_table("Stages", ("stage", "seconds:", "engine"), rows))
    metrics = [
        (
            str(m["iteration_number"]),
            f"{m['psnr']:.2f}",
            f"{m['ssim']:.4f}",
            f"{m['overall_quality']:.4f}",
            "accepted" if m["accepted"] else "rolled back",
        )
        for m in status["iterations"]
    ]
    columns = ("iteration", "PSNR dB:", "SSIM:", "quality:", "")
    console.print(summary_table("Scores on held-out views", columns, metrics))
    for note in generated["result"]["notes"]:
        console.print(f"[yellow]Note:[/] {note}")
    rows_of_files = [(str(p), f"{p.stat().st_size / 1e6:.2f}") for p in listed]
    console.print(summary_table("Files", ("file", "MB:"), rows_of_files))
