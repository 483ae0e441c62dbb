"""One job at a time over engines that sleep: what the service adds, and how soon it stops."""

from __future__ import annotations

import time
from collections import defaultdict
from itertools import pairwise
from statistics import median
from typing import Any

import httpx

from bench.serving_app import API, App, sleeping_app
from bench.table import Row
from serve_app.cli.demo import default_photo
from serve_app.server import running_service
from serve_app.settings import AppArgs
from serve_app.stores.server_programs import passable_folder

__all__ = ["NAPS", "cancel", "one_job", "overhead"]

#: One generation renders seven times, one thumbnail, five parts of the film and the contact sheet,
#: and is scored once: 20 s in all.
NAPS = {"views": 8.0, "depth": 2.0, "splats": 8.0, "render": 0.2, "evaluate": 0.6}


def overhead(*, quick: bool) -> list[Row]:
    """What a job takes above its engines, alone on the service that `glimpse3d serve` starts."""
    runs = []
    with sleeping_app() as app:
        app.naps({name: s / 20 for name, s in NAPS.items()} if quick else NAPS)
        photo = default_photo().read_bytes()
        # The first job of a process imports, compiles and connects; it does not count.
        for number in range(2 if quick else 4):
            run = one_job(app, app.upload(photo))
            if number:
                runs.append(run)
    names = [name for name in runs[0]["gaps"] if max(run["gaps"][name] for run in runs) >= 0.005]
    return [
        Row(
            "overhead of a job, of its engines' time",
            median(100 * run["overhead_s"] / run["engines_s"] for run in runs),
            "%",
            5,
            details={"runs": runs},
        ),
        Row("overhead of a job", median(run["overhead_s"] for run in runs), "s"),
        *(Row(f"  {name}", median(run["gaps"][name] for run in runs), "s") for name in names),
    ]


def one_job(app: App, project: str) -> dict[str, Any]:
    """Seconds of a job that is waited for, and of the gaps between its engines' calls."""
    began = time.time()
    answer = app.http.post(f"{API}/generate/{project}", json={"seed": 1})
    ended = time.time()
    answer.raise_for_status()
    naps = app.slept(since=began)
    steps = [("request", began), *((nap["name"], nap["began"]) for nap in naps)]
    ends = [began, *(nap["ended"] for nap in naps)]
    gaps: dict[str, float] = defaultdict(float)
    for i, ((before, _), (after, start)) in enumerate(pairwise(steps)):
        gaps[f"from {before} to {after}"] += start - ends[i]
    gaps["from the last call to the answer"] = ended - ends[-1]
    engines_s = sum(nap["ended"] - nap["began"] for nap in naps)
    return {
        "wall_s": ended - began,
        "engines_s": engines_s,
        "overhead_s": ended - began - engines_s,
        "calls": len(naps),
        "gaps": dict(gaps),
        "timings": app.job(answer.json()["job_id"])["timings"],
    }


def cancel(*, quick: bool) -> list[Row]:
    """From a request to stop a job until its row says so."""
    repeats = 2 if quick else 10
    with sleeping_app() as app:
        app.naps({"splats": 600.0})
        project = app.upload(default_photo().read_bytes())
        sleeping = [_cancelled_in(app, project) for _ in range(repeats)]
    real = _cancel_embedded(1 if quick else 3)
    return [
        Row("cancel, sleeping engines, median", median(sleeping), "s", details={"all": sleeping}),
        Row("cancel, sleeping engines, longest", max(sleeping), "s", 3),
        Row("cancel, embedded engines in a fit, longest", max(real), "s", 3, details={"all": real}),
    ]


def _cancelled_in(app: App, project: str, *, preset: str = "standard") -> float:
    """Seconds, of a generation that is cancelled a second into its fit."""
    job_id = app.start(project, preset=preset)
    app.until(job_id, lambda job: job["stage"] == "splats" and bool(job["step"]))
    time.sleep(1.0)
    asked = time.perf_counter()
    app.http.post(f"{API}/jobs/{job_id}/cancel").raise_for_status()
    job = app.ended(job_id)
    seconds = time.perf_counter() - asked
    if job["state"] != "cancelled":
        raise RuntimeError(f"the job was to be cancelled: {job}")
    return seconds


def _cancel_embedded(repeats: int) -> list[float]:
    with passable_folder("glimpse3d-bench-") as assets:
        args = AppArgs(asset_dir=assets)
        with (
            running_service(args) as service,
            httpx.Client(base_url=service.url, trust_env=False) as http,
        ):
            http.timeout = httpx.Timeout(600.0)
            app = App(service.url, http, args, assets)
            project = app.upload(default_photo().read_bytes())
            return [_cancelled_in(app, project, preset="high") for _ in range(repeats)]
