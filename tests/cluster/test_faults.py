"""What a job survives: real processes that are really killed, with engines that sleep.

Every test ends with `settled`: the job ended once, its events have no gap, no file is without a
row, and as many replicas run as before.
"""

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from deployments.jobs.rows import Bucket, JobState, ProjectDetail
from deployments.jobs.store import Store
from pipeline.ports import PortName
from serve_app.cli.demo import default_photo
from serve_app.server import RunningService
from serve_app.settings import AppArgs
from serve_app.stores import EmbeddedPostgres, StoreSettings
from tests.serve_app.stores.fixtures import server_directory

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.faults]

API = "/api/v1"
NAME, PREFIX = "faults", "/faults"
LEASE_S = 3.0
REPLICAS = {"Ingress": 2, "Dispatcher": 1, "Driver": 2, "Models": 2}
LIMIT_S = 60


@dataclass(frozen=True)
class Faults:
    """The application under test and the switches of its stand-ins."""

    url: str
    http: httpx.Client
    folder: Path
    args: AppArgs
    server: EmbeddedPostgres | None
    changed: dict[str, Any] = field(default_factory=dict)
    name: str = NAME
    prefix: str = PREFIX

    @property
    def data(self) -> Path:
        return self.args.asset_dir

    def deploy(self, *, args: dict[str, Any] | None = None, **options: dict[str, Any]) -> None:
        """Deploy as `serve deploy` does, with some arguments or options of deployments changed.

        Other arguments replace every replica, so they stay; other numbers of replicas only what
        is too many.
        """
        self.changed.update(args or {})
        deployments = {name: {"num_replicas": count} for name, count in REPLICAS.items()}
        deployments["Models"] |= {"health_check_period_s": 1}
        for name, more in options.items():
            deployments[name] |= more
        application = {
            "name": self.name,
            "route_prefix": self.prefix,
            "import_path": "tests.cluster.faulty_app:build",
            "args": self.args.model_dump(mode="json") | self.changed,
            "deployments": [
                {"name": name, **{k: v for k, v in more.items() if v is not None}}
                for name, more in deployments.items()
            ],
        }
        schema = ServeDeploySchema.model_validate({"applications": [application]})
        _get_global_client().deploy_apps(schema)

    def naps(self, **seconds: float) -> None:
        """How long the engines' calls take from now on."""
        (self.folder / "naps.json").write_text(json.dumps(seconds))

    def fault(self, call: str, kind: str, times: int = 1) -> None:
        (self.folder / f"fault-{call}").write_text(f"{kind} {times}")

    def calls(self) -> list[tuple[int, str, int]]:
        """Process, name and number of every call of an engine so far."""
        log = self.folder / "called.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(int(p), name, int(n)) for p, name, n in (line.split() for line in lines)]

    def upload(self) -> str:
        with default_photo().open("rb") as photo:
            answer = self.http.post(f"{API}/upload", files={"file": ("coffee.png", photo)})
        assert answer.status_code == 200, answer.text
        return answer.json()["project_id"]

    def start(self, project: str, **headers: str) -> str:
        """The id of a new generation."""
        answer = self.http.post(
            f"{API}/generate/{project}",
            json={"seed": 1},
            headers={"Prefer": "respond-async", **headers},
        )
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def job(self, job_id: str) -> dict[str, Any]:
        return self.http.get(f"{API}/jobs/{job_id}").json()

    def ended(self, job_id: str) -> dict[str, Any]:
        """The job when it has ended; requests that meet a dead ingress are asked again."""
        return eventually(
            lambda: self.job(job_id), lambda job: job["state"] not in ("queued", "running")
        )

    def in_stage(self, job_id: str, stage: str) -> dict[str, Any]:
        return eventually(lambda: self.job(job_id), lambda job: job["stage"] == stage)

    def in_call(self, job_id: str, call: str, *, after: int) -> None:
        """An engine works for the job's stage; `after` is how many calls there were before it.

        A stage begins before its engine is called. Who dies in between costs no attempt.
        """
        self.in_stage(job_id, call)
        eventually(self.calls, lambda calls: call in [name for _, name, _ in calls[after:]])

    def on_store(self, work: Callable[[Store], Any]) -> Any:
        """Run a coroutine function over the store, on a loop of its own."""

        async def opened() -> Any:
            settings = StoreSettings(data_dir=self.data, database_url=self.args.database_url)
            async with settings.open() as store:
                return await work(store)

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, opened()).result()


def eventually(look: Callable[[], Any], is_good: Callable[[Any], bool]) -> Any:
    """What `look` says as soon as it is good. Fails after a minute with the last answer."""
    deadline, seen = time.monotonic() + LIMIT_S, None
    while time.monotonic() < deadline:
        try:
            seen = look()
            if is_good(seen):
                return seen
        except (httpx.HTTPError, ValueError, KeyError) as error:
            seen = error
        time.sleep(0.05)
    raise AssertionError(f"it never came to be: {seen!r}")


def replicas(name: str, application: str = NAME) -> list[psutil.Process]:
    """The live processes of a deployment of the application under test."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if f"ServeReplica:{application}:{name}" in title:
            found.append(process)
    return found


def kill(name: str) -> None:
    """SIGKILL every replica of a deployment."""
    processes = replicas(name)
    assert processes, f"no replica of {name} runs"
    for process in processes:
        process.kill()
    psutil.wait_procs(processes)


def kill_process(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def application(service: RunningService) -> Iterator[Faults]:
    with server_directory() as data, EmbeddedPostgres(data / "server") as server:
        folder = data / "engines"
        folder.mkdir()
        args = AppArgs(
            asset_dir=data / "assets",
            database_url=server.dsn,
            model_dir=folder,
            lease_s=LEASE_S,
            call_limit_s=5,
            max_running_jobs=8,
            max_stream_s=8,
            hosts={"Models": tuple(PortName)},
        )
        with httpx.Client(base_url=f"{service.url}{PREFIX}", timeout=60) as http:
            faults = Faults(service.url, http, folder, args, server)
            try:
                faults.deploy()
                all_replicas_run()
                yield faults
            finally:
                serve.delete(NAME)


@pytest.fixture
def faults(application: Faults) -> Iterator[Faults]:
    """The application with calm engines and all replicas."""
    application.naps()
    yield application
    for file in application.folder.glob("fault-*"):
        file.unlink()
    for marker in ("disk-full", "unmounted"):
        (application.data / marker).unlink(missing_ok=True)
    all_replicas_run()


def all_replicas_run(application: str = NAME) -> None:
    def running() -> dict[str, int]:
        return {name: len(replicas(name, application)) for name in REPLICAS}

    eventually(running, lambda counts: counts == REPLICAS)
    eventually(
        lambda: serve.status().applications[application].status.value,
        lambda status: status == "RUNNING",
    )


def settled(faults: Faults, job_id: str, state: str, *, attempt: int | None = None) -> dict:
    """What holds after every fault."""
    job = faults.ended(job_id)
    assert job["state"] == state, job
    if attempt is not None:
        assert job["attempt"] == attempt, job
    events = faults.on_store(lambda store: store.records.job_events(job_id, limit=1000))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    ends = [event for event in events if JobState(event.data.get("state", "queued")).ended]
    assert [event.data["state"] for event in ends] == [state], "it ended once"
    assert ends == [events[-1]], "nothing happened after the end"
    progress = [event.data["progress"] for event in events if "progress" in event.data]
    assert progress == sorted(progress), "it never went back"
    eventually(lambda: orphans(faults, job["project_id"]), lambda found: found == [])
    if state == "succeeded":
        detail = detail_of(faults, job["project_id"])
        assert [model.version for model in detail.models] == [0]
        assert (len(detail.views), len(detail.depths)) == (16, 16)
        stages = [event.data["stage"] for event in events if event.kind.value == "commit"]
        assert sorted(stages) == sorted(set(stages)), "no stage was computed twice"
    return job


def detail_of(faults: Faults, project: str) -> ProjectDetail:
    return faults.on_store(lambda store: store.records.project_detail(project))


def orphans(faults: Faults, project: str) -> list[str]:
    """Files of a project that no row names."""

    async def compared(store: Store) -> list[str]:
        named = await store.records.referenced_paths(project)
        assert named is not None
        found = []
        for bucket in Bucket:
            paths = await store.blobs.list_prefix(bucket, f"{project}/")
            found += [p for p in paths if p not in named.get(bucket, frozenset())]
        return found

    return faults.on_store(compared)


# --------------------------------------------------------------------------------------------
# processes that die


def test_a_model_killed_in_mid_stage_costs_an_attempt(faults: Faults):
    faults.naps(splats=1.5)
    before = len(faults.calls())
    job_id = faults.start(faults.upload())
    faults.in_call(job_id, "splats", after=before)
    kill("Models")
    settled(faults, job_id, "succeeded", attempt=2)


def test_a_driver_killed_in_mid_stage_costs_an_attempt(faults: Faults):
    faults.naps(splats=1.5)
    before = len(faults.calls())
    job_id = faults.start(faults.upload())
    faults.in_call(job_id, "splats", after=before)
    kill("Driver")
    settled(faults, job_id, "succeeded", attempt=2)


def test_a_driver_without_its_mount_gets_no_jobs(faults: Faults):
    (faults.data / "unmounted").touch()
    replicas("Driver")[0].kill()
    jobs = [faults.start(faults.upload()) for _ in range(4)]
    for job_id in jobs:
        settled(faults, job_id, "succeeded", attempt=1)
    (faults.data / "unmounted").unlink()


def test_a_driver_killed_between_upload_and_commit_leaves_nothing_behind(faults: Faults):
    project = faults.upload()
    (faults.data / "die-at-commit").touch()
    job_id = faults.start(project)
    job = settled(faults, job_id, "succeeded", attempt=2)
    files = list((faults.data / "files").rglob(f"{project}/views/*.png"))
    assert files == [], "the first attempt's views had no row"
    assert job["attempt"] == 2


def test_a_model_stops_working_for_a_driver_that_was_killed(faults: Faults):
    faults.naps(splats=4.5)
    before = len(faults.calls())
    job_id = faults.start(faults.upload())
    faults.in_call(job_id, "splats", after=before)
    kill("Driver")
    # Ray does not tell a callee that its caller died.
    eventually(faults.calls, lambda calls: "stopped" in [name for _, name, _ in calls[before:]])
    faults.naps()
    settled(faults, job_id, "succeeded", attempt=2)


def test_a_killed_dispatcher_is_not_missed(faults: Faults):
    faults.naps(splats=1.5)
    first, second = faults.upload(), faults.upload()
    running = faults.start(first)
    faults.in_stage(running, "splats")
    kill("Dispatcher")
    waiting = faults.start(second)
    settled(faults, running, "succeeded", attempt=1)
    settled(faults, waiting, "succeeded")


def test_a_killed_ingress_costs_its_clients_a_repetition(faults: Faults):
    faults.naps(splats=2)
    project = faults.upload()
    key = {"Idempotency-Key": f"key-of-{project}"}

    def generate() -> httpx.Response:
        return httpx.post(
            f"{faults.url}{PREFIX}{API}/generate/{project}",
            json={"seed": 1},
            headers=key,
            timeout=60,
        )

    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(generate)
        eventually(
            lambda: faults.http.get(f"{API}/status/{project}").json()["job"],
            lambda job: job is not None and job["state"] == "running",
        )
        kill("Ingress")
        with suppress(httpx.HTTPError):  # the connection was cut, or
            assert waiting.result().status_code >= 500, "nobody was left to answer it"
    answer = eventually(generate, lambda answer: answer.status_code == 200).json()
    assert answer["status"] == "completed"
    settled(faults, answer["job_id"], "succeeded", attempt=1)


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Id, name and data of server-sent events."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if line == "" and "data" in fields:
            yield fields["id"], fields["event"], json.loads(fields["data"])
            fields = {}
        elif name:
            fields[name] = value.removeprefix(" ")


def test_an_event_stream_goes_on_where_a_killed_ingress_left_it(faults: Faults):
    faults.naps(splats=2)
    job_id = faults.start(faults.upload())
    seen: list[int] = []
    killed = False
    while True:
        headers = {"Last-Event-ID": str(seen[-1])} if seen else {}
        state = ""
        try:
            with faults.http.stream(
                "GET", f"{API}/jobs/{job_id}/events", headers=headers
            ) as answer:
                if answer.status_code != 200:
                    time.sleep(0.2)
                    continue
                for number, _name, data in events_of(answer.iter_lines()):
                    seen.append(int(number))
                    state = data.get("state", "")
                    if not killed and data.get("stage") == "splats":
                        killed = True
                        kill("Ingress")
        except httpx.HTTPError:
            continue
        if state == "succeeded":
            break
    assert killed
    assert seen == list(range(1, len(seen) + 1)), "nothing missed, nothing twice"
    settled(faults, job_id, "succeeded", attempt=1)
    again = faults.http.get(f"{API}/jobs/{job_id}/events", headers={"Last-Event-ID": str(seen[-1])})
    assert again.status_code == 204, "an EventSource does not come back"


# --------------------------------------------------------------------------------------------
# processes that are replaced


def test_a_redeployed_application_hands_its_jobs_over(faults: Faults):
    faults.naps(splats=2)
    jobs = [faults.start(faults.upload()) for _ in range(3)]
    for job_id in jobs:
        eventually(lambda: faults.job(job_id), lambda job: job["state"] == "running")  # noqa: B023
    before = {p.pid for name in ("Driver", "Dispatcher") for p in replicas(name)}
    faults.deploy(args={"max_stream_s": 7})
    for job_id in jobs:
        # No attempt is lost: a driver that is stopped gives the job back.
        settled(faults, job_id, "succeeded", attempt=1)
    eventually(lambda: before & {p.pid for p in replicas("Driver")}, lambda left: not left)


def test_a_scaled_down_driver_hands_its_job_over(faults: Faults):
    faults.naps(splats=2)
    jobs = [faults.start(faults.upload()) for _ in range(4)]
    for job_id in jobs:
        eventually(lambda: faults.job(job_id), lambda job: job["state"] == "running")  # noqa: B023
    faults.deploy(Driver={"num_replicas": 1})
    for job_id in jobs:
        settled(faults, job_id, "succeeded", attempt=1)
    faults.deploy()


def test_a_changed_user_config_under_load_loses_nothing(faults: Faults):
    faults.naps(views=0.3, splats=0.3)
    processes = {p.pid for p in replicas("Models")}
    jobs = [faults.start(faults.upload()) for _ in range(6)]
    batches = {"max_batch_size": 4, "batch_wait_timeout_s": 0.05}
    faults.deploy(Models={"user_config": batches})
    for job_id in jobs:
        settled(faults, job_id, "succeeded", attempt=1)
    assert {p.pid for p in replicas("Models")} == processes, "no replica was replaced"


def test_an_idle_model_gets_the_next_call(faults: Faults):
    faults.naps(splats=1.2)
    for _ in range(3):
        jobs = [faults.start(faults.upload()) for _ in range(2)]
        for job_id in jobs:
            settled(faults, job_id, "succeeded", attempt=1)
        fits = [pid for pid, name, _count in faults.calls() if name == "fit-of"]
        assert fits[-1] != fits[-2], "one waited behind the other"


# --------------------------------------------------------------------------------------------
# two at once


def test_two_dispatchers_and_many_jobs_never_share_one(faults: Faults):
    faults.deploy(Dispatcher={"num_replicas": 2})
    eventually(lambda: len(replicas("Dispatcher")), lambda count: count == 2)
    jobs = [faults.start(faults.upload()) for _ in range(8)]
    for job_id in jobs:
        settled(faults, job_id, "succeeded")
        claims = [
            event
            for event in faults.on_store(
                lambda store: store.records.job_events(job_id, limit=1000)  # noqa: B023
            )
            if event.data.get("state") == "running"
        ]
        assert len(claims) == 1, "claimed once"
    faults.deploy()


def test_an_old_attempt_that_wakes_up_changes_nothing(faults: Faults):
    project = faults.upload()
    (faults.data / "freeze-at-commit").touch()
    job_id = faults.start(project)
    # The frozen driver's lease runs out; another driver does the job.
    job = settled_but_for_files(faults, job_id)
    assert job["attempt"] == 2
    before = detail_of(faults, project)
    pid = int((faults.data / "frozen").read_text())
    os.kill(pid, signal.SIGCONT)
    # Its commit is refused, and it takes back what it had uploaded.
    settled(faults, job_id, "succeeded", attempt=2)
    after = detail_of(faults, project)
    assert (after.views, after.models, after.job) == (before.views, before.models, before.job)


def settled_but_for_files(faults: Faults, job_id: str) -> dict[str, Any]:
    job = faults.ended(job_id)
    assert job["state"] == "succeeded", job
    return job


# --------------------------------------------------------------------------------------------
# engines that fail


def test_a_model_that_hangs_is_replaced_and_the_job_goes_on(faults: Faults):
    (faults.folder / "unhang").unlink(missing_ok=True)
    project = faults.upload()
    faults.fault("splats", "hang")
    job_id = faults.start(project)
    settled(faults, job_id, "succeeded", attempt=2)
    hung = [pid for pid, name, _count in faults.calls() if name == "splats"][-2]
    # A thread cannot be killed, its process can.
    eventually(lambda: psutil.pid_exists(hung), lambda lives: not lives)


def test_a_model_whose_gpu_failed_is_replaced_and_the_job_goes_on(faults: Faults):
    project = faults.upload()
    faults.fault("splats", "lost")
    job_id = faults.start(project)
    settled(faults, job_id, "succeeded", attempt=2)
    lost, other = [pid for pid, name, _count in faults.calls() if name == "splats"][-2:]
    assert other != lost
    eventually(lambda: psutil.pid_exists(lost), lambda lives: not lives)


def test_a_model_that_raises_fails_the_job_with_stage_and_cause(faults: Faults):
    faults.fault("splats", "raise")
    job_id = faults.start(faults.upload())
    job = settled(faults, job_id, "failed", attempt=1)
    assert job["error"]["stage"] == "splats"
    assert job["error"]["detail"] == "The splat engine failed; the service's log has the reason."
    assert detail_of(faults, job["project_id"]).views, "what was committed stays"


def test_a_model_out_of_memory_is_asked_once_more_for_less(faults: Faults):
    faults.fault("splats", "oom")
    job_id = faults.start(faults.upload())
    job = settled(faults, job_id, "succeeded", attempt=2)
    fits = [count for _pid, name, count in faults.calls() if name == "fit-of"]
    assert fits[-1] == fits[-2] // 2
    assert any("ran out of memory" in note for note in job["result"]["notes"])


def test_a_model_out_of_memory_twice_fails_the_job(faults: Faults):
    faults.fault("splats", "oom", times=2)
    job = settled(faults, faults.start(faults.upload()), "failed", attempt=2)
    assert job["error"]["code"] == "out_of_memory"
    assert job["error"]["stage"] == "splats"


# --------------------------------------------------------------------------------------------
# the store


def test_a_full_disk_fails_the_job_and_leaves_no_half(faults: Faults):
    project, other = faults.upload(), faults.upload()
    (faults.data / "disk-full").touch()
    job = settled(faults, faults.start(project), "failed")
    assert job["error"]["code"] == "unavailable"
    assert job["error"]["detail"].startswith("The files cannot be read or written now")
    (faults.data / "disk-full").unlink()
    settled(faults, faults.start(other), "succeeded", attempt=1)


def test_a_full_disk_fails_an_export_and_leaves_no_half(faults: Faults):
    project = faults.upload()
    settled(faults, faults.start(project), "succeeded")
    before = {path for path in (faults.data / "files").rglob("*") if path.is_file()}

    def export() -> str:
        answer = faults.http.get(
            f"{API}/export/{project}",
            params={"format": "splat"},
            headers={"Prefer": "respond-async"},
        )
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    (faults.data / "disk-full").touch()
    job = settled(faults, export(), "failed")
    assert job["error"]["code"] == "unavailable"
    assert {path for path in (faults.data / "files").rglob("*") if path.is_file()} == before
    (faults.data / "disk-full").unlink()
    settled(faults, export(), "succeeded", attempt=1)


def test_a_database_that_is_restarted_costs_a_pause(faults: Faults):
    faults.naps(splats=1.5)
    job_id = faults.start(faults.upload())
    faults.in_stage(job_id, "splats")
    assert faults.server is not None
    faults.server.stop()
    faults.server.start()
    settled(faults, job_id, "succeeded")


def test_a_database_that_is_gone_for_ten_seconds_costs_no_job(faults: Faults):
    faults.naps(splats=1.5)
    job_id = faults.start(faults.upload())
    faults.in_stage(job_id, "splats")
    assert faults.server is not None
    faults.server.stop()
    time.sleep(10)  # the fault itself, longer than a lease
    faults.server.start()
    settled(faults, job_id, "succeeded")


def test_processes_that_start_while_the_database_is_away_wait_for_it(faults: Faults):
    project = faults.upload()
    assert faults.server is not None
    faults.server.stop()
    try:
        for name in ("Ingress", "Driver", "Dispatcher"):
            kill(name)

        def told() -> str:
            return str(faults.http.get("/ready").json()["checks"]["store"])

        eventually(told, lambda store: store.startswith("The database"))
    finally:
        faults.server.start()
    eventually(told, lambda store: store == "ok")
    settled(faults, faults.start(project), "succeeded", attempt=1)


# --------------------------------------------------------------------------------------------
# clients


def test_a_client_that_disconnects_does_not_stop_its_job(faults: Faults):
    faults.naps(splats=1)
    project = faults.upload()
    with pytest.raises(httpx.ReadTimeout):
        faults.http.post(f"{API}/generate/{project}", json={"seed": 1}, timeout=0.7)
    job = eventually(
        lambda: faults.http.get(f"{API}/status/{project}").json()["job"],
        lambda job: job is not None,
    )
    settled(faults, job["id"], "succeeded", attempt=1)


def test_a_client_that_stops_reading_its_events_hinders_nobody(faults: Faults):
    faults.naps(splats=1)
    project = faults.upload()
    job_id = faults.start(project)
    address = urlsplit(faults.url)
    assert address.hostname is not None
    with ExitStack() as idle:
        for _ in range(10):
            connection = socket.create_connection((address.hostname, address.port))
            idle.enter_context(connection)
            # Two events fill it: the proxy is left with the others.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            request = f"GET {PREFIX}{API}/jobs/{job_id}/events HTTP/1.1\r\nHost: {address.netloc}"
            connection.sendall(f"{request}\r\n\r\n".encode())
        settled(faults, job_id, "succeeded", attempt=1)
        assert faults.http.get(f"{API}/status/{project}").status_code == 200


def test_a_running_job_is_cancelled_within_seconds_and_gives_everything_back(faults: Faults):
    faults.naps(splats=4)
    project = faults.upload()
    job_id = faults.start(project)
    faults.in_stage(job_id, "splats")
    assert faults.http.post(f"{API}/jobs/{job_id}/cancel").status_code == 202
    assert faults.http.post(f"{API}/jobs/{job_id}/cancel").status_code == 202, "twice is harmless"
    settled(faults, job_id, "cancelled", attempt=1)
    assert faults.http.post(f"{API}/jobs/{job_id}/cancel").status_code == 202
    assert len(detail_of(faults, project).views) == 16, "what was committed stays"
    # Both lanes are free: two more jobs get through, one in each.
    faults.naps()
    for job_id in [faults.start(faults.upload()) for _ in range(2)]:
        settled(faults, job_id, "succeeded", attempt=1)


def test_a_queued_job_is_cancelled_at_once(faults: Faults):
    *blocking, project = [faults.upload() for _ in range(faults.args.max_running_jobs + 1)]
    faults.naps(views=4.5)
    running = [faults.start(blocker) for blocker in blocking]
    queued = faults.start(project)
    assert faults.http.post(f"{API}/jobs/{queued}/cancel").json()["state"] == "cancelled"
    settled(faults, queued, "cancelled", attempt=0)
    for job_id in running:
        assert faults.http.post(f"{API}/jobs/{job_id}/cancel").status_code == 202
    for job_id in running:
        settled(faults, job_id, "cancelled", attempt=1)


def test_a_deleted_project_takes_its_running_job_with_it(faults: Faults):
    faults.naps(splats=4)
    project = faults.upload()
    job_id = faults.start(project)
    faults.in_stage(job_id, "splats")
    assert faults.http.delete(f"{API}/projects/{project}").status_code in (202, 204)
    eventually(
        lambda: faults.http.get(f"{API}/status/{project}").status_code, lambda code: code == 404
    )
    eventually(lambda: [*(faults.data / "files").rglob(f"{project}*")], lambda files: files == [])
    assert faults.http.get(f"{API}/jobs/{job_id}").status_code == 404


# --------------------------------------------------------------------------------------------
# scaling


def test_models_are_scaled_by_the_queue(application: Faults):
    """The policy of deploy/serve_config.8gpu.yaml, in a real controller.

    Stands last: another policy replaces every replica, and nobody needs the old ones again.
    """
    policy = {
        "policy_function": "deployments.scaling:QueuedWork",
        "policy_kwargs": {
            "url": f"{application.url}{PREFIX}{API}/queue",
            "jobs_per_replica": 2,
            "period_s": 0.2,
        },
    }
    scaling = {
        "min_replicas": 1,
        "max_replicas": 3,
        # The calls alone would ask for one: jobs here make one call at a time.
        "target_ongoing_requests": 64,
        "upscale_delay_s": 0.5,
        "downscale_delay_s": 0.5,
        "policy": policy,
    }
    application.deploy(Models={"num_replicas": None, "autoscaling_config": scaling})
    eventually(lambda: len(replicas("Models")), lambda count: count == 1)
    application.naps(views=2, splats=2)
    jobs = [application.start(application.upload()) for _ in range(6)]
    eventually(lambda: len(replicas("Models")), lambda count: count == 3)
    for job_id in jobs:
        settled(application, job_id, "succeeded", attempt=1)
    eventually(lambda: len(replicas("Models")), lambda count: count == 1)
