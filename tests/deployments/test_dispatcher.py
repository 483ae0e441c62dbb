"""The dispatcher over a real store, with drivers that are coroutines in this process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import ray.exceptions
import standardwebhooks
from ray.serve import exceptions as serve_exceptions

from deployments import dispatcher
from deployments.dispatcher import Dispatcher, DispatcherSettings
from deployments.driver import Driver
from deployments.jobs import claims, fenced_commit, supervision
from deployments.jobs.janitor import Janitor
from deployments.jobs.outbox import WebhookRules
from deployments.jobs.rows import JobError, JobKind, JobState, Lease, NewJob
from deployments.jobs.runner import RunnerSettings
from deployments.jobs.store import Records, Store
from deployments.jobs.supervision import ServiceState
from pipeline.errors import Unavailable
from serve_app.stores import StoreSettings
from tests.deployments.jobs.receiver import SECRET, receiving
from tests.serve_app.stores.rows import add_project

ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
SETTINGS = DispatcherSettings(max_running_jobs=2, poll_s=0.01, lease_s=5)


@dataclass
class Drivers:
    """Stands in for the handle; `drive` is what a driver does with a lease."""

    drive: Callable[[Lease], Awaitable[None]]
    calls: list["Call"] = field(default_factory=list)

    @property
    def run(self) -> "Drivers":
        return self

    def remote(self, lease: Lease) -> "Call":
        call = Call(lease, asyncio.ensure_future(self.drive(lease)))
        self.calls.append(call)
        return call


@dataclass
class Call:
    """Stands in for a `DeploymentResponse`."""

    lease: Lease
    task: asyncio.Future[None]

    def cancel(self) -> None:
        self.task.cancel()

    def __await__(self) -> Any:
        return self._answer().__await__()

    async def _answer(self) -> None:
        try:
            await self.task
        except asyncio.CancelledError:
            raise ray.exceptions.TaskCancelledError from None


class InProcess(Dispatcher):
    """Serve awaits `__del__`; the garbage collector would not."""

    def __del__(self) -> None: ...  # type: ignore[override]


class InProcessDriver(Driver):
    """The same."""

    def __del__(self) -> None: ...  # type: ignore[override]


@asynccontextmanager
async def working(
    stores: StoreSettings, drivers: Drivers, settings: DispatcherSettings = SETTINGS
) -> AsyncIterator[Dispatcher]:
    handle: Any = drivers
    found = InProcess(stores, handle, settings)
    await found.check_health()
    try:
        yield found
    finally:
        await found.close()


async def submit(store: Store, name: str, webhook_url: str | None = None) -> str:
    await add_project(
        store.records, name, original_path="o", processed_path="p", background_engine="none"
    )
    job = NewJob(name, JobKind.GENERATE, {}, fingerprint=name, webhook_url=webhook_url)
    return (await store.records.submit_job(job)).job.id


async def until(store: Store, job_id: str, *states: JobState) -> None:
    async with asyncio.timeout(20):
        while (await store.records.get_job(job_id)).state not in states:
            await asyncio.sleep(0.01)


async def test_jobs_are_handed_out_up_to_the_limit(store: Store, store_settings: StoreSettings):
    gate, peak, running = asyncio.Event(), 0, 0

    async def drive(lease: Lease) -> None:
        nonlocal peak, running
        running += 1
        peak = max(peak, running)
        await gate.wait()
        running -= 1
        await store.records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)

    jobs = [await submit(store, f"project-{i}") for i in range(5)]
    async with working(store_settings, Drivers(drive)):
        await until(store, jobs[1], JobState.RUNNING)
        await asyncio.sleep(0.1)
        assert running == 2
        gate.set()
        for job_id in jobs:
            await until(store, job_id, JobState.SUCCEEDED)
    assert peak == 2


async def begin(store: Store, lease: Lease) -> None:
    """A driver's first words on a job."""
    await store.records.heartbeat(lease.job.id, lease.fence, lease_s=5, stage="views", progress=0.1)


async def test_two_dispatchers_together_run_no_more_than_one_may(
    store: Store, store_settings: StoreSettings
):
    peak = running = 0
    full = asyncio.Event()

    async def drive(lease: Lease) -> None:
        nonlocal peak, running
        running += 1
        peak = max(peak, running)
        if running == SETTINGS.max_running_jobs:
            full.set()
        await full.wait()
        await asyncio.sleep(0.02)
        running -= 1
        await store.records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)

    jobs = [await submit(store, f"project-{i}") for i in range(12)]
    async with (
        working(store_settings, Drivers(drive)),
        working(store_settings, Drivers(drive)),
    ):
        for job_id in jobs:
            await until(store, job_id, JobState.SUCCEEDED)
    assert peak == SETTINGS.max_running_jobs


async def test_a_driver_that_dies_gives_its_job_back_and_costs_an_attempt(
    store: Store, store_settings: StoreSettings
):
    async def drive(lease: Lease) -> None:
        await begin(store, lease)
        if lease.job.attempt == 1:
            raise ray.exceptions.ActorDiedError
        await store.records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)

    job_id = await submit(store, "project")
    async with working(store_settings, Drivers(drive)):
        await until(store, job_id, JobState.SUCCEEDED)
    job = await store.records.get_job(job_id)
    assert job.last_error is not None
    assert (job.attempt, job.last_error.code) == (2, "replica_died")


async def test_a_driver_that_cannot_open_its_store_fails_no_job(
    store: Store, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(claims, "_NO_DRIVER_S", (0.01, 0.05))
    (tmp_path / "file").write_text("where a folder is mounted elsewhere")
    unmounted = replace(store_settings, data_dir=tmp_path / "file" / "data")
    ports: Any = None
    bad = InProcessDriver(unmounted, ports, RunnerSettings())
    with pytest.raises(Exception, match="file"):
        await bad.check_health()
    bounced: set[str] = set()

    async def drive(lease: Lease) -> None:
        if lease.job.id not in bounced:
            bounced.add(lease.job.id)
            await bad.run(lease)  # Serve has not noticed yet
        await begin(store, lease)
        await store.records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)

    jobs = [await submit(store, f"project-{i}") for i in range(20)]
    async with working(store_settings, Drivers(drive)):
        for job_id in jobs:
            await until(store, job_id, *ENDED)
    ended = [await store.records.get_job(job_id) for job_id in jobs]
    assert {(job.state, job.attempt) for job in ended} == {(JobState.SUCCEEDED, 1)}
    assert len(bounced) == 20


async def test_claims_pause_as_a_whole_while_there_is_no_driver(
    store: Store, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(claims, "_NO_DRIVER_S", (0.05, 60.0))
    drivers = Drivers(lambda _lease: _raise(serve_exceptions.DeploymentUnavailableError("Driver")))
    jobs = [await submit(store, f"project-{i}") for i in range(20)]
    async with working(store_settings, drivers):
        await asyncio.sleep(0.5)
        found = [await store.records.get_job(job_id) for job_id in jobs]
    # 20 jobs come round in no time; pauses of 0.05, 0.1, 0.2 s leave room for a few calls.
    assert len(drivers.calls) < 10
    assert {(job.state, job.attempt) for job in found} == {(JobState.QUEUED, 0)}
    causes = {job.last_error.code for job in found if job.last_error is not None}
    assert causes == {"unavailable"}


async def test_claims_do_not_pause_for_a_driver_that_is_stopped_in_a_stage(
    store: Store, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(claims, "_NO_DRIVER_S", (1000.0, 1000.0))
    stopped: list[str] = []

    async def drive(lease: Lease) -> None:
        await begin(store, lease)
        if not stopped:
            stopped.append(lease.job.id)
            await store.records.release_job(lease.job.id, lease.fence, delay_s=0.3)
            raise ray.exceptions.TaskCancelledError
        await store.records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)

    job_id = await submit(store, "project")
    async with working(store_settings, Drivers(drive)):
        await until(store, job_id, JobState.SUCCEEDED)
    assert (await store.records.get_job(job_id)).attempt == 1


async def test_a_driver_that_gave_its_job_back_ends_its_call_itself(
    store: Store, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(claims, "_HOLD_S", 0.02)
    ends: list[bool] = []

    async def drive(lease: Lease) -> None:
        if not ends:
            ends.append(False)
            error = JobError("unavailable", "The folder is not there.", "start", True)
            await store.records.release_job(lease.job.id, lease.fence, error, delay_s=2.0)
            await asyncio.sleep(0.2)
            ends.append(True)
            return
        await begin(store, lease)
        await store.records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)

    job_id = await submit(store, "project")
    async with working(store_settings, Drivers(drive)):
        await until(store, job_id, JobState.SUCCEEDED)
    assert ends == [False, True], "the call was not taken back"


async def test_a_driver_that_cannot_even_be_called_gives_its_job_back(
    store: Store, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(claims, "_NO_DRIVER_S", (0.01, 0.05))

    class Broken(Drivers):
        def remote(self, lease: Lease) -> Call:
            if not self.calls:
                self.calls.append(Call(lease, asyncio.ensure_future(_is(True))))
                raise RuntimeError("the handle is closed")
            return super().remote(lease)

    job_id = await submit(store, "project")
    async with working(store_settings, Broken(finishing(store).drive)):
        await until(store, job_id, JobState.SUCCEEDED)
    last_error = (await store.records.get_job(job_id)).last_error
    assert last_error is not None
    assert last_error.detail == "The driver failed; the service's log has the reason."


async def test_a_driver_whose_call_is_cancelled_over_there_gives_its_job_back_at_once(
    store: Store, store_settings: StoreSettings
):
    class Bare(Call):
        async def _answer(self) -> None:
            await self.task

    class BareDrivers(Drivers):
        def remote(self, lease: Lease) -> Call:
            return Bare(lease, asyncio.ensure_future(self.drive(lease)))

    async def drive(lease: Lease) -> None:
        await begin(store, lease)
        if lease.job.attempt == 1:
            raise asyncio.CancelledError
        await store.records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)

    job_id = await submit(store, "project")
    async with working(store_settings, BareDrivers(drive)):
        await until(store, job_id, JobState.SUCCEEDED)
    job = await store.records.get_job(job_id)
    assert job.last_error is not None
    assert (job.attempt, job.last_error.code) == (2, "replica_died")


async def test_why_an_attempt_ended_is_kept_although_the_store_was_away(
    store: Store, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
):
    release, refused = type(store.records).release_job, []

    async def away_at_first(records: Records, *args: Any, **kwargs: Any) -> Any:
        if len(refused) < 2:
            refused.append(args)
            raise Unavailable("away")
        return await release(records, *args, **kwargs)

    monkeypatch.setattr(type(store.records), "release_job", away_at_first)
    monkeypatch.setattr(fenced_commit, "_ASK_AGAIN_AFTER_S", 0.01)

    async def drive(lease: Lease) -> None:
        await begin(store, lease)
        if lease.job.attempt == 1:
            raise ray.exceptions.ActorDiedError
        await store.records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)

    job_id = await submit(store, "project")
    async with working(store_settings, Drivers(drive)):
        await until(store, job_id, JobState.SUCCEEDED)
    last_error = (await store.records.get_job(job_id)).last_error
    assert last_error is not None
    assert (len(refused), last_error.code) == (2, "replica_died")


async def test_a_job_that_waits_for_a_driver_keeps_its_lease_and_can_be_cancelled(
    store: Store, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(claims, "_HOLD_S", 0.02)

    async def drive(lease: Lease) -> None:
        await asyncio.sleep(60)  # no driver has room

    job_id = await submit(store, "project")
    drivers = Drivers(drive)
    async with working(store_settings, drivers):
        await until(store, job_id, JobState.RUNNING)
        await store.records.cancel_job(job_id)
        await until(store, job_id, JobState.CANCELLED)
        (call,) = drivers.calls
        await asyncio.wait({call.task})
        assert call.task.cancelled(), "the call does not reach a driver any more"


async def test_a_dispatcher_that_is_stopped_gives_back_what_no_driver_has_begun(
    store: Store, store_settings: StoreSettings
):
    async def drive(lease: Lease) -> None:
        await asyncio.sleep(60)

    job_id = await submit(store, "project")
    async with working(store_settings, Drivers(drive)):
        await until(store, job_id, JobState.RUNNING)
    job = await store.records.get_job(job_id)
    assert (job.state, job.attempt) == (JobState.QUEUED, 0)


async def test_the_end_of_an_old_call_does_not_hide_a_new_claim_from_the_stop(
    store: Store, store_settings: StoreSettings
):
    async def drive(lease: Lease) -> None:
        if lease.fence == 1:
            await store.records.release_job(lease.job.id, lease.fence)
            while len(drivers.calls) < 2:
                await asyncio.sleep(0.01)
        else:
            await asyncio.sleep(60)  # no driver has room

    job_id = await submit(store, "project")
    drivers = Drivers(drive)
    async with working(store_settings, drivers):
        async with asyncio.timeout(20):
            while not drivers.calls or not drivers.calls[0].task.done():
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
    assert (await store.records.get_job(job_id)).state is JobState.QUEUED


async def test_a_claim_that_is_answered_after_the_stop_is_given_back(
    store: Store, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
):
    answered, let_go = asyncio.Event(), asyncio.Event()
    claim = type(store.records).claim_job

    async def slowly(records: Records, *args: Any) -> Lease | None:
        lease = await claim(records, *args)
        if lease is not None:
            answered.set()
            await let_go.wait()
        return lease

    async def drive(lease: Lease) -> None:
        pytest.fail("no driver is called any more")

    monkeypatch.setattr(type(store.records), "claim_job", slowly)
    job_id = await submit(store, "project")
    async with working(store_settings, Drivers(drive)):
        await answered.wait()
        asyncio.get_running_loop().call_later(0.05, let_go.set)
    job = await store.records.get_job(job_id)
    assert (job.state, job.attempt) == (JobState.QUEUED, 0)


async def test_the_end_of_a_job_is_sent_and_signed(store: Store, store_settings: StoreSettings):
    async def drive(lease: Lease) -> None:
        await store.records.finish_job(
            lease.job.id, lease.fence, state=JobState.SUCCEEDED, result={"views": 16}
        )

    rules = WebhookRules(SECRET, ("127.0.0.0/8",))
    settings = replace(SETTINGS, webhooks=rules, tidy_s=0.05)
    async with receiving(500, 204) as receiver, working(store_settings, Drivers(drive), settings):
        url = f"http://127.0.0.1:{receiver.port}/hook"
        job_id = await submit(store, "project", url)
        await until(store, job_id, JobState.SUCCEEDED)
        async with asyncio.timeout(20):
            while not receiver.requests:
                await asyncio.sleep(0.01)
    _first, headers, body = receiver.requests[0]
    message = standardwebhooks.Webhook(SECRET).verify(body, headers)
    assert headers["webhook-id"] == job_id
    assert (message["type"], message["data"]["project_id"]) == ("job.succeeded", "project")


# -- none takes another down ---------------------------------------------------------------------


@dataclass
class Rounds:
    """Janitors whose first `faults` rounds raise what nobody foresaw; `begun` counts all."""

    faults: float
    begun: int = 0

    async def tidy(self) -> None:
        self.begun += 1
        if self.begun <= self.faults:
            raise RuntimeError("a fault of ours")


def janitors(monkeypatch: pytest.MonkeyPatch, *, faults: float) -> Rounds:
    rounds = Rounds(faults)
    monkeypatch.setattr(Janitor, "tidy", lambda _janitor: rounds.tidy())
    return rounds


async def eventually(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await is_so():
            await asyncio.sleep(0.01)


def finishing(store: Store) -> Drivers:
    async def drive(lease: Lease) -> None:
        await store.records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)

    return Drivers(drive)


async def test_a_raising_janitor_does_not_stop_claims(
    store: Store, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
):
    rounds = janitors(monkeypatch, faults=float("inf"))
    async with working(store_settings, finishing(store)) as found:
        await eventually(lambda: _is(rounds.begun >= 1))
        job_id = await submit(store, "project")
        await until(store, job_id, JobState.SUCCEEDED)
        await found.check_health()
        states = await found.services()
    assert states["claims"] == ServiceState(running=True)
    assert states["janitor"].crashes >= 1
    assert states["janitor"].last_error == "RuntimeError('a fault of ours')"


async def test_a_janitor_that_crashed_is_started_again(
    store_settings: StoreSettings, store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervision, "_PAUSE_S", (0.01, 0.02))
    rounds = janitors(monkeypatch, faults=3)
    settings = replace(SETTINGS, tidy_s=0.01)
    async with working(store_settings, finishing(store), settings) as found:
        await eventually(lambda: _is(rounds.begun > 5))
        state = (await found.services())["janitor"]
    assert (state.running, state.crashes) == (True, 3)


async def test_a_raising_outbox_stops_neither_janitor_nor_claims(
    store: Store, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
):
    rounds = janitors(monkeypatch, faults=0)

    async def broken(*_args: Any) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(type(store.records), "claim_webhook", broken)
    settings = replace(SETTINGS, webhooks=WebhookRules(SECRET), tidy_s=0.01)
    async with working(store_settings, finishing(store), settings) as found:

        async def crashed() -> bool:
            states = await found.services()
            return "outbox" in states and states["outbox"].crashes > 0

        await eventually(crashed)
        begun = rounds.begun
        await eventually(lambda: _is(rounds.begun > begun + 2))
        job_id = await submit(store, "project")
        await until(store, job_id, JobState.SUCCEEDED)
        await found.check_health()
        states = await found.services()
    assert states["janitor"] == ServiceState(running=True)
    assert "a fault of ours" in states["outbox"].last_error


async def test_a_raising_claim_loop_is_noticed_by_health_and_stops_no_janitor(
    store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
):
    def broken() -> bool:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(dispatcher, "is_draining", broken)
    rounds = janitors(monkeypatch, faults=0)

    async def drive(lease: Lease) -> None: ...

    settings = replace(SETTINGS, tidy_s=0.01)
    async with working(store_settings, Drivers(drive), settings) as found:

        async def dead() -> bool:
            return not (await found.services())["claims"].running

        await eventually(dead)
        with pytest.raises(RuntimeError, match=r"the claims ended: .*a fault of ours"):
            await found.check_health()
        begun = rounds.begun
        await eventually(lambda: _is(rounds.begun > begun + 2))
        with pytest.raises(RuntimeError, match="a fault of ours"):
            await found.check_health()


async def _is(answer: bool) -> bool:
    return answer


async def _raise(error: Exception) -> None:
    raise error
