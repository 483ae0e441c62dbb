"""Streams of events: every one once and in order, whatever breaks in between."""

import asyncio
from contextlib import contextmanager
from dataclasses import replace

import pytest

from deployments.jobs.rows import JobKind, JobState, NewJob
from pipeline.control import Progress, ignore_progress
from pipeline.errors import Unavailable
from serve_app.cli.client import Client, ServiceError
from serve_app.http import event_stream as sse
from tests.fakes import some_model
from tests.serve_app.http.streams import streaming
from tests.serve_app.http.test_contract import API, upload


async def submitted(service, project_id: str, kind: str = "generate") -> str:
    answer = await service.http.post(
        f"{API}/{kind}/{project_id}", headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


async def ended(service, job_id: str) -> dict:
    job = (await service.http.get(f"{API}/jobs/{job_id}", params={"wait": 20})).json()
    assert job["state"] in ("succeeded", "failed", "cancelled"), job
    return job


def limit(service, monkeypatch, **limits) -> None:
    changed = replace(service.services, limits=replace(service.limits, **limits))
    monkeypatch.setattr(service.app.state, "services", changed)


@pytest.fixture
def watching(monkeypatch, idle_service) -> dict[str, int]:
    """How many watch at this moment, and how many ever have."""
    count = {"now": 0, "ever": 0}
    kind = type(idle_service.store.records)
    for name in ("watch_job", "watch_project"):
        original = getattr(kind, name)

        @contextmanager
        def counted(self, an_id, original=original):
            with original(self, an_id) as changed:
                count["now"] += 1
                count["ever"] += 1
                try:
                    yield changed
                finally:
                    count["now"] -= 1

        monkeypatch.setattr(kind, name, counted)
    return count


async def test_a_job_is_told_from_its_first_event_to_its_end(service):
    project_id = await upload(service)
    service.models.hold_at = "depth"
    job_id = await submitted(service, project_id)
    await service.models.holding.wait()
    async with streaming(service.app, f"{API}/jobs/{job_id}/events") as stream:
        told = await stream.until(stage="depth")
        service.models.release.set()
        told += await stream.rest()
    assert stream.status == 200
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.headers["cache-control"] == "no-cache"
    assert stream.retry == sse.RETRY_MS
    assert [event.id for event in told] == [str(i) for i in range(1, len(told) + 1)]
    assert {event.kind for event in told} >= {"state", "stage", "commit"}
    for event in told:
        assert (event.data["job_id"], event.data["project_id"]) == (job_id, project_id)
        assert str(event.data["seq"]) == event.id
        assert event.data["at"]
    assert told[0].data["state"] == "queued"
    assert (told[-1].kind, told[-1].data["state"]) == ("state", "succeeded")
    times = [event.data["at"] for event in told]
    assert times == sorted(times)


async def test_what_a_fit_has_so_far_comes_with_an_address_that_ends_with_the_job(service):
    project_id = await upload(service)
    showing, reconstruct = asyncio.Event(), service.models.reconstruct

    async def watched(request, report=ignore_progress):
        report(Progress(0.5, "half", preview=some_model(7)))
        await showing.wait()
        return await reconstruct(request, report)

    service.models.reconstruct = watched
    job_id = await submitted(service, project_id)
    async with streaming(service.app, f"{API}/jobs/{job_id}/events") as stream:
        *_, shown = await stream.until(splat_count=7)
        assert (shown.kind, shown.data["stage"], shown.data["step"]) == (
            "preview",
            "splats",
            "half",
        )
        assert "path" not in shown.data
        file = await service.http.get(shown.data["url"])
        assert (file.status_code, len(file.content)) == (200, 7 * 32)
        showing.set()
        await stream.rest()
    await ended(service, job_id)
    assert (await service.http.get(shown.data["url"])).status_code == 404
    async with streaming(service.app, f"{API}/status/{project_id}/events") as stream:
        *_, again = await stream.until(splat_count=7)
    assert again.kind == "preview"


async def test_a_stream_goes_on_behind_the_last_event_that_came(service):
    job_id = await submitted(service, await upload(service))
    await ended(service, job_id)
    url = f"{API}/jobs/{job_id}/events"
    async with streaming(service.app, url) as stream:
        everything = await stream.rest()
    assert len(everything) > 5
    for last in range(len(everything)):
        async with streaming(service.app, url, str(last)) as stream:
            assert await stream.rest() == everything[last:]
    async with streaming(service.app, f"{url}?last_event_id=3") as stream:
        assert await stream.rest() == everything[3:]
    async with streaming(service.app, f"{url}?last_event_id=1", "4") as stream:
        assert await stream.rest() == everything[4:], "the header is newer"
    async with streaming(service.app, f"{url}?last_event_id=", "") as stream:
        assert await stream.rest() == everything


async def test_a_job_that_has_been_told_to_its_end_is_204(service):
    job_id = await submitted(service, await upload(service))
    await ended(service, job_id)
    url = f"{API}/jobs/{job_id}/events"
    async with streaming(service.app, url) as stream:
        last = (await stream.rest())[-1].id
    for beyond in (last, str(int(last) + 5)):
        answer = await service.http.get(url, headers={"Last-Event-ID": beyond})
        assert (answer.status_code, answer.content) == (204, b"")


async def test_of_a_job_whose_history_went_the_end_is_told(service):
    project_id = await upload(service)
    job_id = await submitted(service, project_id)
    job = await ended(service, job_id)
    url = f"{API}/jobs/{job_id}/events"
    async with streaming(service.app, url) as stream:
        end = (await stream.rest())[-1]
    assert await service.store.records.forget(0.0) > 0
    for seen in (None, "1"):
        async with streaming(service.app, url, seen) as stream:
            assert await stream.rest() == [end]
    answer = await service.http.get(url, headers={"Last-Event-ID": end.id})
    assert answer.status_code == 204
    again = (await service.http.get(f"{API}/jobs/{job_id}")).json()
    assert again == job
    async with streaming(service.app, f"{API}/status/{project_id}/events") as stream:
        assert (await stream.until(state="succeeded"))[0].data["seq"] == end.data["seq"]


@pytest.mark.parametrize("bad", ["one", "-1", "1.5", "1-1", "99999999999", "1 2", "\u0661"])
async def test_a_malformed_id_of_a_job_event_is_422(idle_service, bad):
    job_id = await submitted(idle_service, await upload(idle_service))
    answer = await idle_service.http.get(
        f"{API}/jobs/{job_id}/events", params={"last_event_id": bad}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option")
    assert "Last-Event-ID" in answer.json()["detail"]


@pytest.mark.parametrize("bad", ["7", "a-1", "1-", "-1-1", "1-1-1", "1" * 30 + "-1"])
async def test_a_malformed_id_of_a_project_event_is_422(idle_service, bad):
    project_id = await upload(idle_service)
    answer = await idle_service.http.get(
        f"{API}/status/{project_id}/events", headers={"Last-Event-ID": bad}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option")


async def test_a_malformed_id_is_422_beside_a_good_one(idle_service):
    project_id = await upload(idle_service)
    job_id = await submitted(idle_service, project_id)
    for path, good in ((f"jobs/{job_id}", "1"), (f"status/{project_id}", "1-1")):
        for query, header in (("bad", good), (good, "bad")):
            answer = await idle_service.http.get(
                f"{API}/{path}/events",
                params={"last_event_id": query},
                headers={"Last-Event-ID": header},
            )
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option")


@pytest.mark.parametrize("path", ["jobs/nobody/events", "status/nobody/events"])
async def test_an_unknown_id_is_a_problem_before_the_stream(service, path):
    answer = await service.http.get(f"{API}/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_store_that_is_away_before_the_stream_is_503(service, monkeypatch):
    async def away(*_args, **_kwargs):
        raise Unavailable("The database does not answer now.")

    for name in ("get_job", "get_project"):
        monkeypatch.setattr(type(service.store.records), name, away)
    for path in ("jobs/x/events", "status/x/events"):
        assert (await service.http.get(f"{API}/{path}")).status_code == 503


async def test_a_quiet_stream_says_that_it_lives(idle_service, monkeypatch):
    limit(idle_service, monkeypatch, keep_alive_s=0.02)
    project_id = await upload(idle_service)
    job_id = await submitted(idle_service, project_id)
    for path in (f"jobs/{job_id}/events", f"status/{project_id}/events"):
        async with streaming(idle_service.app, f"{API}/{path}") as stream:
            assert (await stream.next()).data["state"] == "queued"
            for _ in range(3):
                assert (await stream.block()).startswith(":")


async def test_the_service_closes_a_stream_whose_time_is_up(idle_service, monkeypatch):
    limit(idle_service, monkeypatch, max_stream_s=0.05)
    project_id = await upload(idle_service)
    job_id = await submitted(idle_service, project_id)
    url = f"{API}/jobs/{job_id}/events"
    async with streaming(idle_service.app, url) as stream:
        (first,) = await stream.rest()
    await idle_service.http.post(f"{API}/jobs/{job_id}/cancel")
    async with streaming(idle_service.app, url, first.id) as stream:
        told = await stream.rest()
    assert [(e.id, e.data.get("state")) for e in told] == [("2", "cancelled")]
    async with streaming(idle_service.app, f"{API}/status/{project_id}/events") as stream:
        assert len(await stream.rest()) == 2


async def test_a_client_that_goes_away_ends_its_stream(idle_service, watching):
    project_id = await upload(idle_service)
    job_id = await submitted(idle_service, project_id)
    for path in (f"jobs/{job_id}/events", f"status/{project_id}/events"):
        async with streaming(idle_service.app, f"{API}/{path}") as stream:
            await stream.next()
            assert watching["now"] == 1
        assert watching["now"] == 0
    assert watching["ever"] == 2


async def test_a_client_that_stopped_reading_and_goes_away_ends_its_stream(idle_service, watching):
    job_id = await submitted(idle_service, await upload(idle_service))
    async with streaming(idle_service.app, f"{API}/jobs/{job_id}/events") as stream:
        stream.reading.clear()
        await idle_service.http.post(f"{API}/jobs/{job_id}/cancel")
        # It waits in `send` now, or will.
        await asyncio.sleep(0.05)
        assert watching["now"] == 1
    assert watching["now"] == 0


async def test_a_client_that_takes_nothing_is_left_when_the_time_is_up(
    idle_service, watching, monkeypatch
):
    limit(idle_service, monkeypatch, max_stream_s=0.05, keep_alive_s=0.05)
    job_id = await submitted(idle_service, await upload(idle_service))
    url = f"{API}/jobs/{job_id}/events"
    async with streaming(idle_service.app, url, reading=False) as stream:
        async with asyncio.timeout(20):
            await stream.ended()
    assert stream.status == 0
    assert watching["now"] == 0


async def test_a_request_that_is_cancelled_ends_its_stream(idle_service, watching):
    """Serve cancels the request of a client that went away."""
    job_id = await submitted(idle_service, await upload(idle_service))

    async def follow() -> None:
        async with streaming(idle_service.app, f"{API}/jobs/{job_id}/events") as stream:
            await stream.rest()

    request = asyncio.create_task(follow())
    async with asyncio.timeout(20):
        while watching["now"] == 0:
            await asyncio.sleep(0.01)
    request.cancel()
    await asyncio.wait({request}, timeout=20)
    assert request.cancelled()
    assert watching["now"] == 0


async def test_a_store_that_is_away_for_a_moment_costs_no_event_and_repeats_none(
    service, monkeypatch
):
    monkeypatch.setattr(sse, "_AWAY_S", 0.01)
    monkeypatch.setattr(sse, "PAGE", 3)
    project_id = await upload(service)
    kind = type(service.store.records)
    for name, path in (
        ("job_events", "jobs/{job_id}/events"),
        ("project_events", "status/{project_id}/events"),
    ):
        read, calls = getattr(kind, name), 0

        async def shaky(self, *args, read=read, **kwargs):
            nonlocal calls
            calls += 1
            if calls % 3:
                raise Unavailable("The database does not answer now.")
            return await read(self, *args, **kwargs)

        job_id = await submitted(service, project_id)
        with monkeypatch.context() as broken:
            broken.setattr(kind, name, shaky)
            url = f"{API}/{path.format(job_id=job_id, project_id=project_id)}"
            async with streaming(service.app, url) as stream:
                told = await stream.until(job_id=job_id, state="succeeded")
        of_this = [e.data["seq"] for e in told if e.data["job_id"] == job_id]
        assert of_this == list(range(1, len(of_this) + 1))
        assert stream.comments > 0


async def test_events_are_read_in_pages_until_there_are_no_more(service, monkeypatch):
    monkeypatch.setattr(sse, "PAGE", 2)
    job_id = await submitted(service, await upload(service))
    await ended(service, job_id)
    async with streaming(service.app, f"{API}/jobs/{job_id}/events") as stream:
        told = await stream.rest()
    assert [e.data["seq"] for e in told] == list(range(1, len(told) + 1))
    assert told[-1].data["state"] == "succeeded"


async def test_the_stream_of_a_project_goes_on_over_its_jobs_until_it_is_deleted(service):
    project_id = await upload(service)
    url = f"{API}/status/{project_id}/events"
    async with streaming(service.app, url) as stream:
        jobs, told = [], []
        for kind in ("generate", "refine"):
            jobs.append(await submitted(service, project_id, kind))
            told += await stream.until(job_id=jobs[-1], state="succeeded")
        assert list(dict.fromkeys(event.data["job_id"] for event in told)) == jobs
        places = [tuple(map(int, event.id.split("-"))) for event in told]
        assert places == sorted(set(places))
        for event in told:
            assert event.id == f"{event.data['job_number']}-{event.data['seq']}"

        middle = len(told) // 2
        async with streaming(service.app, url, told[middle].id) as later:
            again = await later.until(job_id=jobs[1], state="succeeded")
        assert again == told[middle + 1 :]

        assert (await service.http.delete(f"{API}/projects/{project_id}")).status_code == 204
        (last,) = await stream.rest()
    assert (last.kind, last.data) == ("deleted", {"project_id": project_id})
    assert (await service.http.get(url)).status_code == 404


async def test_the_stream_of_a_job_ends_when_its_project_is_deleted(idle_service):
    project_id = await upload(idle_service)
    job_id = await submitted(idle_service, project_id)
    async with streaming(idle_service.app, f"{API}/jobs/{job_id}/events") as stream:
        await stream.next()
        assert (await idle_service.http.delete(f"{API}/projects/{project_id}")).status_code == 204
        last = (await stream.rest())[-1]
    assert last.kind == "deleted" or last.data["state"] == "cancelled"


async def test_a_job_that_was_asked_to_stop_says_so(service):
    service.models.hold_at = "views"
    job_id = await submitted(service, await upload(service))
    await service.models.holding.wait()
    async with streaming(service.app, f"{API}/jobs/{job_id}/events") as stream:
        answer = await service.http.post(f"{API}/jobs/{job_id}/cancel")
        assert answer.json()["cancel_requested"] is True
        told = await stream.rest()
    kinds = [event.kind for event in told]
    assert kinds.index("cancel") < len(kinds) - 1
    assert told[-1].data["state"] == "cancelled"


async def test_streams_are_in_the_documentation(service):
    paths = (await service.http.get("/openapi.json")).json()["paths"]
    for path in ("/api/v1/jobs/{job_id}/events", "/api/v1/status/{project_id}/events"):
        answers = paths[path]["get"]["responses"]
        assert "text/event-stream" in answers["200"]["content"], path
        names = {p["name"] for p in paths[path]["get"]["parameters"]}
        assert {"Last-Event-ID", "last_event_id"} <= names


async def test_the_client_follows_a_job_over_closed_connections(service, serving, monkeypatch):
    limit(service, monkeypatch, max_stream_s=0.1)
    project_id = await upload(service)
    service.models.hold_at = "depth"
    job_id = await submitted(service, project_id)
    client = Client.of(serving)
    following = asyncio.create_task(asyncio.to_thread(lambda: list(client.events(job_id))))
    await service.models.holding.wait()
    await asyncio.sleep(0.3)
    service.models.release.set()
    told = await asyncio.wait_for(following, 30)
    assert [int(event.id) for event in told] == list(range(1, len(told) + 1))
    assert (told[-1].kind, told[-1].data["state"]) == ("state", "succeeded")
    again = await asyncio.to_thread(lambda: list(client.events(job_id, told[-1].id)))
    assert again == []
    with pytest.raises(ServiceError, match="Not found"):
        await asyncio.to_thread(lambda: list(client.events("nobody")))
    client.http.close()


async def test_events_tell_of_every_attempt(idle_service):
    """A driver that gave up its lease: the next attempt goes on in the same stream."""
    project_id = await upload(idle_service)
    records = idle_service.store.records
    submitted_job = await records.submit_job(
        NewJob(project_id, JobKind.GENERATE, {"seed": 1}, fingerprint="x")
    )
    job_id = submitted_job.job.id
    for _ in range(2):
        lease = await records.claim_job("test", 30)
        assert lease is not None
        await records.release_job(job_id, lease.fence)
    await records.cancel_job(job_id)
    async with streaming(idle_service.app, f"{API}/jobs/{job_id}/events") as stream:
        told = await stream.rest()
    states = [event.data["state"] for event in told if event.kind == "state"]
    assert states[0] == "queued"
    assert states.count(JobState.RUNNING.value) == 2
    assert states[-1] == "cancelled"
