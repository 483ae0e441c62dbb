"""HTTP to Supabase without a server: what is sent again, what errors become, names of objects."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import nullcontext

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postgrest import APIError
from pydantic import ValidationError
from storage3.exceptions import StorageApiError

from deployments.jobs.job_errors import StaleAttempt
from pipeline.errors import (
    Conflict,
    GlimpseError,
    InvalidInput,
    InvalidOption,
    NotFound,
    Unavailable,
)
from serve_app.cli.doctor.schema_checks import promised
from serve_app.settings import AppArgs
from serve_app.stores import SupabaseSettings
from serve_app.stores.supabase.supabase_blobs import object_name, object_path
from serve_app.stores.supabase.supabase_errors import translated
from serve_app.stores.supabase.transport import Patience, SteadyTransport, may_repeat

URL = "http://project.test"

Answer = httpx.Response | Exception


class Scripted:
    """Answers requests in turn, and remembers how long was waited between."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def client(self, patience: Patience | None = None) -> httpx.AsyncClient:
        inner = httpx.MockTransport(self.handle)
        return httpx.AsyncClient(
            transport=SteadyTransport(inner, patience, sleep=self.sleep), base_url=URL
        )


def answer(status: int, body: object = None, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=body, headers=names)


def rpc(function: str, **arguments: object) -> httpx.Request:
    return httpx.Request("POST", f"{URL}/rest/v1/rpc/{function}", json=arguments)


def stored(method: str, path: str, **headers: str) -> httpx.Request:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Request(method, f"{URL}/storage/v1/{path}", headers=names)


@pytest.mark.parametrize(
    ("request_", "safe"),
    [
        (rpc("get_job_v1", p_job_id="j"), True),
        (rpc("heartbeat_v1", p_job_id="j"), True),
        (rpc("commit_stage_v1"), True),
        (rpc("finish_job_v1"), True),
        (rpc("cancel_job_v1"), True),
        (rpc("claim_job_v1"), False),
        (rpc("claim_webhook_v1"), False),
        (rpc("release_job_v1"), True),
        (rpc("begin_upload_v1"), False),
        (rpc("submit_job_v1", p_idempotency_key="k"), True),
        (rpc("submit_job_v1", p_idempotency_key=None), False),
        (rpc("submit_job_v1", p_options={"p_idempotency_key": "k"}), False),
        (stored("GET", "object/3d-models/p/v0.ply"), True),
        (stored("HEAD", "upload/resumable/u"), True),
        (stored("DELETE", "object/3d-models"), True),
        (stored("POST", "object/list-v2/3d-models"), True),
        (stored("POST", "object/sign/3d-models/p"), True),
        (stored("POST", "upload/resumable"), True),
        (stored("PATCH", "upload/resumable/u", x_upsert="true"), False),
        (stored("POST", "object/3d-models/p/v0.ply", x_upsert="true"), True),
        (stored("POST", "object/3d-models/p/v0.ply"), False),
        (httpx.Request("POST", f"{URL}/rest/v1/jobs"), False),
    ],
)
def test_only_what_may_be_done_twice_is_repeated(request_: httpx.Request, safe: bool):
    assert may_repeat(request_) is safe


#: Each call of these adds or takes something.
ONCE = {
    "arrange_photos_v1",
    "begin_upload_v1",
    "claim_job_v1",
    "claim_webhook_v1",
    "publish_preview_v1",
}
#: A second call of these changes nothing more, or reads.
AGAIN = {
    "begin_photo_v1",
    "cancel_job_v1",
    "commit_stage_v1",
    "committed_v1",
    "delete_project_v1",
    "due_deletions_v1",
    "due_photos_v1",
    "end_deletion_v1",
    "end_photo_v1",
    "ended_jobs_v1",
    "expire_projects_v1",
    "expire_uploads_v1",
    "file_store_v1",
    "find_photo_v1",
    "find_upload_v1",
    "finish_job_v1",
    "finish_upload_v1",
    "finish_webhook_v1",
    "forget_v1",
    "get_job_v1",
    "get_project_v1",
    "heartbeat_v1",
    "inspect_v1",
    "job_events_v1",
    "jobs_to_sweep_v1",
    "list_projects_v1",
    "mark_swept_v1",
    "name_file_store_v1",
    "project_detail_v1",
    "project_events_v1",
    "project_jobs_v1",
    "purge_project_v1",
    "put_view_edit_v1",
    "queue_v1",
    "referenced_paths_v1",
    "release_job_v1",
    "restore_version_v1",
    "schema_version_v1",
    "take_photo_back_v1",
    "take_view_edit_v1",
}


def test_of_every_function_it_is_known_whether_it_may_be_repeated():
    steps = promised().steps
    assert steps == ONCE | AGAIN | {"submit_job_v1"}, "say of a new function which it is"
    assert {name for name in steps if may_repeat(rpc(name))} == AGAIN


@pytest.mark.parametrize("function", ["claim_job_v2", "release_job_v3", "no_such_function", ""])
def test_a_function_that_nobody_listed_is_not_repeated(function: str):
    assert not may_repeat(rpc(function))


async def test_repeats_until_it_works():
    script = Scripted(
        httpx.ReadTimeout("late"), answer(503), answer(429, Retry_After="2"), answer(200, "done")
    )
    async with script.client() as http:
        found = await http.post("/rest/v1/rpc/get_job_v1", json={})
    assert found.json() == "done"
    assert len(script.pauses) == 3
    assert 0.1 <= script.pauses[0] <= 0.4
    assert script.pauses[2] >= 2, "what the server asks for"
    bodies = {request.content for request in script.requests}
    assert bodies == {b"{}"}


async def test_pauses_differ_between_clients():
    scripts = [Scripted(answer(503), answer(200)) for _ in range(8)]
    for script in scripts:
        async with script.client() as http:
            await http.get("/rest/v1/jobs")
    assert len({script.pauses[0] for script in scripts}) > 1


async def test_a_whole_file_is_sent_again():
    script = Scripted(answer(502), answer(200))
    async with script.client() as http:
        await http.post(
            "/storage/v1/object/3d-models/p",
            files={"file": ("p", b"bytes" * 1000)},
            headers={"x-upsert": "true"},
        )
    first, second = [request.read() for request in script.requests]
    assert first == second
    assert len(second) > 5000


@pytest.mark.parametrize("fault", [httpx.ReadTimeout("late"), httpx.RemoteProtocolError("cut")])
async def test_what_may_have_been_done_is_not_done_again(fault: Exception):
    script = Scripted(fault)
    async with script.client() as http:
        with pytest.raises(type(fault)):
            await http.post("/rest/v1/rpc/claim_job_v1", json={})
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    "fault", [httpx.ConnectError("refused"), httpx.ConnectTimeout("late"), answer(429)]
)
async def test_what_was_turned_away_is_done_again_whatever_it_is(fault: Answer):
    script = Scripted(fault, answer(200))
    async with script.client() as http:
        assert (await http.post("/rest/v1/rpc/claim_job_v1", json={})).status_code == 200


async def test_gives_up_in_the_end():
    script = Scripted(*[httpx.ConnectError("refused")] * 9)
    async with script.client(Patience(tries=3)) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get("/rest/v1/jobs")
    assert len(script.requests) == 3


async def test_does_not_wait_for_longer_than_it_has():
    script = Scripted(answer(429, {"message": "slow down"}, Retry_After="120"))
    async with script.client() as http:
        with pytest.raises(Unavailable, match="too many requests"):
            await http.get("/rest/v1/jobs")
    assert script.pauses == []


class BrokenOff(httpx.AsyncByteStream):
    """The head of an answer has come, and half of its body."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"half"
        raise httpx.ReadError("cut")


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("GET", "/storage/v1/object/3d-models/p", 2),
        ("POST", "/rest/v1/rpc/get_job_v1", 2),
        ("POST", "/rest/v1/rpc/claim_job_v1", 1),
    ],
)
async def test_an_answer_that_breaks_off_counts_as_none(method: str, path: str, sent: int):
    script = Scripted(httpx.Response(200, stream=BrokenOff()), answer(200, "whole"))
    async with script.client() as http:
        with pytest.raises(httpx.ReadError) if sent == 1 else nullcontext():
            assert (await http.request(method, path, json={})).json() == "whole"
    assert len(script.requests) == sent


async def test_what_storage_means_counts_not_what_it_says():
    """HTTP 400 with another status in its body."""
    busy = {"statusCode": "503", "error": "SlowDown", "code": "SlowDown", "message": "m"}
    wrong = {"statusCode": "404", "error": "not_found", "message": "m"}
    script = Scripted(answer(400, busy), answer(400, wrong))
    async with script.client() as http:
        found = await http.get("/storage/v1/object/3d-models/p")
    assert found.json() == wrong
    assert len(script.requests) == 2


async def test_a_server_that_accepts_and_is_silent_is_given_up_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    class Silent(Scripted):
        def handle(self, request: httpx.Request) -> httpx.Response:
            now[0] += 60
            return super().handle(request)

    script = Silent(*[httpx.ReadTimeout("late")] * 9)
    async with script.client() as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.get("/storage/v1/object/3d-models/p")
    assert len(script.requests) == 3


async def test_a_web_server_is_no_supabase():
    page = httpx.Response(200, html="<!doctype html>")
    async with Scripted(page).client() as http:
        with pytest.raises(Unavailable, match="no Supabase"):
            await http.post("/rest/v1/rpc/claim_job_v1", json={})


async def test_rows_and_files_have_their_own_patience():
    script = Scripted(answer(200), answer(200))
    async with script.client(Patience(rows_s=3, files_s=40, connect_s=2)) as http:
        await http.post("/rest/v1/rpc/queue_v1", json={})
        await http.get("/storage/v1/object/3d-models/p")
    rows, files = [request.extensions["timeout"] for request in script.requests]
    assert rows == {"connect": 2, "read": 3, "write": 3, "pool": None}
    assert files == {"connect": 2, "read": 40, "write": 40, "pool": None}


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (401, {"message": "Invalid API key", "hint": "Double check."}, "SERVICE_ROLE_KEY"),
        (403, {"message": "Forbidden"}, "SERVICE_ROLE_KEY"),
        (404, {"message": "no Route matched with those values"}, "SUPABASE_URL"),
        (503, None, "HTTP 503"),
        (540, {"message": "Project paused"}, "Project paused"),
        (429, {"message": "rate"}, "too many requests"),
    ],
)
async def test_a_gateway_is_understood(status: int, body: object, told: str):
    script = Scripted(*[answer(status, body) for _ in range(4)])
    async with script.client() as http:
        with pytest.raises(Unavailable, match=told):
            await http.post("/rest/v1/rpc/queue_v1", json={})


async def test_what_the_services_say_is_left_to_the_client():
    for body in ({"code": "GL404", "message": "m"}, {"statusCode": "404", "error": "not_found"}):
        script = Scripted(answer(401, body))
        async with script.client() as http:
            found = await http.get("/rest/v1/jobs")
        assert found.json() == body


def rest(code: str | None, message: str = "m", details: str | None = None) -> APIError:
    return APIError({"code": code, "message": message, "details": details, "hint": None})


def storage(status: int | str, word: str) -> StorageApiError:
    return StorageApiError("told", word, status)


@pytest.mark.parametrize(
    ("raised", "kind", "told"),
    [
        (rest("GL410"), StaleAttempt, "m"),
        (rest("GL404"), NotFound, "m"),
        (rest("PGRST202"), Unavailable, "migrations"),
        (rest("PGRST301", "JWSError"), Unavailable, "SERVICE_ROLE_KEY"),
        (rest("PGRST303", "JWT expired"), Unavailable, "JWT expired"),
        (rest("PGRST003"), Unavailable, "database"),
        (rest("42501", "permission denied for function"), Unavailable, "SERVICE_ROLE_KEY"),
        (rest("23505"), Conflict, "m"),
        (rest("57014"), Unavailable, "m"),
        (rest("502"), Unavailable, "HTTP 502"),
        (rest("418"), GlimpseError, "HTTP 418"),
        (rest(None), GlimpseError, "m"),
        (storage("404", "not_found"), NotFound, "a.png in 3d-models"),
        (storage("404", "Bucket not found"), Unavailable, "bucket 3d-models.*supabase sql"),
        (storage("413", "Payload too large"), InvalidInput, "larger"),
        (storage("415", "invalid_mime_type"), InvalidInput, "type"),
        (storage("409", "Duplicate"), Conflict, "3d-models"),
        (storage("403", "Unauthorized"), Unavailable, "SERVICE_ROLE_KEY"),
        (storage("400", "InvalidJWT"), Unavailable, "SERVICE_ROLE_KEY"),
        (storage("400", "InvalidKey"), InvalidInput, "path"),
        (storage("544", "DatabaseTimeout"), Unavailable, "544"),
        (storage("503", "DatabaseReadOnly"), Unavailable, "503"),
        (storage("what", "Odd"), Unavailable, "500"),
        (storage(400, "Odd"), GlimpseError, "Odd"),
        (httpx.ReadTimeout("late"), Unavailable, "in time"),
        (httpx.ConnectError("refused"), Unavailable, "refused"),
        (httpx.DecodingError("gzip"), GlimpseError, "gzip"),
        (json.JSONDecodeError("m", "<!doctype", 0), GlimpseError, "cannot be read"),
        (KeyError("Upload-Offset"), GlimpseError, "Upload-Offset"),
    ],
)
def test_every_error_of_the_client_is_ours(raised: Exception, kind: type[GlimpseError], told: str):
    with (
        pytest.raises(GlimpseError, match=f"(?s){told}") as caught,
        translated("3d-models", "a.png"),
    ):
        raise raised
    assert type(caught.value) is kind


def test_a_refusal_without_a_file_or_a_bucket_says_what_was_asked_for():
    refused = StorageApiError("signature verification failed", "Unauthorized", 403)
    with pytest.raises(Unavailable, match="the key for the list of buckets"), translated():
        raise refused


def test_mistakes_of_ours_are_not_hidden():
    with pytest.raises(ZeroDivisionError), translated():
        raise ZeroDivisionError


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\\"), min_size=1))
def test_object_names_are_plain_and_lead_back(path: str):
    try:
        name = object_name(path)
    except InvalidInput:
        return
    assert name.isascii()
    assert set(name) <= set("=./_-") | set(map(chr, range(48, 123)))
    assert object_path(name) == path


@pytest.mark.parametrize(
    "path", ["t/" + "\u5199" * 28 + "abc", "t/" + "a" * 255, "/".join(["a" * 89] * 9 + ["a" * 90])]
)
def test_names_as_long_as_storage_takes_them(path: str):
    assert object_path(object_name(path)) == path
    with pytest.raises(InvalidInput, match="too long"):
        object_name(f"{path}a")


@pytest.mark.parametrize("name", ["p/a b.png", "p/=FF.png", "p/=2E/x", "=", "a//b", "p/=zz"])
def test_names_of_others_stay_as_they_are(name: str):
    assert object_path(name) == name


def test_documented_paths_are_names_as_they_are():
    for path in ("p-1/views/00.png", "p_1/models/final.splat.glb", "p/enhanced/1/00.after.png"):
        assert object_name(path) == path


@pytest.mark.parametrize(
    ("url", "key", "told"),
    [
        ("", "k", "SUPABASE_URL"),
        ("abc.supabase.co", "k", "SUPABASE_URL"),
        ("https://abc.supabase.co/rest/v1", "k", "SUPABASE_URL"),
        ("https://user:hunter2@abc.supabase.co", "k", "SUPABASE_URL"),
        ("postgresql://postgres:hunter2@db.abc.supabase.co", "k", "SUPABASE_URL"),
        ("http://abc.supabase.co", "k", "https"),
        ("https://abc.supabase.co", "", "SUPABASE_SERVICE_ROLE_KEY"),
        ("https://abc.supabase.co", "two words", "SUPABASE_SERVICE_ROLE_KEY"),
        ("https://abc.supabase.co", "schlüssel", "SUPABASE_SERVICE_ROLE_KEY"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(url: str, key: str, told: str):
    with pytest.raises(InvalidOption, match=told) as caught:
        SupabaseSettings(url, key).prepare()
    assert "hunter2" not in caught.value.detail


def test_settings_take_what_people_paste_and_keep_the_key_secret():
    settings = SupabaseSettings(" https://abc.supabase.co/ ", " sb_secret_1234\n").prepare()
    assert (settings.url, settings.key) == ("https://abc.supabase.co", "sb_secret_1234")
    assert "sb_secret_1234" not in repr(settings)


def test_faulty_arguments_are_told_without_the_keys_in_them():
    for arguments in (
        {"supabase_url": "https://a.supabase.co", "database_url": "postgresql://u:hunter2@h/d"},
        {"supabase_service_role_key": "sb_secret_hunter2"},
        {"supabase_url": "https://a.supabase.co", "supabase_key": ["sb_secret_hunter2"]},
    ):
        with pytest.raises(ValidationError) as caught:
            AppArgs.model_validate(arguments)
        assert "hunter2" not in str(caught.value)
