"""Whether the memory of a replica grows with every job, over real engines."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import httpx
import numpy as np
import psutil

from bench.table import Row
from serve_app.cli.demo import default_photo
from serve_app.server import running_service
from serve_app.settings import AppArgs
from serve_app.stores.server_programs import passable_folder

__all__ = ["growth", "growth_rows", "memory_by_process", "slope"]

_MB = 1024 * 1024

#: Allocators and model runtimes reach their working size within ten jobs; a leak goes on.
_WARM_UP_JOBS = 10


def growth(*, quick: bool) -> list[Row]:
    """Small generations in a row on the service that `glimpse3d serve` starts."""
    with (
        passable_folder("glimpse3d-bench-") as assets,
        running_service(AppArgs(asset_dir=assets)) as service,
        httpx.Client(base_url=f"{service.url}/api/v1/", timeout=600, trust_env=False) as http,
    ):
        return growth_rows(http, 4, warm_up=1) if quick else growth_rows(http, 50)


def memory_by_process() -> dict[str, int]:
    """Proportional set size in bytes of this process's descendants, by what they are."""
    sizes: dict[str, int] = {}
    for process in psutil.Process().children(recursive=True):
        try:
            # Ray's titles end with the method that runs.
            name = (" ".join(process.cmdline()[:1]) or process.name()).partition(".")[0]
            sizes[f"{name} {process.pid}"] = process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return sizes


def growth_rows(http: httpx.Client, jobs: int, *, warm_up: int = _WARM_UP_JOBS) -> list[Row]:
    """Slope of every replica's memory over small generations, after some to warm up.

    Args:
        http: its base URL is that of the API.
        jobs: those that are measured.
    """
    photo = default_photo().read_bytes()
    sizes: dict[str, list[int]] = defaultdict(list)
    for number in range(warm_up + jobs):
        answer = http.post("upload", files={"file": ("coffee.png", photo)})
        project: str = answer.raise_for_status().json()["project_id"]
        body: dict[str, Any] = {"seed": 1, "preset": "draft", "num_gaussians": 500}
        http.post(f"generate/{project}", json=body).raise_for_status()
        for name, size in memory_by_process().items():
            if number >= warm_up and "ServeReplica" in name:
                sizes[name.split("ServeReplica:")[1]].append(size)
    rows = []
    for name, series in sorted(sizes.items()):
        if len(series) == jobs:  # others were replaced meanwhile
            mib = np.array(series) / _MB
            per_job, error = slope(mib)
            rows.append(
                Row(
                    f"growth per job, {name.rsplit(' ', 1)[0]}",
                    per_job,
                    "MiB",
                    error=error,
                    details={"mib": [round(float(size), 2) for size in mib]},
                )
            )
    return rows


def slope(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Least-squares slope of values one apart, and its standard error.

    The error takes the residuals for independent. Memory that comes and goes in steps is not, so
    a slope of two or three errors is no proof of a leak.
    """
    places = np.arange(len(values)) - (len(values) - 1) / 2
    spread = float((places**2).sum())
    per_place = float((places * values).sum()) / spread
    residuals = values - values.mean() - per_place * places
    variance = float((residuals**2).sum()) / max(len(values) - 2, 1)
    return per_place, (variance / spread) ** 0.5
