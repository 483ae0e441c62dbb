import asyncio
import threading

import pytest

from pipeline.control import Control, Progress
from pipeline.errors import Cancelled, ModelFailed, TimedOut
from pipeline.lane import Lane


async def test_two_calls_never_run_at_once():
    lane, running, peak = Lane("test"), 0, 0

    def work(control: Control) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        threading.Event().wait(0.02)
        running -= 1

    await asyncio.gather(*(lane.run(work) for _ in range(4)))
    assert peak == 1


async def test_a_cancelled_call_stops_at_its_next_step_and_keeps_the_lane_until_then():
    lane, log = Lane("test"), []
    started, may_step = threading.Event(), threading.Event()

    def stubborn(control: Control) -> None:
        started.set()
        may_step.wait(10)
        try:
            control.check()
        except Cancelled:
            log.append("stopped")
            raise

    task = asyncio.create_task(lane.run(stubborn))
    await asyncio.to_thread(started.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    following = asyncio.create_task(lane.run(lambda _: log.append("next")))
    await asyncio.sleep(0.05)
    assert log == [], "the next call waits although the first was cancelled"
    may_step.set()
    await following
    assert log == ["stopped", "next"]


async def test_waiting_work_that_is_cancelled_never_runs():
    lane, gate, ran = Lane("test"), threading.Event(), []
    first = asyncio.create_task(lane.run(lambda _: gate.wait(10)))
    second = asyncio.create_task(lane.run(lambda _: ran.append("second")))
    await asyncio.sleep(0.02)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.set()
    await first
    await lane.run(lambda _: ran.append("third"))
    assert ran == ["third"]


async def test_progress_arrives_and_errors_pass_through():
    lane, seen = Lane("test"), []

    def work(control: Control) -> None:
        control.part(0.5, 1.0).step(0.5, "half way", loss=2.0)
        raise ModelFailed("boom")

    with pytest.raises(ModelFailed, match="boom"):
        await lane.run(work, seen.append)
    await asyncio.sleep(0)
    assert seen == [Progress(0.75, "half way", {"loss": 2.0})]


async def test_work_that_runs_too_long_fails_and_is_asked_to_stop():
    lane, stopped, may_end = Lane("test", limit_s=0.05), threading.Event(), threading.Event()

    def endless(control: Control) -> None:
        while not control.stop.wait(0.01):
            pass
        stopped.set()
        may_end.wait(10)

    with pytest.raises(TimedOut, match=r"more than 0.05 s"):
        await lane.run(endless)
    await asyncio.to_thread(stopped.wait, 10)
    await asyncio.sleep(0.02)
    assert lane.stuck_s > 0, "it goes on although it was asked to stop"
    may_end.set()
    assert await lane.run(lambda _: "next") == "next"
    assert lane.stuck_s == 0


async def test_time_in_the_queue_does_not_count_as_time_at_work():
    lane = Lane("test", limit_s=0.5)
    naps = [lane.run(lambda _: threading.Event().wait(0.2)) for _ in range(5)]
    assert await asyncio.gather(*naps) == [False] * 5
