"""What one request may weigh: the rest is refused before it costs anything, with a short answer."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from serve_app.http import request_limits
from serve_app.http.app import create_app
from serve_app.http.dependencies import Budgets, Limits, Services
from serve_app.http.request_limits import RequestLimits
from tests.serve_app.http.test_contract import API, photo

MIB = 1024 * 1024
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@asynccontextmanager
async def answering(**limits: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The application without a store: what is asked here is refused before that is needed."""

    async def readiness() -> dict[str, str]:
        return {}

    store = cast(Any, SimpleNamespace(blobs=None))
    nobody = cast(Any, None)
    app = create_app(Services(store, nobody, readiness, nobody, limits=Limits(**limits)))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with answering() as client:
        yield client


class Sent:
    """A body in pieces, without a declared length; `taken` bytes of it were asked for."""

    def __init__(self, data: bytes, piece: int = 64 * 1024) -> None:
        self.data, self.piece, self.taken = data, piece, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self.data), self.piece):
            part = self.data[at : at + self.piece]
            self.taken += len(part)
            yield part


def keys(count: int) -> bytes:
    return json.dumps({f"k{i}": 1 for i in range(count)}).encode()


async def test_a_hundred_thousand_unknown_keys_are_refused_before_they_are_read(http):
    body = keys(100_000)
    started = time.perf_counter()
    answer = await http.post(f"{API}/generate/x", content=body, headers=JSON)
    seconds = time.perf_counter() - started
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    print(f"{len(body)} bytes: {1000 * seconds:.1f} ms, answered with {len(answer.content)} bytes")  # noqa: T201
    assert len(answer.content) < 1024
    pieces = Sent(body)
    answer = await http.post(f"{API}/generate/x", content=pieces, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert pieces.taken <= 2 * pieces.piece
    assert answer.headers["connection"] == "close"


async def test_of_many_faults_the_first_are_told_and_all_are_counted(http):
    body = keys(5000)
    started = time.perf_counter()
    answer = await http.post(f"{API}/generate/x", content=body, headers=JSON)
    print(f"{len(body)} bytes: {1000 * (time.perf_counter() - started):.1f} ms")  # noqa: T201
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_option")
    assert (len(problem["errors"]), problem["error_count"]) == (20, 5000)
    assert len(answer.content) < 8 * 1024


@pytest.mark.parametrize("body", [{"k" * 50_000: 1}, {"preset": "p" * 50_000}])
async def test_what_a_client_wrote_comes_back_shortened(http, body):
    answer = await http.post(f"{API}/generate/x", json=body)
    assert answer.status_code == 422
    assert len(answer.content) < 4 * 1024


@pytest.mark.parametrize(
    "body",
    [b"[" * 60_000, b'{"a":' * 10_000, b'{"seed": ' + b"9" * 60_000 + b"}"],
    ids=["lists", "objects", "digits"],
)
async def test_json_that_is_too_deep_or_long_is_a_fault_of_the_request(http, body):
    answer = await http.post(f"{API}/generate/x", content=body, headers=JSON)
    assert answer.status_code in (400, 422)
    assert len(answer.content) < 4 * 1024


def part(name: str, data: bytes = b"1", *more: str) -> bytes:
    lines = [f'Content-Disposition: form-data; name="{name}"', *more]
    return b"--x\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + data + b"\r\n"


@pytest.mark.parametrize(
    "form",
    [
        b"".join(part(f"f{i}") for i in range(20_000)),
        b"".join(part(f'f{i}"; filename="f') for i in range(20_000)),
        part("remove_bg", b"1" * 2 * MIB),
        part("file", b"1", "X-Long: " + "y" * 2 * MIB),
        part("file", b"1", *(f"X-{i}: 1" for i in range(100_000))),
    ],
    ids=["fields", "files", "long field", "long header", "headers"],
)
async def test_a_form_of_other_things_than_one_photo_is_not_read_on(http, form):
    body = Sent(form + b"--x--\r\n")
    answer = await http.post(f"{API}/upload", content=body, headers=FORM)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert body.taken <= 4 * body.piece
    assert len(answer.content) < 1024


async def test_a_form_that_is_no_multipart_is_not_read(http):
    body = Sent(b"&".join(b"a%d=1" % i for i in range(100_000)))
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await http.post(f"{API}/upload", content=body, headers=headers)
    assert (answer.status_code, body.taken) == (415, 0)


@pytest.mark.parametrize("path", ["?" + "&".join(f"q{i}=1" for i in range(7000)), "y" * 60_000])
async def test_a_long_url_is_refused(http, path):
    answer = await http.get(f"{API}/projects/x/report{path}")
    assert (answer.status_code, answer.json()["code"]) == (414, "url_too_long")
    assert len(answer.content) < 4 * 1024


@pytest.mark.parametrize("headers", [{f"X-{i}": "1" for i in range(200)}, {"X-Long": "y" * MIB}])
async def test_a_flood_of_headers_is_refused(http, headers):
    answer = await http.get("/health", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (431, "headers_too_large")


async def test_a_body_that_does_not_come_is_given_up():
    async def never(begin: bytes):
        yield begin
        await asyncio.Event().wait()

    async with answering(body_timeout_s=0.05, upload_timeout_s=0.05) as http:
        for path, headers, begin in (
            (f"{API}/generate/x", JSON, b"{"),
            (f"{API}/upload", FORM, b"--x\r\n"),
        ):
            answer = await http.post(path, content=never(begin), headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (408, "body_too_slow")


async def test_a_burst_of_small_requests_is_taken(monkeypatch):
    monkeypatch.setattr(request_limits, "_AT_ONCE_S", 20.0)
    came = 0

    async def soon():
        # As behind Serve, where every body comes a moment after its headers.
        nonlocal came
        came += 1
        while came < 50:
            await asyncio.sleep(0)
        yield b'{"preset": "none"}'

    async with answering(max_arriving=8) as http:
        answers = await asyncio.gather(
            *(http.post(f"{API}/generate/x", content=soon(), headers=JSON) for _ in range(50))
        )
    assert [answer.status_code for answer in answers] == [422] * 50


async def test_an_answer_that_needs_no_body_is_not_followed_by_another():
    sent = []

    async def stream(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()

    async def never():
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    services = cast(Any, SimpleNamespace(limits=Limits(body_timeout_s=0.05)))
    services.budgets, services.client_header = Budgets(services.limits), None
    headers = [(b"content-length", b"1")]
    scope = {"type": "http", "path": "/", "headers": headers, "client": None}
    await RequestLimits(stream, services, {})(scope, never, send)
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert services.budgets.arriving.held == 0


async def test_a_large_photo_with_a_slash_too_many_is_told_where_to_go(http):
    files = {"file": ("p", b"\0" * MIB)}
    answer = await http.post(f"{API}/upload/", files=files)
    assert (answer.status_code, answer.headers["location"]) == (307, f"{API}/upload")


async def test_many_bodies_that_do_not_come_keep_nobody_out():
    end = asyncio.Event()

    async def slow():
        yield b"{"
        await end.wait()

    async with answering(max_arriving=8) as http:
        waiting = [
            asyncio.create_task(http.post(f"{API}/generate/x", content=slow(), headers=JSON))
            for _ in range(600)
        ]
        async with asyncio.timeout(20):
            while sum(task.done() for task in waiting) < 596:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert sum(not task.done() for task in waiting) == 4, "a client's share is waited for"
        refused = next(task.result() for task in waiting if task.done())
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_at_once")
        assert refused.headers["retry-after"]
        assert (await http.get("/health")).status_code == 200
        end.set()
        await asyncio.gather(*waiting)
        # What was held is free again.
        answer = await http.post(f"{API}/generate/x", json={"preset": "none"})
        assert answer.status_code == 422


async def test_a_photo_below_the_limit_is_read(idle_service):
    answer = await idle_service.http.post(f"{API}/upload", files={"file": ("p", photo())})
    assert answer.status_code == 200
