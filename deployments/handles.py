"""The pipeline's ports over Ray Serve handles: the only place that says `.remote`.

It maps what Ray raises into `pipeline.errors` and knows neither stages nor stores.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, fields
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import ray
import ray.exceptions
from ray import serve
from ray.serve import exceptions as serve_exceptions
from ray.serve.handle import DeploymentHandle

from deployments.jobs.job_errors import TooBusy
from deployments.streaming import Finished
from pipeline.control import Progress, Report, ignore_progress, is_being_cancelled
from pipeline.errors import (
    GlimpseError,
    ModelFailed,
    OutOfMemory,
    ReplicaDied,
    Unavailable,
)
from pipeline.ports import (
    BackgroundRemover,
    DepthEstimator,
    Enhancer,
    Exporter,
    Generator,
    Ports,
    SplatFitter,
    ViewSynthesizer,
)

log = logging.getLogger("ray.serve")

P = ParamSpec("P")
T = TypeVar("T")

#: Longest wait for a replica's memory or device: the answer is worth no more, and commits wait.
_METER_LIMIT_S = 2.0

#: A deployment is taken for awake, or asleep, for so long.
_AWAKE_FOR_S = 1.0

#: A model whose queue is full is asked again after so long: at first, and at most. Nothing is lost
#: by waiting here, and a job must not fail for it.
_ASK_AGAIN_AFTER_S = (0.2, 3.0)

#: Longest wait for a replica that is asked whether it has its engines.
_READINESS_LIMIT_S = 5.0

#: What a failed call means, by the class Ray raises; the first match counts, so classes that
#: derive from another stand before it. `{}` is what was called. That a call was cancelled is only
#: asked where the caller did not do it: the other side did, by dying or being replaced.
_MEANINGS: tuple[tuple[tuple[type[BaseException], ...], type[GlimpseError], str], ...] = (
    (
        (
            serve_exceptions.RequestCancelledError,
            ray.exceptions.TaskCancelledError,
            asyncio.CancelledError,
        ),
        ReplicaDied,
        "The call to {} was cancelled before it was answered.",
    ),
    ((serve_exceptions.BackPressureError,), TooBusy, "{} has too many calls waiting."),
    ((serve_exceptions.DeploymentUnavailableError,), Unavailable, "{} is not running."),
    ((ray.exceptions.OutOfMemoryError, MemoryError), OutOfMemory, "{} ran out of memory."),
    (
        (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError),
        ReplicaDied,
        "The process that ran {} ended before it answered.",
    ),
    (
        (ray.exceptions.ObjectLostError,),
        ReplicaDied,
        "The process that held a result of {} is gone.",
    ),
    ((ray.exceptions.GetTimeoutError, TimeoutError), Unavailable, "{} did not answer in time."),
)


def translate(error: BaseException, where: str) -> GlimpseError:
    """The error of `pipeline.errors` that says what a failed call on `where` means.

    Total: every exception that a handle may raise gets an answer, at worst `ModelFailed`.
    """
    # Ray raises a class made of RayTaskError and the class of the cause: an error of ours, or a
    # MemoryError, that was raised on the other side is an instance of both.
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    if isinstance(cause, GlimpseError):
        return cause
    for classes, meaning, text in _MEANINGS:
        if isinstance(error, classes) or isinstance(cause, classes):
            return meaning.openly(text.format(where)[0].upper() + text.format(where)[1:])
    # What a library says may name files, hosts and keys of this machine.
    return ModelFailed(
        f"{where} raised {type(cause).__name__}: {cause}",
        public=f"{where[:1].upper()}{where[1:]} failed; the service's log has the reason.",
    )


async def _admitted(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the model's queue takes it. A refused call has done nothing."""
    pause_s, longest_s = _ASK_AGAIN_AFTER_S
    while True:
        try:
            return await call()
        except TooBusy:
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(2 * pause_s, longest_s)


async def _unary(send: Callable[[], Any], where: str) -> Any:
    """The answer of a call that `send` sends; where the queue is full it is sent again."""

    async def call() -> Any:
        response = send()
        try:
            return await response
        except asyncio.CancelledError as error:
            if is_being_cancelled():
                response.cancel()
                raise
            raise translate(error, where) from error
        except Exception as error:
            raise translate(error, where) from error

    return await _admitted(call)


async def _streamed(send: Callable[[], Any], where: str, report: Report) -> Any:
    """Relay progress until the result comes. Leaving early cancels the remote call."""

    async def call() -> Any:
        stream = send()
        try:
            items: AsyncIterator[Progress | Finished[Any]] = stream
            async for item in items:
                if isinstance(item, Finished):
                    return item.value
                report(item)
        except asyncio.CancelledError as error:
            if is_being_cancelled():
                stream.cancel()
                raise
            raise translate(error, where) from error
        except Exception as error:
            raise translate(error, where) from error
        raise ModelFailed.openly(f"{where} ended without a result.")

    return await _admitted(call)


def _caller() -> str | None:
    """Name of this replica's actor, by which a model sees whether its caller still lives."""
    name: str | None = ray.get_runtime_context().get_actor_name()
    return name


def _remote(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[HandlePort, P], Coroutine[Any, Any, T]]:
    """A port's method as a call of a replica: streamed where it takes a `report`, which stays."""
    signature = inspect.signature(method)
    is_long = "report" in signature.parameters

    @wraps(method)
    async def call(port: HandlePort, /, *args: P.args, **kwargs: P.kwargs) -> T:
        handle = port.handle.options(stream=True) if is_long else port.handle
        target = getattr(handle, method.__name__)
        if not is_long:
            return cast(T, await _unary(lambda: target.remote(*args, **kwargs), port.name))
        bound = signature.bind(port, *args, **kwargs)
        report: Report = bound.arguments.pop("report", ignore_progress)
        request = bound.args[1:]
        answer = await _streamed(lambda: target.remote(*request, _caller()), port.name, report)
        return cast(T, answer)

    return call


@dataclass(frozen=True)
class HandlePort:
    """The ports that one model deployment hosts; `name` is what it is called in messages."""

    handle: DeploymentHandle[Any]
    name: str

    remove_background = _remote(BackgroundRemover.remove_background)
    synthesize_views = _remote(ViewSynthesizer.synthesize_views)
    generate_model = _remote(Generator.generate_model)
    estimate_depth = _remote(DepthEstimator.estimate_depth)
    register = _remote(SplatFitter.register)
    reconstruct = _remote(SplatFitter.reconstruct)
    improve = _remote(SplatFitter.improve)
    render = _remote(SplatFitter.render)
    evaluate = _remote(SplatFitter.evaluate)
    engine_name = _remote(SplatFitter.engine_name)
    enhance = _remote(Enhancer.enhance)
    export_model = _remote(Exporter.export_model)


@dataclass(frozen=True)
class HandlePorts:
    """The handles of the model deployments, one per port; ports may share a deployment, and a
    generator need not be."""

    background: DeploymentHandle[Any]
    views: DeploymentHandle[Any]
    depth: DeploymentHandle[Any]
    splats: DeploymentHandle[Any]
    enhancer: DeploymentHandle[Any]
    exporter: DeploymentHandle[Any]
    generator: DeploymentHandle[Any] | None = None

    def ports(self) -> Ports:
        """The pipeline's ports over these handles."""
        generator = self.generator
        return Ports(
            background=HandlePort(self.background, "background removal"),
            views=HandlePort(self.views, "view synthesis"),
            depth=HandlePort(self.depth, "depth estimation"),
            splats=HandlePort(self.splats, "the splat engine"),
            enhancer=HandlePort(self.enhancer, "the enhancer"),
            exporter=HandlePort(self.exporter, "the exporter"),
            generator=None if generator is None else HandlePort(generator, "the generator"),
        )

    async def devices(self) -> dict[str, str]:
        """What the engine of each port computes on, from one replica of each deployment that
        is awake and answers; never raises."""
        awake = await awake_deployments()
        handles = {n: h for n, h in self._by_port().items() if h.deployment_name in awake}
        answers = await asyncio.gather(*(_devices_of(h) for h in handles.values()))
        pairs = zip(handles, answers, strict=True)
        return {name: there[name] for name, there in pairs if name in there}

    def meters(self) -> dict[str, Callable[[float], Awaitable[dict[str, int]]]]:
        """Asks each model deployment, by its name, for `ModelHost.peak_memory_bytes`; nothing
        comes from one that sleeps."""
        awake = _Awake()
        return {
            h.deployment_name: partial(_peak_memory, h, awake) for h in self._by_port().values()
        }

    def _by_port(self) -> dict[str, DeploymentHandle[Any]]:
        found = {port.name: getattr(self, port.name) for port in fields(self)}
        return {name: handle for name, handle in found.items() if handle is not None}


async def awake_deployments() -> frozenset[str]:
    """Deployments of this replica's application that have a running replica; never raises.

    A call to another one waits for a replica, and Serve starts one for it: what only wants to know
    how a deployment is must not do that to one that was scaled to zero.
    """
    try:
        app_name = serve.get_replica_context().app_name
        async with asyncio.timeout(_METER_LIMIT_S):
            status = await asyncio.to_thread(serve.status)
    except (TimeoutError, ray.exceptions.RayError, serve_exceptions.RayServeException) as error:
        log.warning("Serve does not say which deployments run: %r", error)
        return frozenset()
    application = status.applications.get(app_name)
    deployments = {} if application is None else application.deployments
    return frozenset(name for name, one in deployments.items() if _runs(one.replica_states))


def _runs(replicas: Mapping[Any, int]) -> bool:
    return any(count > 0 for state, count in replicas.items() if state == "RUNNING")


class _Awake:
    """`awake_deployments`, asked once by meters that are read together."""

    def __init__(self) -> None:
        self._asking = asyncio.Lock()
        self._asked_at = -math.inf
        self._names: frozenset[str] = frozenset()

    async def __call__(self) -> frozenset[str]:
        async with self._asking:
            if time.monotonic() - self._asked_at > _AWAKE_FOR_S:
                self._names = await awake_deployments()
                self._asked_at = time.monotonic()
            return self._names


async def _within(limit_s: float, handle: DeploymentHandle[Any], method: str, *args: Any) -> Any:
    """The answer of a short call. Raises TimeoutError."""
    call = getattr(handle, method)
    async with asyncio.timeout(limit_s):
        return await _unary(lambda: call.remote(*args), handle.deployment_name)


async def readiness_of(handle: DeploymentHandle[Any]) -> GlimpseError | None:
    """What a model deployment lacks, from one of its replicas; never raises."""
    try:
        lacks = await _within(_READINESS_LIMIT_S, handle, "readiness")
    except TimeoutError:
        return Unavailable.openly("It does not answer.")
    except GlimpseError as error:
        return error
    return cast(GlimpseError | None, lacks)


def reasons_of(app_name: str, limit_s: float) -> dict[str, str]:
    """Why an application of this cluster is not ready, by name, as its ingress tells who runs it.
    Blocks; raises TimeoutError."""
    answer = serve.get_app_handle(app_name).reasons.remote().result(timeout_s=limit_s)
    return cast(dict[str, str], answer)


async def _devices_of(handle: DeploymentHandle[Any]) -> dict[str, str]:
    try:
        return cast(dict[str, str], await _within(_METER_LIMIT_S, handle, "devices"))
    except (TimeoutError, GlimpseError):
        return {}


async def _peak_memory(
    handle: DeploymentHandle[Any], awake: _Awake, span_s: float
) -> dict[str, int]:
    if handle.deployment_name not in await awake():
        return {}
    try:
        answer = await _within(_METER_LIMIT_S, handle, "peak_memory_bytes", span_s)
    except TimeoutError as error:
        raise translate(error, handle.deployment_name) from error
    return cast(dict[str, int], answer)
