"""The Supabase store over a network of 20 ms: what a job pays for it, /status, claims.

A project is stood in for by `tests.gateway` over a real PostgreSQL, in a process of its own on the
same cores; the local store is measured in the same run.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import asyncpg

from bench.serving_alone import NAPS, one_job
from bench.serving_app import API, App, sleeping_app
from bench.table import Row
from deployments.jobs.photo_rows import NewPhoto
from deployments.jobs.rows import JobKind, NewJob
from deployments.jobs.store import Records
from serve_app.cli.demo import default_photo
from serve_app.stores import EmbeddedPostgres, SupabaseSettings, migrate
from serve_app.stores.server_programs import passable_folder
from tests.gateway import Gateway, prepare

__all__ = ["run"]

LATENCY_S = 0.02
_CLAIMERS, _JOBS = 8, 1000


@dataclass(frozen=True)
class Project:
    """A project in another process."""

    url: str
    key: str
    _pipe: Connection

    def ask(self, question: str, value: float = 0.0) -> int:
        """`latency`: how long every request waits from now on; `requests`: how many came since."""
        self._pipe.send((question, value))
        return int(self._pipe.recv())


@contextmanager
def _project() -> Iterator[Project]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    with (
        passable_folder("glimpse3d-bench-") as folder,
        EmbeddedPostgres(folder / "server") as server,
    ):
        asyncio.run(_set_up(server.dsn))
        process = context.Process(
            target=_serve, args=(server.dsn, folder / "buckets", there), daemon=True
        )
        process.start()
        url, key = here.recv()
        try:
            yield Project(url, key, here)
        finally:
            here.send(("stop", 0.0))
            process.join(10)
            if process.is_alive():
                process.kill()


async def _set_up(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await prepare(connection)
    finally:
        await connection.close()
    await migrate(dsn)


def _serve(dsn: str, buckets: Path, pipe: Connection) -> None:
    with Gateway.running(dsn, buckets) as gateway:
        pipe.send((gateway.url, gateway.keys.secret))
        while True:
            question, value = pipe.recv()
            if question == "stop":
                return
            if question == "latency":
                gateway.faults.latency_s = value
            # Polls of those who wait for work are not of the request that is measured.
            idle = ("claim_job_v1", "jobs_to_sweep_v1", "expire_uploads_v1", "due_deletions_v1")
            pipe.send(sum(not request.path.endswith(idle) for request in gateway.requests))
            gateway.requests.clear()


def run() -> list[Row]:
    """Overhead of a job, /status, and claims."""
    with sleeping_app() as app:
        local = _jobs(app)
    with _project() as project:
        project.ask("latency", LATENCY_S)
        with sleeping_app(supabase_url=project.url, supabase_key=project.key) as app:
            remote = _jobs(app, project)
            status, requests = _status(app, project)
        claims = {}
        for latency_s in (LATENCY_S, 0.0):
            project.ask("latency", latency_s)
            claims[latency_s] = asyncio.run(_claims(project))
    added = median(run["overhead_s"] for run in remote) - median(run["overhead_s"] for run in local)
    return [
        Row("generate, above its engines, local store", _overhead(local), "s"),
        Row("generate, above its engines, Supabase at 20 ms", _overhead(remote), "s"),
        Row("  of which the store", added, "s", 3, details={"local": local, "remote": remote}),
        Row("  requests", median(run["requests"] for run in remote), ""),
        Row("/status at 20 ms, median", 1000 * median(status), "ms", 100),
        Row("/status at 20 ms, 95th percentile", 1000 * quantiles(status, n=20)[-1], "ms"),
        Row("/status, requests to Supabase", requests, "", 2),
        *(
            Row(f"claims, 8 claimers, {1000 * latency_s:.0f} ms", rate, "1/s", 50, at_least=True)
            for latency_s, rate in claims.items()
        ),
    ]


def _overhead(runs: list[dict[str, Any]]) -> float:
    return float(median(run["overhead_s"] for run in runs))


def _jobs(app: App, project: Project | None = None) -> list[dict[str, Any]]:
    app.naps(NAPS)
    photo = default_photo().read_bytes()
    runs = []
    for number in range(4):
        project_id = app.upload(photo)
        if project is not None:
            project.ask("requests")
        run = one_job(app, project_id)
        if project is not None:
            run["requests"] = project.ask("requests")
        run["project"] = project_id
        if number:  # the first job of a process imports, compiles and connects
            runs.append(run)
    return runs


def _status(app: App, project: Project) -> tuple[list[float], float]:
    project_id = app.upload(default_photo().read_bytes())
    app.naps({})
    one_job(app, project_id)
    seconds = []
    project.ask("requests")
    for _ in range(100):
        began = time.perf_counter()
        answer = app.http.get(f"{API}/status/{project_id}")
        seconds.append(time.perf_counter() - began)
        answer.raise_for_status()
        _check(len(answer.json()["view_urls"]) == 16)
    return seconds, project.ask("requests") / 100


async def _claims(project: Project) -> float:
    """Claims per second of 8 clients, until 1,000 jobs are gone."""
    settings = SupabaseSettings(project.url, project.key)
    async with settings.open() as store:
        records = store.records
        gate = asyncio.Semaphore(16)
        stamp = time.time_ns()

        async def submit(number: int) -> None:
            async with gate:
                await _submit(records, f"p-{stamp}-{number}", f"client-{number % 10}")

        await asyncio.gather(*(submit(number) for number in range(_JOBS)))
        taken: list[str] = []

        async def claim(worker: int) -> None:
            async with settings.open() as own:
                while (lease := await own.records.claim_job(f"w{worker}", 600)) is not None:
                    taken.append(lease.job.id)

        began = time.perf_counter()
        await asyncio.gather(*(claim(worker) for worker in range(_CLAIMERS)))
        seconds = time.perf_counter() - began
        counts = Counter(taken)
        _check(len(counts) == _JOBS and set(counts.values()) == {1})
        return _JOBS / seconds


async def _submit(records: Records, project_id: str, client: str) -> None:
    await records.begin_upload(project_id, [NewPhoto(project_id, "o", "p", "none")])
    await records.finish_upload(project_id)
    await records.submit_job(
        NewJob(project_id, JobKind.GENERATE, {}, "f", client=client, max_attempts=1)
    )


def _check(holds: bool) -> None:
    if not holds:
        raise RuntimeError("the store did not do what was measured")
