"""Nodes whose clocks are wrong, as processes, on one store: the database's clock decides."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import standardwebhooks

from deployments.jobs.rows import Bucket, JobKind, JobState, NewJob
from deployments.jobs.store import Store
from pipeline.imaging.decoding import encode_png
from serve_app.stores import StoreSettings
from tests.deployments.jobs.node import LINKED
from tests.deployments.jobs.receiver import SECRET, receiving
from tests.fakes import some_cutout
from tests.serve_app.stores.rows import add_project

ROOT = Path(__file__).resolve().parents[3]

#: More than the five minutes that receivers of webhooks allow.
OFF_S = 310.0

#: Python imports it before anything else.
WRONG_CLOCK = """
import datetime, os, time
off_s = float(os.environ["CLOCK_IS_OFF_S"])
true_time, true_ns = time.time, time.time_ns
time.time = lambda: true_time() + off_s
time.time_ns = lambda: true_ns() + int(off_s * 1e9)
class Wrong(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=off_s)
    @classmethod
    def utcnow(cls):
        return super().utcnow() + datetime.timedelta(seconds=off_s)
datetime.datetime = Wrong
"""


@contextmanager
def nodes(settings: StoreSettings, folder: Path, *clocks: float) -> Iterator[list[str]]:
    """A node for each clock, off by so many seconds; the first line of each."""
    (folder / "sitecustomize.py").write_text(WRONG_CLOCK)
    command = [sys.executable, "-m", "tests.deployments.jobs.node"]
    command += [str(settings.data_dir), str(settings.database_url)]
    running = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{folder}:{ROOT}", "CLOCK_IS_OFF_S": str(off_s)},
        )
        for off_s in clocks
    ]
    try:
        yield [process.stdout.readline() for process in running if process.stdout is not None]
    finally:
        for process in running:
            process.communicate(timeout=60)


async def submit(store: Store, name: str, url: str) -> str:
    path = f"{name}/processed.png"
    png = encode_png(some_cutout().rgba)
    for bucket in (Bucket.UPLOADS, Bucket.PROCESSED):
        await store.blobs.put(bucket, path, png, "image/png")
    await add_project(
        store.records, name, original_path=path, processed_path=path, background_engine="none"
    )
    job = NewJob(name, JobKind.GENERATE, {"seed": 1}, fingerprint=name, webhook_url=url)
    return (await store.records.submit_job(job)).job.id


@pytest.mark.faults
async def test_nodes_whose_clocks_are_minutes_off_share_jobs_links_and_webhooks(
    store: Store, store_settings: StoreSettings, tmp_path: Path
):
    begun = datetime.now(UTC)
    async with receiving(204) as receiver:
        url = f"http://127.0.0.1:{receiver.port}/"
        jobs = [await submit(store, f"project-{i}", url) for i in range(8)]
        started = nodes(store_settings, tmp_path, OFF_S, -OFF_S)
        told = await asyncio.to_thread(started.__enter__)
        try:
            async with asyncio.timeout(120):
                while len(receiver.requests) < len(jobs):
                    await asyncio.sleep(0.05)
        finally:
            await asyncio.to_thread(started.__exit__, None, None, None)

    for line, off_s in zip(told, (OFF_S, -OFF_S), strict=True):
        seconds, moment, link = line.split()
        for clock in (float(seconds), float(moment)):
            assert abs(clock - off_s - time.time()) < 200, "the clock is wrong as it was to be"
        query = parse_qs(urlsplit(link).query)
        files = store_settings.blobs()
        assert files.verify(Bucket.VIEWS, LINKED, query["expires"][0], query["signature"][0])

    for job_id in jobs:
        job = await store.records.get_job(job_id)
        assert (job.state, job.attempt, job.fence) == (JobState.SUCCEEDED, 1, 1), job
        moments = [job.created_at, job.started_at, job.finished_at]
        assert None not in moments
        assert moments == sorted(moments), moments
        assert begun <= job.created_at
        assert job.finished_at is not None
        assert job.finished_at <= datetime.now(UTC)
        events = await store.records.job_events(job_id, limit=1000)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert [event.at for event in events] == sorted(event.at for event in events)
    for _first, headers, body in receiver.requests:
        standardwebhooks.Webhook(SECRET).verify(body, headers)
    assert {headers["webhook-id"] for _, headers, _ in receiver.requests} == set(jobs)
