"""What is held for long has a limit in number: whoever holds much keeps no quick request out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace

import httpx
import pytest
from starlette.datastructures import UploadFile

from serve_app.http.budgets import Budget
from serve_app.http.problems import TooManyAtOnce
from tests.serve_app.http.conftest import Service
from tests.serve_app.http.streams import Stream, streaming
from tests.serve_app.http.test_contract import API, photo, upload
from tests.serve_app.http.test_request_limits import FORM, Sent, part


def test_a_client_has_a_share_and_all_have_the_rest():
    budget = Budget("things", 10, 0.5)
    with ExitStack() as held:
        for _ in range(5):
            held.enter_context(budget.taken("a"))
        with pytest.raises(TooManyAtOnce, match="You have too many things"):
            held.enter_context(budget.taken("a"))
        held.enter_context(budget.taken("b", 4))
        with pytest.raises(TooManyAtOnce, match="There are too many things"):
            held.enter_context(budget.taken("c", 2))
        held.enter_context(budget.taken("c"))
        assert budget.held == 10
    assert budget.held == 0
    with budget.taken("a", 1000):
        assert budget.held == 5, "what could never fit counts as a whole share"


@pytest.fixture
async def held_at_background(idle_service) -> AsyncIterator[Service]:
    idle_service.models.hold_at = "background"
    yield idle_service
    idle_service.models.release.set()


async def test_512_uploads_hold_a_few_photos_in_memory(held_at_background, monkeypatch):
    service, in_memory, most = held_at_background, 0, 0
    read = UploadFile.read

    async def counted(self: UploadFile, size: int = -1) -> bytes:
        nonlocal in_memory, most
        data = await read(self, size)
        in_memory += len(data)
        most = max(most, in_memory)
        return data

    monkeypatch.setattr(UploadFile, "read", counted)
    data = photo((400, 400), format="BMP")
    form = part('file"; filename="p', data) + b"--x--\r\n"
    bodies = [Sent(form) for _ in range(512)]
    # Of a declared length: others count as photos of the largest sizes.
    headers = {**FORM, "content-length": str(len(form))}
    uploads = [
        asyncio.create_task(service.http.post(f"{API}/upload", content=body, headers=headers))
        for body in bodies
    ]
    room = service.limits.max_uploads // 2
    async with asyncio.timeout(60):
        while sum(task.done() for task in uploads) < 512 - room or most < 2 * len(data):
            await asyncio.sleep(0.01)
    refused = [task.result() for task in uploads if task.done()]
    assert {(a.status_code, a.json()["code"]) for a in refused} == {(503, "too_many_at_once")}
    assert all(answer.headers["retry-after"] for answer in refused)
    assert sum(body.taken > 0 for body in bodies) == room, "of the others nothing was read"
    print(f"{len(data)} bytes a photo: {most} bytes in memory of 512 uploads")  # noqa: T201
    assert most == 2 * len(data)
    assert (await service.http.get("/health")).status_code == 200
    service.models.release.set()
    answers = await asyncio.gather(*uploads)
    assert sum(answer.status_code == 200 for answer in answers) == room
    assert service.services.budgets.uploads.held == 0


@asynccontextmanager
async def crowd(service: Service, job: str, count: int) -> AsyncIterator[list[httpx.Response]]:
    """So many open streams and as many requests that wait, of clients of their own; the answers
    of those that were not let in."""
    refused: list[httpx.Response] = []
    url = f"{API}/jobs/{job}"

    async def wait(i: int) -> None:
        headers = {"X-Client": f"waiting {i}"}
        refused.append(await service.http.get(f"{url}?wait=60", headers=headers))

    waits = [asyncio.create_task(wait(i)) for i in range(count)]
    try:
        async with AsyncExitStack() as open_streams:
            for i in range(count):
                stream = await open_streams.enter_async_context(
                    streaming(service.app, f"{url}/events", client=f"streaming {i}")
                )
                assert stream.status == (200 if i < service.limits.max_streams else 503)
            async with asyncio.timeout(30):
                while len(refused) < count - service.limits.max_waiting:
                    await asyncio.sleep(0.01)
            yield refused
    finally:
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def started(service: Service, project_id: str) -> str:
    answer = await service.http.post(
        f"{API}/generate/{project_id}", headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 202
    return answer.json()["id"]


async def test_600_open_streams_and_waits_keep_nobody_out(idle_service, monkeypatch):
    service = idle_service
    told_apart = replace(service.services, client_header="X-Client")
    monkeypatch.setattr(service.app.state, "services", told_apart)
    first, second = await upload(service), await upload(service)
    job = await started(service, first)
    async with crowd(service, job, 300) as refused:
        budgets = service.services.budgets
        assert (budgets.streams.held, budgets.waiting.held) == (160, 160)
        assert {(a.status_code, a.json()["code"]) for a in refused} == {(503, "too_many_at_once")}
        assert all(answer.headers["retry-after"] for answer in refused)
        for path in ("/health", "/ready", f"{API}/status/{first}", f"{API}/jobs/{job}"):
            assert (await service.http.get(path)).status_code == 200, path
        # A call that would wait for its job is answered at once, as after a longer wait.
        patient = {"Prefer": "wait=60"}
        answer = await service.http.post(f"{API}/generate/{second}", headers=patient)
        assert answer.status_code == 202
        assert "preference-applied" not in answer.headers, "nobody waited"
        assert answer.headers["location"].endswith(f"/api/v1/jobs/{answer.json()['id']}")
    assert (budgets.streams.held, budgets.waiting.held) == (0, 0)


async def test_one_client_has_a_share_of_the_streams(idle_service):
    job = await started(idle_service, await upload(idle_service))
    async with AsyncExitStack() as open_streams:

        async def opened(client: str) -> int:
            stream = streaming(idle_service.app, f"{API}/jobs/{job}/events", client=client)
            return (await open_streams.enter_async_context(stream)).status

        assert [await opened("greedy") for _ in range(81)] == [200] * 80 + [503]
        assert await opened("modest") == 200


@asynccontextmanager
async def reading(service: Service, url: str, reader: str = "slow") -> AsyncIterator[Stream]:
    """A download whose client has not taken the answer until the context is left."""
    path = url.removeprefix("http://test")
    async with streaming(service.app, path, client=reader) as stream:
        yield stream


async def test_a_file_counts_until_its_client_has_it(idle_service, monkeypatch):
    service = idle_service
    answer = await service.http.post(f"{API}/upload", files={"file": ("p", photo((200, 200)))})
    url = answer.json()["original_url"]
    whole = await service.http.get(url)
    size = len(whole.content)
    small = replace(
        service.services,
        limits=replace(
            service.limits, max_downloads=8, max_download_bytes=4 * size, download_wait_s=0.05
        ),
    )
    monkeypatch.setattr(service.app.state, "services", small)
    budgets = small.budgets
    async with AsyncExitStack() as readers:
        for reader in ("a", "a", "b", "b"):
            stream = await readers.enter_async_context(reading(service, url, reader))
            assert stream.status == 200
        assert (budgets.downloads.held, budgets.download_bytes.held) == (4, 4 * size)
        refused = await service.http.get(url)
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_at_once")
        assert refused.headers["retry-after"]
        assert (await service.http.head(url)).status_code == 200, "it has no body"
        assert (await service.http.get("/health")).status_code == 200
    assert (budgets.downloads.held, budgets.download_bytes.held) == (0, 0)
    part_of_it = await service.http.get(url, headers={"Range": "bytes=0-99"})
    assert (part_of_it.status_code, len(part_of_it.content)) == (206, 100)
    assert (await service.http.get(url)).content == whole.content
    assert (budgets.downloads.held, budgets.download_bytes.held) == (0, 0)


async def test_a_file_waits_a_moment_for_others_to_arrive(idle_service, monkeypatch):
    service = idle_service
    url = (await service.http.post(f"{API}/upload", files={"file": ("p", photo())})).json()[
        "original_url"
    ]
    one = replace(service.services, limits=replace(service.limits, max_download_bytes=1))
    monkeypatch.setattr(service.app.state, "services", one)
    async with reading(service, url):
        second = asyncio.create_task(service.http.get(url))
        async with asyncio.timeout(10):
            while one.budgets.downloads.held < 2:
                await asyncio.sleep(0.01)
        assert not second.done()
    assert (await second).status_code == 200


async def test_a_file_behind_a_real_server_is_given_back(service, serving):
    answer = await service.http.post(f"{API}/upload", files={"file": ("p", photo((400, 400)))})
    path = answer.json()["original_url"].removeprefix("http://test")
    async with httpx.AsyncClient(base_url=serving) as http:
        for _ in range(3):
            assert (await http.get(path)).status_code == 200
    async with asyncio.timeout(10):
        while service.services.budgets.downloads.held:
            await asyncio.sleep(0.01)
