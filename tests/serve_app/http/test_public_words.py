"""Whatever goes wrong inside, clients read codes and sentences; the log has the cause."""

import json
import logging
import pickle
from types import SimpleNamespace

import asyncpg
import pytest
import ray.exceptions

from deployments.handles import translate
from deployments.jobs import job_errors, outbox
from deployments.jobs.rows import Bucket, JobError
from deployments.jobs.runner import _end_with
from pipeline import errors
from pipeline.errors import GlimpseError, ModelFailed, OutOfMemory, Unavailable
from serve_app import ingress
from serve_app.http import problems
from serve_app.ingress import Ingress
from serve_app.stores import FileBlobs
from serve_app.stores.postgres import translated
from serve_app.stores.records import _THEIR_STATES, error_for_sqlstate
from serve_app.stores.supabase.supabase_errors import _storage_error
from tests.serve_app.http.test_contract import API, upload
from tests.serve_app.http.test_problems import tree

SECRETS = (
    "/srv/models/secret.bin",
    "10.1.2.3:5432",
    "postgresql://glimpse:hunter2@db.internal/rows",
    "Traceback (most recent call last)",
)
WORDS = " ".join(SECRETS)
OURS = [
    kind
    for kind in tree(GlimpseError)
    if kind.__module__ in (errors.__name__, job_errors.__name__, problems.__name__)
    and kind is not problems.TooLarge  # it is made of a number
]


def leaks(text: str) -> list[str]:
    """What of the planted words stands in a text, be it escaped for JSON or HTML."""
    pieces = {p for secret in SECRETS for p in (secret, "hunter2", "secret.bin", "10.1.2.3")}
    return sorted(piece for piece in pieces if piece in text)


def planted(kind: type[GlimpseError]) -> GlimpseError:
    """An error with a cause that nobody should read; where clients read `detail`, with a sentence
    for them beside it."""
    return kind(WORDS, public="It did not work.") if kind.for_clients else kind(WORDS)


@pytest.fixture
def log(caplog):
    """What Serve's logger says."""
    logger = logging.getLogger("ray.serve")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, logger="ray.serve")
    yield caplog
    logger.removeHandler(caplog.handler)


class Keeper:
    """Stands in for a lease: what an attempt ends with."""

    class lease:  # noqa: N801
        class job:  # noqa: N801
            id = "job-1"
            last_error = None

    def __init__(self) -> None:
        self.told: list[JobError] = []

    async def release(self, error, delay_s=0.0) -> None:
        self.told.append(error)

    async def finish(self, _state, *, error) -> None:
        self.told.append(error)


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
async def test_no_error_tells_a_client_its_cause(kind, idle_service, log, monkeypatch):
    error = planted(kind)
    assert str(error) == WORDS, "who runs the service reads the cause"
    assert not leaks(error.public)
    assert len(error.public) > 10
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.public) == (kind, WORDS, error.public)

    async def fails(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(type(idle_service.store.records), "queue", fails)
    answer = await idle_service.http.get(f"{API}/queue", headers={"X-Request-ID": "asked-1"})
    assert not leaks(answer.text + str(answer.headers))
    assert answer.json()["detail"] == error.public
    if answer.status_code >= 500:
        assert WORDS in log.text
        assert "asked-1" in log.text

    keeper = Keeper()
    await _end_with(keeper, error, "splats")
    (told,) = keeper.told
    assert (told.code, told.detail, told.stage) == (error.code, error.public, "splats")
    assert f"job job-1, stage splats: {WORDS}" in log.text


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError(WORDS),
        OutOfMemory(WORDS),
        translate(FileNotFoundError(2, "No such file", SECRETS[0]), "view synthesis"),
        translate(ray.exceptions.RayTaskError("f", WORDS, ConnectionError(WORDS)), "the enhancer"),
    ],
    ids=["unforeseen", "ours", "of a library", "of a replica"],
)
async def test_a_failed_job_shows_its_cause_nowhere(service, log, failure):
    project = await upload(service)
    service.models.fail_at, service.models.failure = "depth", failure
    http = service.http
    answers = [await http.post(f"{API}/generate/{project}")]
    job_id = answers[0].json()["job_id"]
    assert answers[0].json()["stage"] == "depth"
    for path in (
        f"jobs/{job_id}",
        f"jobs/{job_id}/events",
        f"status/{project}",
        f"projects/{project}",
        "projects",
        f"projects/{project}/report?format=json",
        f"projects/{project}/report?format=html",
        f"projects/{project}/manifest",
    ):
        answers.append(await http.get(f"{API}/{path}"))
    assert "failed" in answers[2].text, "its events tell the end"
    job = await service.store.records.get_job(job_id)
    texts = [answer.text for answer in answers] + [json.dumps(outbox._message(job))]
    assert [leaks(text) for text in texts] == [[] for _ in texts]
    assert job.error is not None
    assert job.error.detail == getattr(failure, "public", ModelFailed.closed_sentence)
    assert f"job {job_id}" in log.text
    assert leaks(log.text)


async def test_notes_and_rankings_show_no_cause(service):
    """Failures that do not end a job are told in its result."""
    project = await upload(service)
    calls = service.models._called

    async def sometimes(name, *args):
        if name == "splats" and service.models.calls.count("splats") == 0:
            service.models.calls.append(name)
            raise ModelFailed(WORDS)
        if name == "enhance" and service.models.calls.count("enhance") < 2:
            service.models.calls.append(name)
            raise ModelFailed(WORDS)
        await calls(name, *args)

    service.models._called = sometimes
    generated = await service.http.post(f"{API}/generate/{project}", json={"candidates": 2})
    refined = await service.http.post(f"{API}/refine/{project}", json={"num_iterations": 1})
    report = await service.http.get(f"{API}/projects/{project}/report?format=html")
    assert [a.status_code for a in (generated, refined, report)] == [200, 200, 200], refined.text
    assert "model_failed" in generated.text, "the ranking names the candidate that failed"
    for answer in (generated, refined, report):
        assert not leaks(answer.text)


async def test_ready_names_states_and_the_log_has_the_reasons(log, monkeypatch):
    async def states(_name):
        return {"Driver": Unavailable(WORDS, public="DEPLOY_FAILED"), "Splats": None}

    async def lacks(_host):
        return Unavailable(WORDS)

    async def store(_store):
        return Unavailable(WORDS, public="The database cannot be reached.")

    monkeypatch.setattr(ingress, "_deployment_states", states)

    async def awake():
        return frozenset({"Splats"})

    monkeypatch.setattr(ingress, "awake_deployments", awake)
    monkeypatch.setattr(ingress, "readiness_of", lacks)
    monkeypatch.setattr(ingress, "store_state", store)
    context = SimpleNamespace(app_name="")
    monkeypatch.setattr(ingress.serve, "get_replica_context", lambda: context)

    class Bare(Ingress):
        def __init__(self) -> None:
            self._hosts, self._store, self._logged = {"Splats": None}, object(), {}

        def __del__(self) -> None:
            """Nothing was opened."""

    asked = Bare()
    told = await asked.readiness()
    assert told == {
        "store": "The database cannot be reached.",
        "Driver": "DEPLOY_FAILED",
        "Splats": Unavailable.closed_sentence,
    }
    assert log.text.count(WORDS) == 3
    await asked.readiness()
    assert log.text.count(WORDS) == 3, "each reason is logged once, until it changes"
    assert await asked.reasons() == dict.fromkeys(told, WORDS)


@pytest.mark.parametrize("state", [*_THEIR_STATES, "XX000"])
def test_what_the_database_says_stays_in_the_log(state):
    error = error_for_sqlstate(state.ljust(5, "0"), WORDS, WORDS)
    assert WORDS in str(error)
    assert not leaks(error.public)


@pytest.mark.parametrize(
    "error",
    [OSError(111, WORDS), asyncpg.InterfaceError(WORDS), asyncpg.InvalidPasswordError(WORDS)],
    ids=lambda error: type(error).__name__,
)
def test_what_a_connection_says_stays_in_the_log(error):
    with pytest.raises(GlimpseError) as caught, translated():
        raise error
    assert leaks(str(caught.value))
    assert not leaks(caught.value.public)


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 415, 423, 500, 503])
@pytest.mark.parametrize("word", ["", "InvalidKey", "InternalError", "Bucket not found"])
def test_what_supabase_says_stays_in_the_log(status, word):
    assert not leaks(_storage_error(status, word, WORDS, "views", "a/b.png").public)


async def test_what_the_file_system_says_stays_in_the_log(tmp_path):
    root = tmp_path / "a-folder-of-ours"
    blobs = FileBlobs(root, b"k" * 32)
    root.rmdir()
    with pytest.raises(Unavailable) as caught:
        await blobs.ping()
    assert str(root) in str(caught.value)
    assert root.name not in caught.value.public
    root.write_text("no folder")
    for call in (
        blobs.put(Bucket.VIEWS, "p/v.png", b"x", "image/png"),
        blobs.get(Bucket.VIEWS, "p/v.png"),
        blobs.list_prefix(Bucket.VIEWS, "p"),
    ):
        try:
            await call
        except GlimpseError as error:
            assert root.name not in error.public
