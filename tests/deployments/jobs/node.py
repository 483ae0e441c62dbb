"""A node of its own, as a process: claims jobs, runs them with fake models, sends webhooks.

`python -m tests.deployments.jobs.node DATA_DIR DATABASE_URL` works until its standard input ends.
It prints its clock and a link that it signed.
"""

import asyncio
import functools
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from deployments.jobs import model_pictures
from deployments.jobs.claims import Claims
from deployments.jobs.outbox import Outbox
from deployments.jobs.rows import Bucket, Lease
from deployments.jobs.runner import JobRunner, RunnerSettings
from pipeline.errors import ModelFailed
from serve_app.stores import StoreSettings
from tests.deployments.jobs.receiver import LOOPBACK
from tests.fakes import FakeModels

LEASE_S = 3.0
LINKED = "project/views/00.png"


class SlowModels(FakeModels):
    async def _called(self, name, report=lambda _progress: None) -> None:
        await asyncio.sleep(0.1)
        await super()._called(name, report)


async def work(settings: StoreSettings) -> None:
    model_pictures.make_previews = functools.partial(
        model_pictures.make_previews, frames=2, size=64
    )
    async with settings.open() as store:
        runner = JobRunner(store, SlowModels().ports(), RunnerSettings(lease_s=LEASE_S))

        def hand_over(lease: Lease) -> asyncio.Task[None]:
            return asyncio.create_task(runner.run(lease))

        claims = Claims(
            store.records,
            worker="a node",
            hand_over=hand_over,
            explain=lambda error: ModelFailed(repr(error)),
            draining=lambda: False,
            max_running_jobs=4,
            poll_s=0.02,
            lease_s=LEASE_S,
        )
        clock = (time.time(), datetime.now(UTC).timestamp())
        sys.stdout.write(f"{clock[0]} {clock[1]} {store.blobs.url(Bucket.VIEWS, LINKED)}\n")
        sys.stdout.flush()
        services = [
            asyncio.create_task(claims.run()),
            asyncio.create_task(Outbox(store.records, LOOPBACK, 0.1).run()),
        ]
        await asyncio.to_thread(sys.stdin.read)
        for service in services:
            service.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*services)


if __name__ == "__main__":
    asyncio.run(work(StoreSettings(data_dir=Path(sys.argv[1]), database_url=sys.argv[2])))
