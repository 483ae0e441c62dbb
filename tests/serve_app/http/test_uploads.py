"""Uploads with an Idempotency-Key, and uploads that break off: one project, or nothing."""

import asyncio
import io
import threading
from dataclasses import replace

import pytest
from PIL import Image

from deployments.jobs.rows import ProjectStatus
from pipeline.errors import NotFound, Unavailable
from pipeline.flow import intake
from tests.serve_app.http.test_bad_input import left_behind
from tests.serve_app.http.test_contract import API, photo
from tests.serve_app.http.test_library import rows


async def sent(service, data: bytes, key: str | None = "key-1", **form):
    headers = {} if key is None else {"Idempotency-Key": key}
    return await service.http.post(
        f"{API}/upload", files={"file": ("p", data)}, data=form, headers=headers
    )


async def test_the_same_key_and_photo_are_the_same_project(idle_service):
    first = await sent(idle_service, photo())
    assert first.status_code == 200
    again = await sent(idle_service, photo())
    assert again.status_code == 200
    assert again.json()["project_id"] == first.json()["project_id"]
    assert again.json()["background_engine"] == first.json()["background_engine"]
    assert (await idle_service.http.get(again.json()["original_url"])).status_code == 200
    assert idle_service.models.calls.count("background") == 1, "no work is done twice"
    assert (await left_behind(idle_service))[0] == 1


async def test_what_of_a_photo_could_not_be_used_is_told(idle_service):
    plain = await sent(idle_service, photo(), key=None)
    assert plain.json()["notes"] == []
    data = io.BytesIO()
    with Image.open(io.BytesIO(photo())) as image:
        image.save(data, "PNG", icc_profile=b"no profile at all")
    (note,) = (await sent(idle_service, data.getvalue(), key=None)).json()["notes"]
    assert "colour profile cannot be used" in note


async def test_the_same_key_with_something_else_is_422(idle_service):
    await sent(idle_service, photo())
    for other in (
        await sent(idle_service, photo((80, 80))),
        await sent(idle_service, photo(), remove_bg="false"),
    ):
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    projects, files = await left_behind(idle_service)
    assert (projects, len(files)) == (1, 2)
    assert (await sent(idle_service, photo((80, 80)), "key-2")).status_code == 200


async def test_clients_that_count_their_requests_do_not_meet(idle_service):
    services = replace(idle_service.services, client_header="X-Client")
    idle_service.app.state.services = services

    async def both(client: str, data: bytes) -> list[str]:
        headers = {"Idempotency-Key": "1", "X-Client": client}
        files = {"file": ("p", data)}
        uploaded = await idle_service.http.post(f"{API}/upload", files=files, headers=headers)
        assert uploaded.status_code == 200, uploaded.text
        project_id = uploaded.json()["project_id"]
        job = await idle_service.http.post(
            f"{API}/generate/{project_id}", headers={**headers, "Prefer": "respond-async"}
        )
        assert job.status_code == 202, job.text
        return [project_id, job.json()["id"]]

    ann, bob = await both("ann", photo()), await both("bob", photo((80, 80)))
    assert not {*ann} & {*bob}
    assert [await both("ann", photo()), await both("bob", photo((80, 80)))] == [ann, bob]


async def test_without_a_key_every_upload_is_a_project(idle_service):
    for _ in range(2):
        assert (await sent(idle_service, photo(), None)).status_code == 200
    assert (await left_behind(idle_service))[0] == 2


@pytest.mark.parametrize("key", ["", "a b", "k" * 256])
async def test_a_malformed_key_is_422(idle_service, key):
    answer = await sent(idle_service, photo(), key)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option")
    assert await left_behind(idle_service) == (0, [])


async def both_prepared(service, *photos: bytes):
    """Uploads with one key that all get past the look for the key before any is finished."""
    service.models.hold_at = "background"
    requests = [asyncio.create_task(sent(service, data)) for data in photos]
    async with asyncio.timeout(20):
        while service.models.calls.count("background") < len(photos):
            await asyncio.sleep(0.01)
    service.models.release.set()
    return await asyncio.gather(*requests)


async def test_the_same_photo_sent_twice_at_once_is_one_project(idle_service):
    answers = await both_prepared(idle_service, photo(), photo())
    assert [answer.status_code for answer in answers] == [200, 200]
    assert len({answer.json()["project_id"] for answer in answers}) == 1
    projects, files = await left_behind(idle_service)
    assert (projects, len(files)) == (1, 2)
    for name in ("original_url", "processed_url"):
        assert (await idle_service.http.get(answers[1].json()[name])).status_code == 200


async def test_two_photos_with_one_key_at_once_are_one_project_and_a_422(idle_service):
    answers = await both_prepared(idle_service, photo(), photo((80, 80)))
    assert sorted(answer.status_code for answer in answers) == [200, 422]
    projects, files = await left_behind(idle_service)
    assert (projects, len(files)) == (1, 2)


async def test_clients_that_go_away_leave_no_more_photos_decoded_at_once(idle_service, monkeypatch):
    decode, at_once, most, go_on = intake.decode_photo, 0, 0, threading.Event()

    def held(data: bytes):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        go_on.wait(20)
        at_once -= 1
        return decode(data)

    monkeypatch.setattr(intake, "decode_photo", held)
    gone = [asyncio.create_task(sent(idle_service, photo(), None)) for _ in range(6)]
    async with asyncio.timeout(20):
        while at_once < 2:
            await asyncio.sleep(0.01)
    for client in gone:
        client.cancel()
    staying = asyncio.create_task(sent(idle_service, photo(), None))
    async with asyncio.timeout(20):
        # Photos that wait for their turn go at once, those in a thread with it.
        while idle_service.services.budgets.uploads.held > 3:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    go_on.set()
    assert (await staying).status_code == 200
    assert most == 2
    await asyncio.gather(*gone, return_exceptions=True)
    assert idle_service.services.budgets.uploads.held == 0


async def test_a_project_that_was_deleted_does_not_keep_its_key(idle_service):
    first = (await sent(idle_service, photo())).json()["project_id"]
    assert (await idle_service.http.delete(f"{API}/projects/{first}")).status_code == 204
    again = await sent(idle_service, photo())
    assert again.status_code == 200
    assert again.json()["project_id"] != first


@pytest.mark.parametrize("step", ["begin_upload", "finish_upload"])
async def test_a_store_that_is_away_in_an_upload_leaves_nothing(idle_service, monkeypatch, step):
    async def away(*_args, **_kwargs):
        raise Unavailable("The database does not answer now.")

    with monkeypatch.context() as broken:
        broken.setattr(type(idle_service.store.records), step, away)
        answer = await sent(idle_service, photo())
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert (await rows(idle_service), (await left_behind(idle_service))[1]) == ({}, [])
    assert (await sent(idle_service, photo())).status_code == 200, "the key is free"


@pytest.mark.parametrize("step", ["begin_upload", "finish_upload"])
async def test_an_answer_that_was_lost_leaves_all_or_nothing(idle_service, monkeypatch, step):
    done = getattr(type(idle_service.store.records), step)

    async def lost(self, *args, **kwargs):
        await done(self, *args, **kwargs)
        raise Unavailable("The connection was lost.")

    with monkeypatch.context() as broken:
        broken.setattr(type(idle_service.store.records), step, lost)
        answer = await sent(idle_service, photo())
    projects, files = await left_behind(idle_service)
    if step == "begin_upload":
        assert (answer.status_code, projects, files) == (503, 0, [])
    else:
        assert (answer.status_code, projects, len(files)) == (200, 1, 2), "all had been done"
        again = await sent(idle_service, photo())
        assert again.json()["project_id"] == answer.json()["project_id"]


async def test_a_store_that_goes_away_and_stays_away_leaves_an_upload_that_expires(
    idle_service, monkeypatch
):
    async def away(*_args, **_kwargs):
        raise Unavailable("The database does not answer now.")

    with monkeypatch.context() as broken:
        for step in ("finish_upload", "get_project", "delete_project"):
            broken.setattr(type(idle_service.store.records), step, away)
        assert (await sent(idle_service, photo())).status_code == 503
    listed = (await idle_service.http.get(f"{API}/projects")).json()
    assert listed["projects"] == []
    (project_id,) = await idle_service.store.records.expire_uploads(0)
    project = await idle_service.store.records.get_project(project_id)
    assert project.status is ProjectStatus.UPLOADING


async def test_an_upload_that_was_given_up_meanwhile_may_be_repeated(idle_service, monkeypatch):
    async def expired(*_args, **_kwargs):
        raise NotFound("There is no upload any more.")

    with monkeypatch.context() as slow:
        slow.setattr(type(idle_service.store.records), "finish_upload", expired)
        answer = await sent(idle_service, photo())
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)
    assert (await rows(idle_service), (await left_behind(idle_service))[1]) == ({}, [])
