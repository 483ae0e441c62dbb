import asyncio
import threading

import pytest

from deployments.model_host import ModelHost
from deployments.streaming import Finished, stream
from pipeline.control import Control, Progress
from pipeline.engines import EngineChoice, PortName
from pipeline.errors import Cancelled, ModelFailed
from pipeline.lane import Lane
from tests.fakes import some_views


async def wanted() -> bool:
    return True


async def test_a_call_whose_caller_is_dead_is_stopped():
    lane, stopped = Lane("test"), threading.Event()

    def work(control: Control) -> None:
        try:
            while True:
                control.check()
                threading.Event().wait(0.01)
        finally:
            stopped.set()

    async def nobody() -> bool:
        return False

    with pytest.raises(Cancelled, match="Nobody waits"):
        async for _ in stream(lambda report: lane.run(work, report), nobody):
            pass
    assert await asyncio.to_thread(stopped.wait, 10)


async def test_a_long_call_yields_progress_and_ends_with_the_result():
    lane = Lane("test")

    def work(control: Control) -> str:
        control.step(0.25, "quarter")
        threading.Event().wait(0.3)
        control.step(0.75, "most")
        return "result"

    items = [item async for item in stream(lambda report: lane.run(work, report), wanted)]
    assert items[-1] == Finished("result")
    assert Progress(0.25, "quarter") in items[:-1]


async def test_leaving_a_long_call_stops_the_work():
    lane, log, go = Lane("test"), [], threading.Event()

    def work(control: Control) -> None:
        control.step(0.1)
        go.wait(10)
        try:
            control.check()
        except Cancelled:
            log.append("stopped")
            raise

    items = stream(lambda report: lane.run(work, report), wanted)
    assert isinstance(await anext(items), Progress)
    await items.aclose()
    go.set()
    await lane.run(lambda _: None)
    assert log == ["stopped"]


async def test_an_error_of_the_engine_comes_out_of_thestream():
    async def broken(_report):
        raise ModelFailed("boom")

    with pytest.raises(ModelFailed, match="boom"):
        async for _ in stream(broken, wanted):
            pass


async def test_a_replica_serves_only_the_ports_it_hosts():
    host = ModelHost(EngineChoice(threads=1), (PortName.DEPTH,))
    *_, last = [item async for item in host.estimate_depth(some_views(), None)]
    assert isinstance(last, Finished)
    with pytest.raises(ModelFailed, match="not splats"):
        await host.engine_name()


async def test_health_is_asked_off_the_lane():
    host = ModelHost(EngineChoice(threads=1), (PortName.DEPTH,))
    gate = threading.Event()
    busy = asyncio.create_task(host._ports.lane.run(lambda _: gate.wait(10)))
    await asyncio.sleep(0.02)
    await host.check_health()
    gate.set()
    await busy
