"""The records port over anything that can call the SQL functions of `supabase/migrations`.

It does not know how a call travels: a subclass says so in `call`, and in `watch` how it hears of
changes.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from deployments.store import (
    Heartbeat,
    Job,
    JobError,
    JobState,
    Lease,
    NewJob,
    Project,
    ProjectDetail,
    ProjectJob,
    StageCommit,
    Submitted,
)
from pipeline.errors import (
    Conflict,
    GlimpseError,
    IdempotencyMismatch,
    InvalidInput,
    NotFound,
    NotGeneratedYet,
    ProjectBusy,
    StaleAttempt,
    TooBusy,
    Unavailable,
)
from serve_app.stores.migrations import newest_version
from serve_app.stores.rows import (
    commit_document,
    error_document,
    read_commit,
    read_detail,
    read_job,
    read_project,
    read_project_job,
)

__all__ = ["CallRecords", "error_for_sqlstate"]

_OWN_STATES: dict[str, type[GlimpseError]] = {
    "GL400": InvalidInput,
    "GL404": NotFound,
    "GL409": Conflict,
    "GL410": StaleAttempt,
    "GL422": IdempotencyMismatch,
    "GL425": NotGeneratedYet,
    "GL503": TooBusy,
}

_AWAY = (Unavailable, "The database does not answer now")
_NOT_MIGRATED = (Unavailable, "The database lacks our migrations")
_REFUSED = (InvalidInput, "The records refuse the values")

#: PostgreSQL's and PostgREST's own codes by prefix, the longer before the shorter.
_THEIR_STATES: dict[str, tuple[type[GlimpseError], str]] = {
    "42883": _NOT_MIGRATED,  # no such function
    "42P01": _NOT_MIGRATED,  # no such table
    "PGRST202": _NOT_MIGRATED,  # no such function
    "23505": (Conflict, "The records hold another row in its place"),
    "22": _REFUSED,  # not a number, out of range, NUL in a text
    "23": _REFUSED,  # a constraint, which the message names
    "08": _AWAY,  # connection lost
    "28": _AWAY,  # wrong password or user
    "3D": _AWAY,  # no such database
    "40": _AWAY,  # deadlock, serialisation
    "53": _AWAY,  # out of disk, memory or connections
    "55": _AWAY,  # locked
    "57": _AWAY,  # shutting down, starting up, cancelled
    "58": _AWAY,  # the server's disk fails
}


def error_for_sqlstate(sqlstate: str, message: str, detail: str | None = None) -> GlimpseError:
    """The error of our tree for what PostgreSQL reports; total over all SQLSTATEs.

    Args:
        sqlstate: five characters; `GL...` are raised by our own functions.
        message: PostgreSQL's primary message.
        detail: PostgreSQL's detail line; the job's id when the project is busy.
    """
    if sqlstate == "GL423":
        return ProjectBusy(message, detail or "")
    if sqlstate in _OWN_STATES:
        return _OWN_STATES[sqlstate](message)
    for prefix, (kind, sentence) in _THEIR_STATES.items():
        if sqlstate.startswith(prefix):
            return kind(f"{sentence}: {message}")
    return GlimpseError(f"The database failed ({sqlstate}): {message}")


class CallRecords(ABC):
    """`deployments.store.Records` in terms of named SQL functions."""

    #: How often a waiter looks when nothing announces changes to it.
    poll_s: ClassVar[float] = 0.5

    @abstractmethod
    async def call(self, function: str, **arguments: Any) -> Any:
        """Call `public.{function}` with named arguments; its JSON as Python values.

        Raises errors of our tree and nothing else.
        """

    @contextmanager
    def watch(self, job_id: str) -> Iterator[Callable[[float], Awaitable[None]]]:
        """A context with a coroutine function that returns when the job may have changed.

        Its argument is the longest time to wait in seconds; it may return earlier, for nothing.
        Changes since the context was entered are never missed for longer than a poll.
        """
        yield lambda left_s: asyncio.sleep(min(left_s, self.poll_s))

    async def ping(self) -> None:
        """See `Records.ping`. Newer migrations than ours are fine: functions are versioned."""
        found = await self.call("schema_version_v1")
        wanted = newest_version()
        if found < wanted:
            raise Unavailable(
                f"The database is at migration {found}, this release needs {wanted}: migrate it."
            )

    async def create_project(
        self,
        project_id: str,
        *,
        original_path: str,
        processed_path: str,
        background_engine: str,
    ) -> Project:
        """See `Records.create_project`; an id that is taken is a `Conflict`."""
        document = await self.call(
            "create_project_v1",
            p_project_id=project_id,
            p_original_path=original_path,
            p_processed_path=processed_path,
            p_background_engine=background_engine,
        )
        return read_project(document)

    async def get_project(self, project_id: str) -> Project:
        """See `Records.get_project`."""
        return read_project(await self.call("get_project_v1", p_project_id=project_id))

    async def project_detail(self, project_id: str) -> ProjectDetail:
        """See `Records.project_detail`; one round trip, one snapshot."""
        return read_detail(await self.call("project_detail_v1", p_project_id=project_id))

    async def project_jobs(self, project_id: str) -> tuple[ProjectJob, ...]:
        """See `Records.project_jobs`; one round trip, one snapshot."""
        documents = await self.call("project_jobs_v1", p_project_id=project_id)
        return tuple(read_project_job(document) for document in documents)

    async def submit_job(self, job: NewJob) -> Submitted:
        """See `Records.submit_job`."""
        document = await self.call(
            "submit_job_v1",
            p_project_id=job.project_id,
            p_kind=job.kind.value,
            p_options=dict(job.options),
            p_fingerprint=job.fingerprint,
            p_idempotency_key=job.idempotency_key,
            p_max_attempts=job.max_attempts,
            p_max_queued=job.max_queued,
        )
        return Submitted(read_job(document["job"]), document["created"])

    async def get_job(self, job_id: str) -> Job:
        """See `Records.get_job`."""
        return read_job(await self.call("get_job_v1", p_job_id=job_id))

    async def wait_for_job(self, job_id: str, timeout_s: float) -> Job:
        """See `Records.wait_for_job`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        with self.watch(job_id) as changed:
            while True:
                job = await self.get_job(job_id)
                left_s = deadline - loop.time()
                if job.state.ended or left_s <= 0:
                    return job
                await changed(left_s)

    async def claim_job(self, worker: str, lease_s: float) -> Lease | None:
        """See `Records.claim_job`."""
        document = await self.call("claim_job_v1", p_worker=worker, p_lease_s=float(lease_s))
        return None if document is None else Lease(read_job(document["job"]), document["fence"])

    async def heartbeat(
        self, job_id: str, fence: int, *, lease_s: float, stage: str, progress: float
    ) -> Heartbeat:
        """See `Records.heartbeat`; a job that was deleted is not owned."""
        document = await self.call(
            "heartbeat_v1",
            p_job_id=job_id,
            p_fence=fence,
            p_lease_s=float(lease_s),
            p_stage=stage,
            p_progress=float(progress),
        )
        return Heartbeat(document["owned"], document["cancel_requested"])

    async def commit_stage(self, job_id: str, fence: int, commit: StageCommit) -> None:
        """See `Records.commit_stage`."""
        document = commit_document(commit)
        await self.call("commit_stage_v1", p_job_id=job_id, p_fence=fence, p_commit=document)

    async def committed(self, job_id: str) -> tuple[StageCommit, ...]:
        """See `Records.committed`; a stage committed again keeps its place in the order."""
        documents = await self.call("committed_v1", p_job_id=job_id)
        return tuple(read_commit(document) for document in documents)

    async def finish_job(
        self,
        job_id: str,
        fence: int,
        *,
        state: JobState,
        result: Mapping[str, Any] | None = None,
        error: JobError | None = None,
    ) -> Job:
        """See `Records.finish_job`; the same attempt may finish the same way twice."""
        document = await self.call(
            "finish_job_v1",
            p_job_id=job_id,
            p_fence=fence,
            p_state=state.value,
            p_result=None if result is None else dict(result),
            p_error=None if error is None else error_document(error),
        )
        return read_job(document)

    async def release_job(self, job_id: str, fence: int, error: JobError | None = None) -> Job:
        """See `Records.release_job`."""
        return read_job(
            await self.call(
                "release_job_v1",
                p_job_id=job_id,
                p_fence=fence,
                p_error=None if error is None else error_document(error),
            )
        )

    async def cancel_job(self, job_id: str) -> Job:
        """See `Records.cancel_job`."""
        return read_job(await self.call("cancel_job_v1", p_job_id=job_id))
