"""The whole service on this machine: start, every documented call, status under load, memory.

Real engines, real HTTP, the embedded database; the budgets are those of docs/operations.md.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import httpx
import numpy as np

from bench.serving_growth import growth_rows, memory_by_process
from bench.table import Row
from pipeline.file_types import FORMATS
from serve_app.cli.demo import default_photo
from serve_app.server import running_service
from serve_app.settings import AppArgs
from serve_app.stores.server_programs import passable_folder

T = TypeVar("T")

_MB = 1024 * 1024


def run(*, repeats: int = 3, jobs: int = 50) -> list[Row]:
    """Rows of the bench.

    Args:
        repeats: of every call that is timed; the median counts.
        jobs: small generations in a row for the growth of memory.
    """
    rows: list[Row] = []
    with (
        passable_folder("glimpse3d-bench-") as assets,
        running_service(AppArgs(asset_dir=assets)) as service,
        httpx.Client(base_url=f"{service.url}/api/v1/", timeout=600, trust_env=False) as http,
    ):
        rows.append(Row("cold start", service.started_in_s, "s", 30))
        rows += _calls(http, repeats)
        rows += growth_rows(http, jobs)
    return rows


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def _upload(http: httpx.Client) -> str:
    with default_photo().open("rb") as photo:
        answer = http.post("upload", files={"file": ("coffee.png", photo)})
    answer.raise_for_status()
    project_id: str = answer.json()["project_id"]
    return project_id


def _post(http: httpx.Client, path: str, **body: object) -> dict[str, object]:
    answer = http.post(path, json=body)
    answer.raise_for_status()
    json: dict[str, object] = answer.json()
    return json


@dataclass
class _Times:
    """Seconds of every call, and what was seen while they ran."""

    uploads: list[float] = field(default_factory=list)
    generates: list[float] = field(default_factory=list)
    refines: list[float] = field(default_factory=list)
    iterations: list[float] = field(default_factory=list)
    exports: dict[str, list[float]] = field(default_factory=lambda: {n: [] for n in FORMATS})
    statuses: list[float] = field(default_factory=list)
    peaks_bytes: list[int] = field(default_factory=list)

    def measure(self, http: httpx.Client, seed: int) -> None:
        """One photo all the way."""
        seconds, project_id = _timed(lambda: _upload(http))
        self.uploads.append(seconds)
        with _StatusWatcher(str(http.base_url), project_id) as watcher:
            seconds, _ = _timed(lambda: _post(http, f"generate/{project_id}", seed=seed))
        self.generates.append(seconds)
        self.statuses += watcher.seconds
        self.peaks_bytes.append(watcher.peak_bytes)
        refine = f"refine/{project_id}"
        seconds, answer = _timed(lambda: _post(http, refine, seed=seed, num_iterations=1))
        self.refines.append(seconds)
        metrics: Any = answer["metrics"]
        self.iterations.append(float(metrics[1]["seconds"]))
        for name, times in self.exports.items():
            url = f"export/{project_id}?format={name}"
            seconds, _ = _timed(partial(http.get, url))
            times.append(seconds)


def _calls(http: httpx.Client, repeats: int) -> list[Row]:
    times = _Times()
    for seed in range(repeats):
        times.measure(http, seed)
    median = statistics.median
    return [
        Row("upload", median(times.uploads), "s", 3),
        Row("generate, standard preset", median(times.generates), "s", 30),
        Row("refinement iteration", median(times.iterations), "s", 20),
        Row("refine, one iteration and pictures", median(times.refines), "s"),
        *(Row(f"export {name}", median(t), "s", 10) for name, t in times.exports.items()),
        Row("status while a job runs, median", 1e3 * median(times.statuses), "ms", 20),
        Row("status while a job runs, 99%", 1e3 * float(np.percentile(times.statuses, 99)), "ms"),
        Row("memory of all processes, peak", max(times.peaks_bytes) / _MB / 1024, "GiB", 6),
    ]


class _StatusWatcher:
    """Asks for the status ten times a second and weighs every process of the service."""

    def __init__(self, base_url: str, project_id: str) -> None:
        self._url = f"{base_url}status/{project_id}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.seconds: list[float] = []
        self.peak_bytes = 0

    def __enter__(self) -> _StatusWatcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        with httpx.Client(trust_env=False) as http:
            while not self._stop.wait(0.1):
                seconds, _ = _timed(lambda: http.get(self._url))
                self.seconds.append(seconds)
                self.peak_bytes = max(self.peak_bytes, sum(memory_by_process().values()))
