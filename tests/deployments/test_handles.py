"""The map from what Ray raises to what the pipeline raises is total."""

import asyncio
import inspect
from types import SimpleNamespace

import pytest
import ray.exceptions
from ray.serve import exceptions as serve_exceptions

from deployments import handles
from deployments.handles import translate
from deployments.jobs import job_errors
from deployments.streaming import Finished
from pipeline import errors
from pipeline.control import Progress


def subclasses(root: type) -> list[type]:
    return [root, *(c for sub in root.__subclasses__() for c in subclasses(sub))]


def raised(cause: Exception) -> Exception:
    """What a caller sees of an exception in another process."""
    return ray.exceptions.RayTaskError("f", "traceback", cause).as_instanceof_cause()


FULL = serve_exceptions.BackPressureError(num_queued_requests=1, max_queued_requests=1)


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (ray.exceptions.ActorDiedError(), errors.ReplicaDied),
        (raised(ray.exceptions.ActorDiedError()), errors.ReplicaDied),
        (ray.exceptions.WorkerCrashedError(), errors.ReplicaDied),
        (ray.exceptions.OutOfMemoryError("oom"), errors.OutOfMemory),
        (raised(MemoryError()), errors.OutOfMemory),
        (serve_exceptions.RequestCancelledError("id"), errors.ReplicaDied),
        (FULL, job_errors.TooBusy),
        (serve_exceptions.DeploymentUnavailableError("x"), errors.Unavailable),
        (TimeoutError(), errors.Unavailable),
        (asyncio.CancelledError(), errors.ReplicaDied),
        (raised(ValueError("boom")), errors.ModelFailed),
        (raised(errors.InvalidImage("no object")), errors.InvalidImage),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)  # fmt: skip
def test_meaning_of_an_error(error, meaning):
    assert type(translate(error, "the model")) is meaning


def test_text_of_ours_is_kept_and_text_of_others_names_where():
    assert translate(raised(errors.InvalidImage("no object")), "x").detail == "no object"
    assert translate(raised(ValueError("boom")), "depth").detail == "depth raised ValueError: boom"
    assert "depth" in translate(ray.exceptions.ActorDiedError(), "depth").detail


def test_every_exception_of_ray_and_serve_has_a_meaning():
    known = {c for c in subclasses(ray.exceptions.RayError) if "ray." in c.__module__}
    known |= {
        c
        for _, c in inspect.getmembers(serve_exceptions, inspect.isclass)
        if issubclass(c, Exception)
    }
    assert len(known) > 20
    for kind in known:
        # Their constructors want all sorts of arguments; only the class matters here.
        plain = {"__init__": lambda self: None, "__str__": lambda self: "made by a test"}
        error = type(kind.__name__, (kind,), plain)()
        if isinstance(error, ray.exceptions.RayTaskError):
            error.cause = ValueError("boom")
        assert isinstance(translate(error, "the model"), errors.GlimpseError), kind


def test_every_error_of_ours_crosses_a_process_border():
    import pickle

    ours = [
        c
        for c in subclasses(errors.GlimpseError)
        if c.__module__ in (errors.__name__, job_errors.__name__)
    ]
    assert len(ours) > 15
    for kind in ours:
        error = kind("a sentence")
        back = pickle.loads(pickle.dumps(error))
        assert type(back) is kind
        assert back.detail == "a sentence"
    assert pickle.loads(pickle.dumps(job_errors.ProjectBusy("busy", "job-1"))).job_id == "job-1"


async def test_a_full_queue_is_waited_for_and_never_an_error(monkeypatch):
    monkeypatch.setattr(handles, "_ASK_AGAIN_AFTER_S", (0.001, 0.002))
    answers = [FULL, FULL, FULL, "the answer"]

    async def answer():
        following = answers.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    assert await handles._unary(answer, "the model") == "the answer"
    assert answers == []


async def test_a_full_queue_is_waited_for_by_streams_too(monkeypatch):
    monkeypatch.setattr(handles, "_ASK_AGAIN_AFTER_S", (0.001, 0.002))
    refusals = [FULL, FULL]

    async def items():
        if refusals:
            raise refusals.pop()
        yield Progress(0.5)
        yield Finished("the result")

    seen = []
    assert await handles._streamed(items, "the model", seen.append) == "the result"
    assert seen == [Progress(0.5)]


async def test_a_call_that_the_other_side_cancels_is_a_failure_and_no_stop_of_the_caller():
    async def cancelled_there():
        raise asyncio.CancelledError

    async def items():
        yield Progress(0.5)
        raise asyncio.CancelledError

    with pytest.raises(errors.ReplicaDied):
        await handles._unary(cancelled_there, "the model")
    with pytest.raises(errors.ReplicaDied):
        await handles._streamed(items, "the model", lambda _progress: None)


async def test_a_caller_that_is_cancelled_takes_its_call_back():
    class Response:
        taken_back = False

        def cancel(self):
            self.taken_back = True

        def __await__(self):
            return asyncio.sleep(60).__await__()

    response = Response()
    task = asyncio.create_task(handles._unary(lambda: response, "the model"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert response.taken_back


async def test_a_deployment_that_was_scaled_to_zero_is_not_woken_by_who_looks(monkeypatch):
    called, looks = [], 0

    class Handle:
        def __init__(self, name):
            self.deployment_name = name

        def __getattr__(self, method):
            async def answer(*_args):
                called.append((self.deployment_name, method))
                return {"": 7} if method == "peak_memory_bytes" else {"views": "cpu"}

            return SimpleNamespace(remote=answer)

    def status():
        nonlocal looks
        looks += 1
        states = {"Awake": {"RUNNING": 1}, "Asleep": {}, "Starting": {"STARTING": 1}}
        found = {name: SimpleNamespace(replica_states=s) for name, s in states.items()}
        return SimpleNamespace(applications={"app": SimpleNamespace(deployments=found)})

    context = SimpleNamespace(app_name="app")
    monkeypatch.setattr(handles.serve, "get_replica_context", lambda: context)
    monkeypatch.setattr(handles.serve, "status", status)
    awake, asleep, starting = (Handle(name) for name in ("Awake", "Asleep", "Starting"))
    ports = handles.HandlePorts(asleep, awake, starting, awake, asleep, asleep)
    meters = ports.meters()
    answers = await asyncio.gather(*(meter(1.0) for meter in meters.values()))
    assert dict(zip(meters, answers, strict=True)) == {
        "Asleep": {}, "Awake": {"": 7}, "Starting": {}
    }  # fmt: skip
    assert looks == 1
    assert await ports.devices() == {"views": "cpu"}
    assert {name for name, _ in called} == {"Awake"}
