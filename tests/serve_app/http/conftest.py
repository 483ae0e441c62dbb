"""The HTTP application over a real store and fake models, without Ray.

`service` stands in for dispatcher and driver: a task that claims jobs and runs them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from deployments.jobs.runner import JobRunner, RunnerSettings
from deployments.jobs.store import Store
from pipeline.errors import Unavailable
from serve_app.http.app import create_app
from serve_app.http.dependencies import Limits, Services
from serve_app.http.reach import Reach
from serve_app.stores import StoreSettings, SupabaseSettings
from tests.fakes import FakeModels

_DRIVER = RunnerSettings(lease_s=30, heartbeat_s=0.05)
_CALLED_TEST = Reach(allowed_hosts=("test",))


@dataclass
class Service:
    """What a test talks to."""

    http: httpx.AsyncClient
    store: Store
    models: FakeModels
    app: FastAPI
    files_dir: Path
    not_ready: dict[str, str] = field(default_factory=dict)

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    @property
    def limits(self) -> Limits:
        return self.services.limits


@asynccontextmanager
async def running(
    settings: StoreSettings | SupabaseSettings,
    models: FakeModels,
    limits: Limits,
    *,
    drivers: bool = True,
    driver: RunnerSettings = _DRIVER,
    reach: Reach = _CALLED_TEST,
) -> AsyncIterator[Service]:
    async with settings.open() as store:
        not_ready: dict[str, str] = {}

        async def readiness() -> Mapping[str, str]:
            return {"store": "ok", **not_ready}

        services = Services(store, models, readiness, files=store.files, limits=limits, reach=reach)
        app = create_app(services)
        runner = JobRunner(store, models.ports(), driver)

        async def work() -> None:
            while True:
                lease = None
                with suppress(Unavailable):
                    lease = await store.records.claim_job("test", driver.lease_s)
                if lease is None:
                    await asyncio.sleep(0.02)
                else:
                    await runner.run(lease)

        task = asyncio.create_task(work()) if drivers else None
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            files = settings.files_dir if isinstance(settings, StoreSettings) else Path()
            yield Service(http, store, models, app, files, not_ready)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})


@pytest.fixture
def limits() -> Limits:
    return Limits(max_upload_bytes=1024 * 1024, max_wait_s=20, max_queued_jobs=3)


@pytest.fixture
def models() -> FakeModels:
    # The generation's own score, then iterations 0, 1 and 2 of a refinement that converges.
    return FakeModels(qualities=[0.5, 0.5, 0.6, 0.603])


@pytest.fixture
async def service(
    small_pictures: None,
    store_settings: StoreSettings,
    models: FakeModels,
    limits: Limits,
) -> AsyncIterator[Service]:
    async with running(store_settings, models, limits) as up:
        yield up


@pytest.fixture
async def idle_service(
    store_settings: StoreSettings, models: FakeModels, limits: Limits
) -> AsyncIterator[Service]:
    """Nobody works on its jobs."""
    async with running(store_settings, models, limits, drivers=False) as up:
        yield up


@pytest.fixture
async def serving(service: Service) -> AsyncIterator[str]:
    """`service` behind a real server; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(service.app, lifespan="off", ws="none", log_config=None)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await asyncio.wait_for(task, 30)
