"""Services that crash, and what is known of them."""

import asyncio

import pytest

from deployments.jobs import supervision
from deployments.jobs.supervision import ServiceState, Supervised, repeat, restart_pause_s
from pipeline.errors import Unavailable


def test_pauses_grow_to_a_minute():
    assert [restart_pause_s(n) for n in (1, 2, 3, 6, 7, 8, 5000)] == [1, 2, 4, 32, 60, 60, 60]


async def crashed(service: Supervised, times: int) -> None:
    async with asyncio.timeout(20):
        while service.state.crashes < times or service.state.running:
            await asyncio.sleep(0)


async def test_a_service_that_crashes_is_paused_and_says_why():
    async def run() -> None:
        raise ValueError("no such thing")

    service = Supervised("janitor", run)
    task = asyncio.create_task(service.keep())
    await crashed(service, 1)
    assert service.state == ServiceState(False, 1, "ValueError('no such thing')")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_crashes_are_forgotten_after_a_calm_time(monkeypatch):
    monkeypatch.setattr(supervision, "_PAUSE_S", (0.0, 0.0))
    go = asyncio.Event()

    async def run() -> None:
        await go.wait()
        go.clear()
        raise ValueError("again")

    service = Supervised("janitor", run)
    task = asyncio.create_task(service.keep())
    for crashes in (1, 2):
        go.set()
        async with asyncio.timeout(20):
            while not (service.state.running and service.state.crashes == crashes):
                await asyncio.sleep(0)
    monkeypatch.setattr(supervision, "_CALM_S", -1.0)
    assert service.state == ServiceState(running=True)
    go.set()
    async with asyncio.timeout(20):
        while go.is_set():
            await asyncio.sleep(0)
    monkeypatch.setattr(supervision, "_CALM_S", 300.0)
    assert service.state.crashes == 1, "a new series"
    task.cancel()


async def test_a_service_that_ends_is_started_again_too():
    async def run() -> None: ...

    service = Supervised("janitor", run)
    task = asyncio.create_task(service.keep())
    await crashed(service, 1)
    assert service.state.last_error == "RuntimeError('it ended by itself')"
    task.cancel()


async def test_an_error_of_ours_puts_a_chore_off_and_another_one_ends_it():
    errors = [Unavailable("away"), None, KeyError("a fault of ours")]
    done = []

    async def chore() -> None:
        done.append(error := errors.pop(0))
        if error is not None:
            raise error

    with pytest.raises(KeyError):
        await repeat(chore, 0.0)
    assert len(done) == 3
