"""The demo: the whole product over HTTP, on this machine, in one command.

It uses the service as any client would and knows nothing of what is behind its URLs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console

from deployments.jobs.model_pictures import PIPELINE_END, PREVIEW_SPANS
from deployments.jobs.rows import JobKind
from pipeline.file_types import FORMATS
from pipeline.flow.generate import STAGE_SPANS
from pipeline.flow.photo_list import Direction
from pipeline.flow.refine import ITERATION_SPANS
from serve_app.cli.client import Client
from serve_app.cli.console import (
    StageBars,
    iterations_table,
    print_notes,
    stage_bars,
    summary_table,
)
from serve_app.server import running_service
from serve_app.settings import AppArgs
from serve_app.stores.server_programs import passable_folder

Json = Mapping[str, Any]


def default_photo() -> Path:
    """A real photo that an installed package carries: scikit-image's cup of coffee."""
    import skimage.data

    return Path(skimage.data.__file__).parent / "coffee.png"


def run_demo(
    photo: Path,
    out: Path,
    console: Console,
    *,
    seed: int,
    iterations: int,
    further: Sequence[tuple[Path, Direction]] = (),
    mask: Path | None = None,
) -> None:
    """Upload, generate, refine, export, and download everything there is.

    Args:
        further: photos of the same object, and whence each was taken.
        mask: says what of `photo` is the object.

    Raises:
        GlimpseError: whatever went wrong, in one sentence. Nothing is left running.
    """
    out.mkdir(parents=True, exist_ok=True)
    with passable_folder("glimpse3d-demo-") as assets:
        console.print("Starting the service on this machine ...")
        with running_service(AppArgs(asset_dir=assets)) as service:
            console.print(f"Ready at {service.url} after {service.started_in_s:.1f} s.")
            client = Client.of(service.url)
            with stage_bars(console) as bars:
                bars.enter("upload")
                started = time.perf_counter()
                project = client.upload(photo)
                project_id = project["project_id"]
                for path, direction in further:
                    client.add_photo(project_id, path, direction)
                engine = project["background_engine"]
                if mask is not None:
                    engine = client.put_mask(project_id, 0, mask)["photos"][0]["background_engine"]
                upload_s = time.perf_counter() - started
                bars.finish(engine)
                body = {"seed": seed}
                generated = _run_job(client, bars, "generate", project_id, body)
                body |= {"num_iterations": iterations}
                refined = _run_job(client, bars, "refine", project_id, body)
                bars.enter("export")
                exports = [client.export(project_id, name) for name in FORMATS]
                bars.finish()
                bars.enter("download")
                status = client.status(project_id)
                saved = _download(client, status, exports, out)
                bars.finish()
    _print_tables(console, status, (generated, refined), upload_s, saved)
    for export in exports:
        print_notes(console, export["notes"], of=export["file_name"])


def _run_job(client: Client, bars: StageBars, kind: str, project_id: str, body: Json) -> Json:
    """A job to its end, shown as bars."""

    def watch(job: Json) -> None:
        if job["stage"] not in ("", "start"):
            bars.enter(job["stage"])
            eta = "" if job["eta_s"] is None else f"{job['eta_s']:.0f} s left"
            bars.update(_stage_fraction(job, body), eta)

    job = client.run_job(kind, project_id, body, watch)
    bars.finish("")
    return job


def _stage_fraction(job: Json, body: Json) -> float:
    """How far the job's stage is, 0..1, from the progress of the whole job."""
    progress, stage, kind = float(job["progress"]), job["stage"], JobKind(job["kind"])
    if stage in PREVIEW_SPANS[kind]:
        start, end = PREVIEW_SPANS[kind][stage]
    elif stage in STAGE_SPANS:
        start, end = STAGE_SPANS[stage]
    else:
        progress = progress / PIPELINE_END[kind] * int(body["num_iterations"]) % 1.0
        start, end = ITERATION_SPANS.get(stage, (0.0, 1.0))
    return min(max((progress - start) / (end - start), 0.0), 1.0)


def _download(client: Client, status: Json, exports: list[Json], out: Path) -> list[Path]:
    """Save every file of the project under `out`; models, exports and pictures of these."""
    newest = status["models"][-1]
    names = ("original_url", "processed_url")
    inputs = [photo[name] for photo in status["photos"] for name in names]
    for url in [*inputs, *status["view_urls"], *status["depth_urls"]]:
        _save(client, url, out / _object_path(url))
    models = [model["model_url"] for model in status["models"]]
    files = {_object_path(url): url for url in models}
    # The object paths of these have a folder of the attempt in them.
    files |= {export["file_name"]: export["download_url"] for export in exports}
    files |= {
        f"models/v{newest['version']}.png": newest["thumbnail_url"],
        f"models/v{newest['version']}.mp4": newest["turntable_url"],
        "contact_sheet.png": status["contact_sheet_url"],
    }
    return [_save(client, url, out / name) for name, url in files.items()]


def _object_path(url: str) -> str:
    """Without bucket and project: `views/00.png`, `models/v0.ply`."""
    return "/".join(Path(urlsplit(url).path).parts[4:])  # after /, files, bucket, project


def _save(client: Client, url: str, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(client.download(url))
    return target


def _print_tables(
    console: Console, status: Json, jobs: tuple[Json, Json], upload_s: float, saved: list[Path]
) -> None:
    generated, _ = jobs
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
    pictures_s = sum(
        seconds
        for job in jobs
        for stage, seconds in job["timings"].items()
        if stage.startswith(("previews", "contact-sheet"))
    )
    rows.append(("previews", f"{pictures_s:.1f}", engines["splats"]))
    console.print(summary_table("Stages", ("stage", "seconds:", "engine"), rows))
    names = ("iteration_number", "psnr", "ssim", "view_agreement", "accepted")
    console.print(iterations_table(tuple(m[name] for name in names) for m in status["iterations"]))
    print_notes(console, generated["result"]["notes"])
    rows_of_files = [(str(p), f"{p.stat().st_size / 1e6:.2f}") for p in saved]
    console.print(summary_table("Files", ("file", "MB:"), rows_of_files))
