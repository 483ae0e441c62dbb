"""A database that is restarted under many uploads: projects are whole or not there, none twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from deployments.jobs.janitor import Janitor, JanitorSettings
from pipeline.errors import Unavailable
from serve_app.http.dependencies import Limits
from serve_app.stores import EmbeddedPostgres, StoreSettings
from serve_app.stores.shared_folder import MARKER
from tests.fakes import FakeModels
from tests.serve_app.http.conftest import Service, running
from tests.serve_app.http.test_contract import API, photo

_UPLOADS = 50


async def _upload(service: Service, number: int) -> httpx.Response:
    return await service.http.post(
        f"{API}/upload",
        files={"file": ("p", photo())},
        headers={"Idempotency-Key": f"photo-{number}"},
        timeout=60,
    )


async def _some_are_done(tasks: list[asyncio.Task[httpx.Response]]) -> None:
    while sum(task.done() for task in tasks) < 5:
        await asyncio.sleep(0.005)


async def _complete(service: Service, number: int) -> str:
    """Repeat an upload, as the answer asks, until there is its project."""
    while (answer := await _upload(service, number)).status_code == 503:
        assert int(answer.headers["Retry-After"]) > 0
        await asyncio.sleep(0.1)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["project_id"])


async def _tidy(service: Service) -> None:
    """What broke off goes; a connection that the restart ended may be found dead once."""
    janitor = Janitor(service.store, JanitorSettings(upload_ttl_s=0.0, grace_s=0.0))
    for _ in range(5):
        await janitor.tidy()


@pytest.mark.faults
async def test_a_database_that_is_restarted_under_uploads_leaves_whole_projects(
    embedded_dir: Path, small_pictures: None
) -> None:
    settings = await asyncio.to_thread(StoreSettings(embedded_dir / "data").prepare)
    server = EmbeddedPostgres(embedded_dir / "data" / "postgres")
    limits = Limits(max_uploads=_UPLOADS, client_share=1.0)
    try:
        async with running(settings, FakeModels(), limits, drivers=False) as service:
            tasks = [asyncio.create_task(_upload(service, n)) for n in range(_UPLOADS)]
            await _some_are_done(tasks)
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            first = await asyncio.gather(*tasks)
            for answer in first:
                assert answer.status_code in (200, 503), answer.text
                if answer.status_code == 503:
                    assert answer.json()["code"] == "unavailable"
                    assert answer.json()["retryable"]
                    assert int(answer.headers["Retry-After"]) > 0
            refused = sum(answer.status_code == 503 for answer in first)
            assert 0 < refused < _UPLOADS, "it happened in the middle"

            ids = await asyncio.gather(*(_complete(service, n) for n in range(_UPLOADS)))
            for answer, project_id in zip(first, ids, strict=True):
                if answer.status_code == 200:
                    assert answer.json()["project_id"] == project_id, "nothing is done twice"
            async with asyncio.timeout(60):
                while True:
                    try:
                        await _tidy(service)
                        page = await service.store.records.list_projects(limit=200)
                        break
                    except Unavailable:
                        await asyncio.sleep(0.1)
            assert sorted(project.id for project in page.projects) == sorted(ids)
            files = sorted(
                path.relative_to(service.files_dir).as_posix()
                for path in service.files_dir.rglob("*")
                if path.is_file() and path.name != MARKER
            )
            named = [(project.original_path, project.processed_path) for project in page.projects]
            assert files == sorted(
                f"{bucket}/{path}"
                for paths in named
                for bucket, path in zip(("project-uploads", "processed-images"), paths, strict=True)
            )
    finally:
        await asyncio.to_thread(server.stop)
        settings.stop()
