"""What HTTP clients of all kinds expect of any server: HEAD, conditions, ranges, and words."""

import httpx
import pytest

from pipeline.errors import Cancelled
from tests.serve_app.http.test_contract import API, upload

PROBLEM = "application/problem+json"


async def file_url(service) -> str:
    project = await upload(service)
    status = (await service.http.get(f"{API}/status/{project}")).json()
    return status["project"]["original_url"].removeprefix("http://test")


async def test_what_can_be_read_can_be_asked_for_its_headers(service, serving):
    project = await upload(service)
    await service.http.post(f"{API}/generate/{project}")
    job = (await service.http.get(f"{API}/status/{project}")).json()["job"]["id"]
    paths = ["/", "/health", "/ready", "/docs", "/openapi.json", f"{API}/projects", f"{API}/queue"]
    paths += [f"{API}/{path}" for path in (f"jobs/{job}", f"status/{project}")]
    paths += [f"{API}/projects/{project}{path}" for path in ("", "/report", "/manifest")]
    paths += [f"{API}/jobs/{job}/events", f"{API}/status/{project}/events"]
    async with httpx.AsyncClient(base_url=serving, timeout=30) as http:
        for path in paths:
            head = await http.head(path)
            assert head.status_code == (307 if path == "/" else 200), path
            assert head.content == b""
            if "events" not in path:
                got = await http.get(path)
                for name in ("content-type", "content-length"):
                    assert head.headers.get(name) == got.headers.get(name), (path, name)
        events = await http.head(f"{API}/jobs/{job}/events")
        assert events.headers["content-type"].startswith("text/event-stream")
        missing = await http.head(f"{API}/projects/nothing")
        assert (missing.status_code, missing.content) == (404, b"")


async def test_an_export_is_not_begun_to_learn_its_headers(service):
    project = await upload(service)
    await service.http.post(f"{API}/generate/{project}")
    answer = await service.http.head(f"{API}/export/{project}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert "export" not in service.models.calls


async def test_a_file_that_the_client_has_is_not_sent_again(service):
    url = await file_url(service)
    first = await service.http.get(url)
    tag, changed = first.headers["etag"], first.headers["last-modified"]
    for asked in (
        {"If-None-Match": tag},
        {"If-None-Match": f"W/{tag}"},
        {"If-None-Match": f'"other", {tag}'},
        {"If-None-Match": "*"},
        {"If-Modified-Since": changed},
        {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"If-None-Match": tag, "Range": "bytes=0-3"},
    ):
        for method in ("GET", "HEAD"):
            answer = await service.http.request(method, url, headers=asked)
            assert (answer.status_code, answer.content) == (304, b""), asked
            assert answer.headers["etag"] == tag
            assert answer.headers["cache-control"] == first.headers["cache-control"]
    for asked in (
        {"If-None-Match": '"other"'},
        {"If-None-Match": tag[1:-1]},
        {"If-None-Match": '"other"', "If-Modified-Since": changed},
        {"If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"},
        {"If-Modified-Since": "yesterday"},
        {"If-Modified-Since": ""},
    ):
        answer = await service.http.get(url, headers=asked)
        assert (answer.status_code, answer.content) == (200, first.content), asked


@pytest.mark.parametrize(
    "asked", ["items=0-5", "bytes=10-5", "bytes=", "bytes", "bytes=a-b", "bytes=0-1,5-2", ""]
)
async def test_a_range_that_cannot_be_read_does_not_count(service, asked):
    url = await file_url(service)
    whole = await service.http.get(url)
    answer = await service.http.get(url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, whole.content)


async def test_a_range_beyond_the_file_is_a_problem(service):
    url = await file_url(service)
    size = len((await service.http.get(url)).content)
    answer = await service.http.get(url, headers={"Range": f"bytes={size}-"})
    assert (answer.status_code, answer.headers["content-type"]) == (416, PROBLEM)
    assert answer.headers["content-range"] == f"bytes */{size}"
    assert answer.json()["code"] == "range_not_satisfiable"
    assert f"{size} bytes" in answer.json()["detail"]
    part = await service.http.get(url, headers={"Range": f"bytes={size - 2}-{size + 50}"})
    assert (part.status_code, len(part.content)) == (206, 2)


async def test_a_photo_that_is_no_file_part_is_told_how(service):
    form = {"file": (None, "https://example.com/photo.jpg")}
    answer = await service.http.post(f"{API}/upload", files=form)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "file.0"
    assert "curl -F file=@photo.jpg" in answer.json()["detail"]


async def test_of_two_photos_that_cannot_be_used_the_first_is_named(service):
    files = [("file", ("a.png", b"1")), ("file", ("b.png", b"2"))]
    answer = await service.http.post(f"{API}/upload", files=files)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == PROBLEM


async def test_json_without_its_content_type_is_told_so(service):
    project = await upload(service)
    url, body = f"{API}/generate/{project}", b'{"preset": "draft"}'
    for kind in ({}, {"Content-Type": "application/x-www-form-urlencoded"}):
        answer = await service.http.post(url, content=body, headers=kind)
        assert answer.status_code == 422
        assert "Content-Type: application/json" in answer.json()["detail"]
    for odd in (b"[1]", b'"text"', b"3"):
        answer = await service.http.post(
            url, content=odd, headers={"Content-Type": "application/json"}
        )
        assert answer.json()["detail"] == "body: The body must be a JSON object."


async def test_a_slash_too_many_is_told_and_led_on(service):
    for method, path, place in (
        ("POST", "/upload/", "/upload"),
        ("GET", "/projects/?limit=2", "/projects?limit=2"),
        ("GET", "/queue//", "/queue"),
    ):
        answer = await service.http.request(method, f"{API}{path}")
        assert (answer.status_code, answer.headers["location"]) == (307, f"{API}{place}")
        assert answer.headers["content-type"] == PROBLEM
        assert f"{API}{place}" in answer.json()["detail"]
    for path in ("//evil.example/", "/nowhere/", "//"):
        assert (await service.http.get(f"http://test{path}")).status_code == 404
    assert (await service.http.get(f"{API}/queue/", follow_redirects=True)).status_code == 200


async def test_an_id_in_capital_letters_is_the_same_id(service):
    project = await upload(service)
    answer = await service.http.post(
        f"{API}/generate/{project.upper()}", headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 202, answer.text
    job = answer.json()["id"]
    for path in (
        f"jobs/{job.upper()}?wait=20",
        f"jobs/{job.upper()}/events",
        f"status/{project.upper()}",
        f"projects/{project.upper()}/report",
        f"export/{project.upper()}",
    ):
        assert (await service.http.get(f"{API}/{path}")).status_code == 200, path
    assert (await service.http.delete(f"{API}/projects/{project.upper()}")).status_code == 204


async def test_the_front_page_is_the_documentation(service):
    answer = await service.http.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "http://test/docs")


async def test_every_error_is_a_problem_document(service):
    project = await upload(service)
    service.models.fail_at, service.models.failure = "views", Cancelled("stopped")
    for method, path in (
        ("GET", "/nowhere"),
        ("GET", "/static-offline-docs/nothing.js"),
        ("POST", "/static-offline-docs/swagger-ui.css"),
        ("POST", "/docs"),
        ("POST", "/openapi.json"),
        ("OPTIONS", f"{API}/queue"),
        ("TRACE", f"{API}/queue"),
        ("PATCH", f"{API}/projects/{project}"),
        ("GET", f"{API}/projects/{project}/"),
        ("GET", "/files/no-bucket/a"),
        ("GET", "/files/3d-models/a"),
        ("POST", f"{API}/generate/{project}"),
    ):
        answer = await service.http.request(method, path)
        assert answer.status_code >= 300, (method, path)
        assert answer.headers["content-type"] == PROBLEM, (method, path, answer.text)
        assert answer.json()["status"] == answer.status_code
