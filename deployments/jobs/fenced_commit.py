"""How a stage's rows reach the store: patiently, and with facts that no stage knows by itself.

It does not know what the rows say.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from deployments.jobs.attempt_files import AttemptFiles
from deployments.jobs.commits import StageCommit
from deployments.jobs.peak_memory import PeakMemory
from deployments.jobs.rows import Lease
from deployments.jobs.store import Records
from pipeline.errors import GlimpseError, Unavailable

log = logging.getLogger("ray.serve")

T = TypeVar("T")

#: Asks each model deployment, by its name, how much memory it has had at most in the last so many
#: seconds: bytes by what was measured ("" is the process's own memory).
Meters = Mapping[str, Callable[[float], Awaitable[Mapping[str, int]]]]

#: Pause before a store that does not answer is asked again.
_ASK_AGAIN_AFTER_S = 0.5


async def retry_while_away(
    call: Callable[[], Awaitable[T]], patience_s: float, pause_s: float | None = None
) -> T:
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
            await asyncio.sleep(_ASK_AGAIN_AFTER_S if pause_s is None else pause_s)


@dataclass
class FencedCommit:
    """Adds a stage's rows under the lease's fence.

    Rows that the store does not take now are brought again for `patience_s`: a database that is
    restarted costs a pause. They come with the hashes of the files stored for them, with the peak
    memory of whole processes since the commit before, and the first with what the attempt runs on.
    """

    records: Records
    lease: Lease
    files: AttemptFiles
    patience_s: float
    memory: PeakMemory
    meters: Meters
    environment: Mapping[str, Any] | None
    _began: float = field(default_factory=time.monotonic)

    async def __call__(self, stage: StageCommit) -> None:
        """Raises StaleAttempt when a newer attempt holds the job."""
        job_id, fence = self.lease.job.id, self.lease.fence
        span_s = time.monotonic() - self._began
        facts: dict[str, Any] = {
            "peak_memory_bytes": self.memory.peaks(span_s)[""],
            "replica_peak_memory_bytes": await self._read_meters(span_s),
        }
        if self.environment is not None:
            facts["environment"] = dict(self.environment)
        with self.files.committing() as hashes:
            whole = replace(stage, detail={**stage.detail, **facts, "hashes": hashes})
            await retry_while_away(
                lambda: self.records.commit_stage(job_id, fence, whole), self.patience_s
            )
        self._began, self.environment = time.monotonic(), None

    async def _read_meters(self, span_s: float) -> dict[str, int]:
        """What the model deployments say; one that does not answer is left out."""
        answers = await asyncio.gather(
            *(meter(span_s) for meter in self.meters.values()), return_exceptions=True
        )
        found: dict[str, int] = {}
        for name, answer in zip(self.meters, answers, strict=True):
            if isinstance(answer, Mapping):
                found |= {name + gauge: peak for gauge, peak in answer.items()}
            elif not isinstance(answer, GlimpseError | asyncio.CancelledError):
                raise answer
        return found
