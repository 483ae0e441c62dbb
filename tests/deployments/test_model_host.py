import asyncio
import threading
from typing import Any

import pytest
from pydantic import ValidationError

from deployments import model_host
from deployments.jobs.job_errors import TooBusy
from deployments.model_host import ModelHost
from deployments.streaming import Finished, stream
from pipeline.control import Control, Progress
from pipeline.engines.registry import EngineChoice
from pipeline.errors import Cancelled, DeviceLost, ModelFailed, Unavailable
from pipeline.flow.local import Laned, LocalPorts, build_ports
from pipeline.formats.ply import read_ply
from pipeline.lane import Lane
from pipeline.options import ExportOptions
from pipeline.ports import PortName
from tests.fakes import some_model, some_views
from tests.tiny.model_dir import write_tiny_bundle

pytestmark = pytest.mark.usefixtures("replica_context")


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


async def test_a_replica_may_host_the_exporter_alone():
    host = ModelHost(EngineChoice(threads=1), (PortName.EXPORTER,))
    model = some_model()
    items = [item async for item in host.export_model(model, ExportOptions("ply"), None)]
    last = items[-1]
    assert isinstance(last, Finished)
    assert last.value.contents == {"splats": len(model)}
    assert len(read_ply(last.value.data)) == len(model)


async def test_ports_are_complete_when_all_were_built():
    ports = build_ports(EngineChoice(background="grabcut", threads=1)).complete()
    file = await ports.exporter.export_model(some_model(), ExportOptions("splat"))
    assert len(file.data) == 32 * len(some_model())
    with pytest.raises(ValueError, match="not every port"):
        build_ports(EngineChoice(threads=1), (PortName.EXPORTER,)).complete()


async def test_health_is_asked_off_the_lane():
    host = ModelHost(EngineChoice(threads=1), (PortName.DEPTH,))
    gate = threading.Event()
    busy = asyncio.create_task(host._ports.lane.run(lambda _: gate.wait(10)))
    await asyncio.sleep(0.02)
    await host.check_health()
    gate.set()
    await busy


# -- engines that are not there yet --------------------------------------------------------------


async def test_a_missing_weight_is_named_and_found_later(tmp_path, monkeypatch):
    monkeypatch.setattr(model_host, "_TRY_AGAIN_AFTER_S", 0.0)
    choice = EngineChoice(depth="midas-large", model_dir=tmp_path, device="cpu", threads=1)
    host = ModelHost(choice, (PortName.DEPTH,))
    missing = await host.readiness()
    assert "midas-large" in missing.public
    assert "glimpse3d weights fetch midas-large" in missing.public
    assert str(tmp_path) in str(missing)
    assert str(tmp_path) not in missing.public
    with pytest.raises(Unavailable, match="midas-large"):
        async for _ in host.estimate_depth(some_views(), None):
            pass

    write_tiny_bundle(tmp_path, "midas-large")
    await host.check_health()
    async with asyncio.timeout(60):
        while await host.readiness() is not None:
            await asyncio.sleep(0.05)
    *_, last = [item async for item in host.estimate_depth(some_views(), None)]
    assert isinstance(last, Finished)
    assert last.value.engine == "midas-large"


async def test_engines_are_warm_before_a_replica_is_ready(monkeypatch):
    warmed = []

    class Engine:
        name = "slow at first"

        def warm_up(self) -> None:
            warmed.append(True)

    def build(choice, names, **_limits):
        lane = Lane("test")
        return LocalPorts(lane, views=Laned(Engine(), lane))

    monkeypatch.setattr(model_host, "build_ports", build)
    host = ModelHost(EngineChoice(threads=1), (PortName.VIEWS,))
    assert await host.readiness() is None
    assert warmed == [True]


@pytest.mark.parametrize("port", [PortName.VIEWS, PortName.DEPTH, PortName.SPLATS])
async def test_a_host_whose_gpu_failed_is_unhealthy_at_once_and_takes_no_more_calls(
    port, monkeypatch
):
    class Engine:
        name = "on a card"
        calls = 0

        def _fail(self, *_args, **_kwargs):
            Engine.calls += 1
            raise RuntimeError("CUDA error: device-side assert triggered")

        synthesize = estimate_many = render = _fail

    def build(choice, names, **_limits):
        lane = Lane("test")
        laned: Any = Laned(Engine(), lane)
        return LocalPorts(lane, **{port.value: laned})

    async def call() -> None:
        if port is PortName.VIEWS:
            await anext(host.synthesize_views(None, None))
        elif port is PortName.DEPTH:
            await anext(host.estimate_depth(some_views(), None))
        else:
            await host.render(some_model(), some_views().cameras)

    monkeypatch.setattr(model_host, "build_ports", build)
    host = ModelHost(EngineChoice(threads=1), (port,))
    await host.check_health()
    with pytest.raises(DeviceLost):
        await call()
    with pytest.raises(RuntimeError, match="GPU"):
        await host.check_health()
    with pytest.raises(TooBusy):
        await call()
    assert Engine.calls == 1


async def test_wrong_settings_of_a_deployment_are_refused():
    host = ModelHost(EngineChoice(threads=1), (PortName.DEPTH,))
    host.reconfigure({"max_batch_size": 2})
    with pytest.raises(ValidationError):
        host.reconfigure({"max_batches": 2})


async def test_a_host_says_what_its_engines_compute_on():
    host = ModelHost(EngineChoice(threads=1, device="cpu"), (PortName.DEPTH, PortName.VIEWS))
    assert await host.devices() == {"depth": "cpu", "views": "cpu, fp32"}


async def test_several_objects_share_a_batch():
    host = ModelHost(EngineChoice(threads=1), (PortName.DEPTH,))
    host.reconfigure({"max_batch_size": 3, "batch_wait_timeout_s": 5})
    batches = []
    plain = host._ports.depth.engine.estimate_many

    def counted(sets, control):
        batches.append(len(sets))
        return plain(sets, control)

    host._ports.depth.engine.estimate_many = counted

    async def one():
        *_, last = [item async for item in host.estimate_depth(some_views(), None)]
        return last.value

    first, second, third = await asyncio.gather(one(), one(), one())
    assert batches == [3]
    alone = plain([some_views()], Control())[0]
    assert (second.depth == alone.depth).all()
    assert first.engine == third.engine == "surface"
