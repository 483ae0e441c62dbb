"""The pipeline's ports over Ray Serve handles: the only place that says `.remote`.

It maps what Ray raises into `pipeline.errors` and knows neither stages nor stores.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import ray
import ray.exceptions
from ray.serve import exceptions as serve_exceptions
from ray.serve.handle import DeploymentHandle

from deployments.jobs.job_errors import TooBusy
from deployments.streaming import Finished
from pipeline.control import Progress, Report, ignore_progress
from pipeline.errors import (
    Cancelled,
    GlimpseError,
    ModelFailed,
    OutOfMemory,
    ReplicaDied,
    Unavailable,
)
from pipeline.options import ExportOptions
from pipeline.ports import Ports
from pipeline.requests import (
    EnhancedImages,
    EnhanceSettings,
    ExportedFile,
    FitRequest,
    Foreground,
    Improvement,
    References,
    RefineRequest,
    Renders,
    ViewRequest,
)
from pipeline.types import Cameras, DepthMaps, Scores, SplatModel, UInt8Array, ViewSet

T = TypeVar("T")

#: Longest wait for a replica's memory: the answer is worth no more, and a commit waits for it.
_METER_LIMIT_S = 2.0

#: A model whose queue is full is asked again after so long: at first, and at most. Nothing is lost
#: by waiting here, and a job must not fail for it.
_ASK_AGAIN_AFTER_S = (0.2, 3.0)

#: Longest wait for a replica that is asked whether it has its engines.
_READINESS_LIMIT_S = 5.0

#: What a failed call means, by the class Ray raises; the first match counts, so classes that
#: derive from another stand before it. `{}` is what was called.
_MEANINGS: tuple[tuple[tuple[type[BaseException], ...], type[GlimpseError], str], ...] = (
    (
        (
            serve_exceptions.RequestCancelledError,
            ray.exceptions.TaskCancelledError,
            asyncio.CancelledError,
        ),
        Cancelled,
        "The call to {} was cancelled.",
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
            return meaning(text.format(where)[0].upper() + text.format(where)[1:])
    return ModelFailed(f"{where} raised {type(cause).__name__}: {cause}")


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
        except asyncio.CancelledError:
            response.cancel()
            raise
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
        except asyncio.CancelledError:
            stream.cancel()
            raise
        except Exception as error:
            raise translate(error, where) from error
        raise ModelFailed(f"{where} ended without a result.")

    return await _admitted(call)


def _caller() -> str | None:
    """Name of this replica's actor, by which a model sees whether its caller still lives."""
    name: str | None = ray.get_runtime_context().get_actor_name()
    return name


@dataclass(frozen=True)
class HandlePort:
    """The ports that one model deployment hosts; `name` is what it is called in messages.

    In a call the class is that of the answer.
    """

    handle: DeploymentHandle[Any]
    name: str

    async def _ask(self, _answer: type[T], method: str, *args: Any, **kwargs: Any) -> T:
        """A short call."""
        call = getattr(self.handle, method)
        answer: T = await _unary(lambda: call.remote(*args, **kwargs), self.name)
        return answer

    async def _run(self, _answer: type[T], method: str, report: Report, *args: Any) -> T:
        """A long call."""
        call = getattr(self.handle.options(stream=True), method)
        answer: T = await _streamed(lambda: call.remote(*args, _caller()), self.name, report)
        return answer

    async def remove_background(self, rgb: UInt8Array) -> Foreground:
        return await self._ask(Foreground, "remove_background", rgb)

    async def synthesize_views(
        self, request: ViewRequest, report: Report = ignore_progress
    ) -> ViewSet:
        return await self._run(ViewSet, "synthesize_views", report, request)

    async def estimate_depth(self, views: ViewSet, report: Report = ignore_progress) -> DepthMaps:
        return await self._run(DepthMaps, "estimate_depth", report, views)

    async def reconstruct(
        self, request: FitRequest, report: Report = ignore_progress
    ) -> SplatModel:
        return await self._run(SplatModel, "reconstruct", report, request)

    async def improve(
        self, request: RefineRequest, report: Report = ignore_progress
    ) -> Improvement:
        return await self._run(Improvement, "improve", report, request)

    async def render(
        self, model: SplatModel, cameras: Cameras, *, with_depth: bool = False
    ) -> Renders:
        return await self._ask(Renders, "render", model, cameras, with_depth=with_depth)

    async def evaluate(self, model: SplatModel, references: References) -> Scores:
        return await self._ask(Scores, "evaluate", model, references)

    async def engine_name(self) -> str:
        return await self._ask(str, "engine_name")

    async def enhance(
        self, renders: Renders, settings: EnhanceSettings, report: Report = ignore_progress
    ) -> EnhancedImages:
        return await self._run(EnhancedImages, "enhance", report, renders, settings)

    async def export_model(
        self, model: SplatModel, options: ExportOptions, report: Report = ignore_progress
    ) -> ExportedFile:
        return await self._run(ExportedFile, "export_model", report, model, options)


@dataclass(frozen=True)
class HandlePorts:
    """The handles of the model deployments, one per port; ports may share a deployment."""

    background: DeploymentHandle[Any]
    views: DeploymentHandle[Any]
    depth: DeploymentHandle[Any]
    splats: DeploymentHandle[Any]
    enhancer: DeploymentHandle[Any]
    exporter: DeploymentHandle[Any]

    def ports(self) -> Ports:
        """The pipeline's ports over these handles."""
        return Ports(
            background=HandlePort(self.background, "background removal"),
            views=HandlePort(self.views, "view synthesis"),
            depth=HandlePort(self.depth, "depth estimation"),
            splats=HandlePort(self.splats, "the splat engine"),
            enhancer=HandlePort(self.enhancer, "the enhancer"),
            exporter=HandlePort(self.exporter, "the exporter"),
        )

    def meters(self) -> dict[str, Callable[[float], Awaitable[dict[str, int]]]]:
        """Asks each model deployment, by its name, for `ModelHost.peak_memory_bytes`."""
        handles = [getattr(self, port.name) for port in fields(self)]
        return {h.deployment_name: _meter(h) for h in handles}


async def _within(limit_s: float, handle: DeploymentHandle[Any], method: str, *args: Any) -> Any:
    """The answer of a short call. Raises TimeoutError."""
    call = getattr(handle, method)
    async with asyncio.timeout(limit_s):
        return await _unary(lambda: call.remote(*args), handle.deployment_name)


async def readiness_of(handle: DeploymentHandle[Any]) -> str:
    """What a model deployment lacks, from one of its replicas, or "ok"; never raises."""
    try:
        answer: str = await _within(_READINESS_LIMIT_S, handle, "readiness")
    except TimeoutError:
        return "It does not answer."
    except GlimpseError as error:
        return error.detail
    return answer


def _meter(handle: DeploymentHandle[Any]) -> Callable[[float], Awaitable[dict[str, int]]]:
    async def peak_memory_bytes(span_s: float) -> dict[str, int]:
        try:
            answer: dict[str, int] = await _within(
                _METER_LIMIT_S, handle, "peak_memory_bytes", span_s
            )
        except TimeoutError as error:
            raise translate(error, handle.deployment_name) from error
        return answer

    return peak_memory_bytes
