"""Lists of projects, and projects that go: with every row and every byte."""

import asyncio
import base64
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from deployments.jobs.janitor import Janitor, JanitorSettings
from deployments.jobs.rows import JobKind, NewJob
from pipeline.errors import InvalidOption, Unavailable
from serve_app.http.routes.library import read_cursor, write_cursor
from serve_app.stores.shared_folder import MARKER
from tests.serve_app.http.test_contract import API, upload
from tests.serve_app.stores.rows import add_project


async def rows(service) -> dict[str, int]:
    """Tables that are not empty; marks of deleted projects stay for a while."""
    async with service.store.records._pool.acquire() as connection:
        names = await connection.fetch(
            "select table_name from information_schema.tables "
            "where table_schema = 'public' and table_type = 'BASE TABLE'"
        )
        counts = {
            name: await connection.fetchval(f'select count(*) from public."{name}"')
            for (name,) in names
            if name not in ("deletions", "file_store") and "migration" not in name
        }
    return {name: count for name, count in counts.items() if count}


def files(service) -> list[str]:
    return sorted(
        str(path.relative_to(service.files_dir))
        for path in service.files_dir.rglob("*")
        if path.is_file() and path.name != MARKER
    )


def impatient(service, monkeypatch) -> None:
    limits = replace(service.limits, delete_wait_s=0.05)
    monkeypatch.setattr(service.app.state, "services", replace(service.services, limits=limits))


async def made(service, count: int) -> list[str]:
    """Projects without files, the newest first."""
    ids = [f"project-{i}" for i in range(count)]
    for name in ids:
        await add_project(
            service.store.records,
            name,
            original_path=f"{name}/o",
            processed_path=f"{name}/p",
            background_engine="none",
        )
    return ids[::-1]


async def listed(service, **query) -> dict:
    answer = await service.http.get(f"{API}/projects", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_projects_are_listed_newest_first_page_by_page(idle_service):
    assert await listed(idle_service) == {"projects": [], "next_cursor": None}
    ids = await made(idle_service, 7)
    found, query = [], {"limit": 3}
    for size in (3, 3, 1):
        page = await listed(idle_service, **query)
        assert len(page["projects"]) == size
        found += [project["id"] for project in page["projects"]]
        query["cursor"] = page["next_cursor"]
    assert found == ids
    assert page["next_cursor"] is None
    assert len((await listed(idle_service))["projects"]) == 7
    assert (await listed(idle_service, limit=7))["next_cursor"] is None


async def test_a_project_that_comes_while_pages_are_turned_moves_nothing(idle_service):
    ids = await made(idle_service, 4)
    first = await listed(idle_service, limit=2)
    newest = await upload(idle_service)
    second = await listed(idle_service, limit=2, cursor=first["next_cursor"])
    assert [p["id"] for p in first["projects"] + second["projects"]] == ids
    assert (await listed(idle_service, limit=1))["projects"][0]["id"] == newest


async def test_projects_are_listed_by_status(service):
    ready, done = await upload(service), await upload(service)
    assert (await service.http.post(f"{API}/generate/{done}")).status_code == 200
    for status, ids in (("completed", [done]), ("ready", [ready]), ("failed", [])):
        assert [p["id"] for p in (await listed(service, status=status))["projects"]] == ids


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=many", "limit"),
        ("status=lost", "status"),
        ("page=2", "page"),
        ("cursor=", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=\u00e9", "cursor"),
        ("cursor=abc", "cursor"),
        ("cursor=" + "A" * 300, "cursor"),
        ("cursor=" + base64.urlsafe_b64encode(b"1.").decode(), "cursor"),
        ("cursor=" + base64.urlsafe_b64encode(b"1e9.x").decode(), "cursor"),
        ("cursor=" + base64.urlsafe_b64encode(b"-1.x").decode(), "cursor"),
        ("cursor=" + base64.urlsafe_b64encode(b"1.a\0b").decode(), "cursor"),
    ],
)
async def test_a_bad_query_of_the_list_is_422_and_named(idle_service, query, field):
    assert await listed(idle_service, limit=100, status="ready")
    answer = await idle_service.http.get(f"{API}/projects?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option"), answer.text
    assert field in answer.json()["detail"]


def test_a_cursor_is_exact_to_the_microsecond():
    for moment in (datetime(2026, 11, 22, 1, 2, 3, 456789, UTC), datetime(1970, 1, 1, tzinfo=UTC)):
        for project_id in ("a", "0" * 36, "a.b"):
            after = (moment, project_id)
            assert read_cursor(write_cursor(after)) == after
    assert read_cursor(write_cursor((moment, "aa")) + "==") == (moment, "aa")
    with pytest.raises(InvalidOption):
        read_cursor("====")


async def test_a_project_says_where_the_rest_of_it_is(service):
    project_id = await upload(service)
    await service.http.post(f"{API}/generate/{project_id}")
    project = (await service.http.get(f"{API}/projects/{project_id}")).json()
    status = (await service.http.get(project["status_url"])).json()
    links = {name: project.pop(name) for name in list(project) if name.endswith("_url")}
    shown = status["project"]
    assert links.pop("original_url").partition("?")[0] == shown["original_url"].partition("?")[0]
    assert links.pop("processed_url")
    assert links.pop("events_url") == f"http://test{API}/status/{project_id}/events"
    assert project == {name: shown[name] for name in project}
    assert set(links) == {"status_url", "report_url", "manifest_url"}
    for link in links.values():
        assert (await service.http.get(link)).status_code == 200


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_unknown_project_is_404(service, method):
    answer = await service.http.request(method, f"{API}/projects/nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def gone(service, project_id: str, urls: list[str]) -> None:
    """Nothing of the project is there, and nothing answers for it."""
    assert await rows(service) == {}
    assert files(service) == []
    for path in ("projects/{}", "status/{}", "projects/{}/report", "projects/{}/manifest"):
        answer = await service.http.get(f"{API}/{path.format(project_id)}")
        assert answer.status_code == 404, path
    assert (await service.http.post(f"{API}/generate/{project_id}")).status_code == 404
    assert (await listed(service))["projects"] == []
    for url in urls:
        answer = await service.http.get(url)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    again = await service.http.delete(f"{API}/projects/{project_id}")
    assert again.status_code in (204, 404)


async def test_an_idle_project_is_deleted_with_every_row_and_byte(service):
    project_id, other = await upload(service), await upload(service)
    for call in ("generate", "refine"):
        assert (await service.http.post(f"{API}/{call}/{project_id}")).status_code == 200
    exported = (await service.http.get(f"{API}/export/{project_id}?format=glb")).json()
    status = (await service.http.get(f"{API}/status/{project_id}")).json()
    of_other = [name for name in files(service) if other in name]
    assert len(files(service)) > len(of_other) + 40
    answer = await service.http.delete(f"{API}/projects/{project_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert files(service) == of_other, "the other project lost nothing"
    assert (await rows(service))["projects"] == 1
    assert (await service.http.delete(f"{API}/projects/{other}")).status_code == 204
    urls = [exported["download_url"], status["project"]["original_url"], *status["view_urls"]]
    await gone(service, project_id, urls)


async def test_a_queued_project_is_deleted(idle_service):
    project_id = await upload(idle_service)
    answer = await idle_service.http.post(
        f"{API}/generate/{project_id}", headers={"Prefer": "respond-async"}
    )
    assert (await idle_service.http.delete(f"{API}/projects/{project_id}")).status_code == 204
    assert (await idle_service.http.get(answer.headers["location"])).status_code == 404
    await gone(idle_service, project_id, [])


async def test_a_running_project_is_stopped_and_deleted(service):
    project_id = await upload(service)
    service.models.hold_at = "depth"
    waiting = asyncio.create_task(service.http.post(f"{API}/generate/{project_id}"))
    await service.models.holding.wait()
    answer = await service.http.delete(f"{API}/projects/{project_id}")
    assert answer.status_code == 204
    assert service.models.cancelled == ["depth"]
    # Who waited hears that it was cancelled, or that it is gone: whichever it sees first.
    assert (await waiting).status_code in (404, 409)
    await gone(service, project_id, [])


async def test_a_job_that_does_not_stop_in_time_is_left_to_the_background(
    idle_service, monkeypatch
):
    impatient(idle_service, monkeypatch)
    project_id = await upload(idle_service)
    records = idle_service.store.records
    await records.submit_job(NewJob(project_id, JobKind.GENERATE, {"seed": 1}, fingerprint="x"))
    lease = await records.claim_job("a driver that hears nothing", 30)
    answer = await idle_service.http.delete(f"{API}/projects/{project_id}")
    body = answer.json()
    assert (answer.status_code, body["status"], body["project_id"]) == (
        202,
        "deleting",
        project_id,
    )
    assert "background" in body["detail"]
    assert (await listed(idle_service))["projects"] == []
    refused = await idle_service.http.post(f"{API}/generate/{project_id}")
    assert refused.status_code == 404, "it takes no further jobs"

    await records.release_job(lease.job.id, lease.fence)
    await Janitor(idle_service.store, JanitorSettings()).tidy()
    await gone(idle_service, project_id, [])


async def test_files_that_cannot_be_deleted_now_are_deleted_later(idle_service, monkeypatch):
    project_id = await upload(idle_service)

    async def away(*_args):
        raise Unavailable("/srv/disk is away.", public="The disk is away.")

    with monkeypatch.context() as broken:
        broken.setattr(type(idle_service.store.blobs), "delete_prefix", away)
        answer = await idle_service.http.delete(f"{API}/projects/{project_id}")
    assert answer.status_code == 202
    assert "The disk is away." in answer.json()["detail"]
    assert len(files(idle_service)) == 2
    assert (await idle_service.http.delete(f"{API}/projects/{project_id}")).status_code == 204
    await gone(idle_service, project_id, [])


async def test_a_store_that_is_away_when_a_deletion_begins_is_503(idle_service, monkeypatch):
    project_id = await upload(idle_service)

    async def away(*_args):
        raise Unavailable("The database does not answer now.")

    with monkeypatch.context() as broken:
        broken.setattr(type(idle_service.store.records), "delete_project", away)
        answer = await idle_service.http.delete(f"{API}/projects/{project_id}")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert (await idle_service.http.get(f"{API}/projects/{project_id}")).status_code == 200


async def test_a_project_deleted_by_two_at_once_is_gone(service):
    project_id = await upload(service)
    await service.http.post(f"{API}/generate/{project_id}")
    url = f"{API}/projects/{project_id}"
    answers = await asyncio.gather(*(service.http.delete(url) for _ in range(3)))
    assert {answer.status_code for answer in answers} <= {204, 404}
    assert 204 in {answer.status_code for answer in answers}
    await gone(service, project_id, [])
