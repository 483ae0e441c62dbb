"""Calls that wait at the same time become one call of a model, through `serve.batch`.

It knows how Serve's batching must be fed to be safe, and not what is batched.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from deployments.handles import translate
from pipeline.errors import DeviceLost, GlimpseError

T = TypeVar("T")
R = TypeVar("R")


class BatchSettings(BaseModel):
    """The `user_config` of a model deployment in YAML; Serve hands over changes without a restart.

    Attributes:
        max_batch_size: most calls in one batch. The deployment's `max_ongoing_requests` must not
            be smaller, or a batch can never fill.
        batch_wait_timeout_s: how long the first call of a batch waits for others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_batch_size: int = Field(default=8, ge=1)
    batch_wait_timeout_s: float = Field(default=0.02, ge=0)


class Batched(Generic[T, R]):
    """One function over many inputs, called with one input at a time.

    A batch that fails is tried again call by call, so that one bad input fails alone. Needs the
    context of a replica: Serve counts batches by deployment.
    """

    def __init__(self, work: Callable[[Sequence[T]], Awaitable[list[R]]], name: str) -> None:
        """`name` is what was called, for messages."""
        self._work = work
        self._name = name
        settings = BatchSettings()

        # Made here, because Serve keeps one queue per decorated function: on a method, all
        # instances of a class in one process would share the queue of the first.
        @serve.batch(
            max_batch_size=settings.max_batch_size,
            batch_wait_timeout_s=settings.batch_wait_timeout_s,
        )
        async def run(inputs: list[T]) -> list[R | GlimpseError]:
            return await self._outcomes(inputs)

        self._run: Any = run

    def configure(self, settings: BatchSettings) -> None:
        """Holds from the next batch on."""
        self._run.set_max_batch_size(settings.max_batch_size)
        self._run.set_batch_wait_timeout_s(settings.batch_wait_timeout_s)

    async def __call__(self, value: T) -> R:
        """The result for one input; it waits for its batch.

        Raises:
            GlimpseError: what the work raised for this input.
        """
        outcome: R | GlimpseError = await self._run(value)
        if isinstance(outcome, GlimpseError):
            raise outcome
        return outcome

    async def _outcomes(self, inputs: list[T]) -> list[R | GlimpseError]:
        """What became of each call.

        As many as there are inputs, whatever happens: Serve would fail, or hang, all of them.
        """
        try:
            results = await self._work(inputs)
        except Exception as error:
            if len(inputs) == 1 or isinstance(error, DeviceLost):
                # On a device that is lost one by one would fare no better.
                return [translate(error, self._name) for _ in inputs]
        else:
            if len(results) == len(inputs):
                return [*results]
            wrong = RuntimeError(f"{len(results)} results for {len(inputs)} inputs")
            return [translate(wrong, self._name) for _ in inputs]
        return [outcome for one in inputs for outcome in await self._outcomes([one])]
