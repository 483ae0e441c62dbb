"""How a stage's rows reach the store: patiently, and with facts that no stage knows by itself.

Each function wraps a commit into another one. They do not know what the rows say.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from deployments.jobs.attempt_files import AttemptFiles
from deployments.jobs.commits import StageCommit
from deployments.jobs.peak_memory import PeakMemory
from deployments.jobs.rows import Lease
from deployments.jobs.store import Records
from pipeline.errors import GlimpseError, Unavailable

log = logging.getLogger("ray.serve")

T = TypeVar("T")

#: Adds a stage's rows. Refused with StaleAttempt when a newer attempt holds the job.
Commit = Callable[[StageCommit], Awaitable[None]]

#: Asks each model deployment, by its name, how much memory it has had at most in the last so many
#: seconds: bytes by what was measured ("" is the process's own memory).
Meters = Mapping[str, Callable[[float], Awaitable[Mapping[str, int]]]]

#: Pause before a store that does not answer is asked again.
_ASK_AGAIN_AFTER_S = 0.5


async def retry_while_away(call: Callable[[], Awaitable[T]], patience_s: float) -> T:
    """Call the store, again and again while it does not answer, for so many seconds.

    Only for calls that may be repeated. Raises what the last call raised.
    """
    give_up_at = time.monotonic() + patience_s
    while True:
        try:
            return await call()
        except Unavailable as error:
            if time.monotonic() > give_up_at:
                raise
            log.warning("the store is asked again: %s", error)
            await asyncio.sleep(_ASK_AGAIN_AFTER_S)


def fenced(records: Records, lease: Lease, files: AttemptFiles, patience_s: float) -> Commit:
    """A commit under the lease's fence, with the hashes of the files that were stored for it.

    Rows that the store does not take now are brought again for `patience_s`: a database that is
    restarted costs a pause.
    """

    async def commit(stage: StageCommit) -> None:
        with files.committing() as hashes:
            whole = replace(stage, detail={**stage.detail, "hashes": hashes})
            await retry_while_away(
                lambda: records.commit_stage(lease.job.id, lease.fence, whole), patience_s
            )

    return commit


def metered(commit: Commit, memory: PeakMemory, meters: Meters) -> Commit:
    """A commit with the peak memory since the one before, or since now.

    Of whole processes, whatever else they did meanwhile.
    """
    began = time.monotonic()

    async def measured(stage: StageCommit) -> None:
        nonlocal began
        span_s = time.monotonic() - began
        peaks = {
            "peak_memory_bytes": memory.peaks(span_s)[""],
            "replica_peak_memory_bytes": await _read(meters, span_s),
        }
        await commit(replace(stage, detail={**stage.detail, **peaks}))
        began = time.monotonic()

    return measured


async def _read(meters: Meters, span_s: float) -> dict[str, int]:
    """What the model deployments say; one that does not answer is left out."""
    answers = await asyncio.gather(
        *(meter(span_s) for meter in meters.values()), return_exceptions=True
    )
    found: dict[str, int] = {}
    for name, answer in zip(meters, answers, strict=True):
        if isinstance(answer, Mapping):
            found |= {name + gauge: peak for gauge, peak in answer.items()}
        elif not isinstance(answer, GlimpseError | asyncio.CancelledError):
            raise answer
    return found


def with_environment(commit: Commit, environment: Mapping[str, Any]) -> Commit:
    """A commit whose first call keeps what the attempt runs on."""
    kept = False

    async def documented(stage: StageCommit) -> None:
        nonlocal kept
        if not kept:
            stage = replace(stage, detail={**stage.detail, "environment": dict(environment)})
        await commit(stage)
        kept = True

    return documented
