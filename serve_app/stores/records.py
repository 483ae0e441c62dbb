"""The records port over anything that can call the SQL functions of `supabase/migrations`.

It does not know how a call travels: a subclass says so in `call`, and in `watch_job` and
`watch_project` how it hears of changes.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, ClassVar

from deployments.jobs.job_errors import IdempotencyMismatch, ProjectBusy, StaleAttempt, TooBusy
from deployments.jobs.rows import (
    Bucket,
    Heartbeat,
    Job,
    JobError,
    JobEvent,
    JobState,
    Lease,
    NewJob,
    Project,
    ProjectDetail,
    ProjectJob,
    ProjectPage,
    ProjectStatus,
    Queue,
    StageCommit,
    Submitted,
    Uploaded,
    Webhook,
)
from deployments.jobs.store import Changed
from pipeline.errors import (
    Conflict,
    GlimpseError,
    InvalidInput,
    NotFound,
    NotGeneratedYet,
    Unavailable,
)
from serve_app.stores.migrations import newest_version
from serve_app.stores.rows import (
    commit_document,
    error_document,
    read_commit,
    read_detail,
    read_event,
    read_job,
    read_page,
    read_paths,
    read_project,
    read_project_job,
    read_queue,
    read_webhook,
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
    "PGRST106": (Unavailable, "The project's Data API does not expose the schema public"),
    "PGRST0": _AWAY,  # PostgREST has no database
    "23505": (Conflict, "The records hold another row in its place"),
    "25006": (Unavailable, "The database takes no writes now"),  # a standby, or over its limit
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
    """`deployments.jobs.store.Records` in terms of named SQL functions."""

    #: How often a waiter looks when nothing announces changes to it.
    poll_s: ClassVar[float] = 0.5

    @abstractmethod
    async def call(self, function: str, **arguments: Any) -> Any:
        """Call `public.{function}` with named arguments; its JSON as Python values.

        Raises errors of our tree and nothing else.
        """

    def watch_job(self, job_id: str) -> AbstractContextManager[Changed]:
        """See `Records.watch_job`; it may return earlier, for nothing. Polls."""
        del job_id
        return self._polled()

    def watch_project(self, project_id: str) -> AbstractContextManager[Changed]:
        """See `Records.watch_project`; it may return earlier, for nothing. Polls."""
        del project_id
        return self._polled()

    @contextmanager
    def _polled(self) -> Iterator[Changed]:
        async def changed(left_s: float) -> None:
            await asyncio.sleep(min(left_s, self.poll_s))

        yield changed

    async def ping(self) -> None:
        """See `Records.ping`. Newer migrations than ours are fine: functions are versioned."""
        found = await self.call("schema_version_v1")
        wanted = newest_version()
        if not (isinstance(found, str) and found.isdigit()):
            raise Unavailable(f"The database answers with {found!r} when asked for its migrations.")
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

    async def begin_upload(
        self,
        project_id: str,
        *,
        original_path: str,
        processed_path: str,
        background_engine: str,
    ) -> None:
        """See `Records.begin_upload`; an id whose files are still to be deleted is taken too."""
        await self.call(
            "begin_upload_v1",
            p_project_id=project_id,
            p_original_path=original_path,
            p_processed_path=processed_path,
            p_background_engine=background_engine,
        )

    async def finish_upload(
        self, project_id: str, *, idempotency_key: str | None = None, fingerprint: str = ""
    ) -> Uploaded:
        """See `Records.finish_upload`; an upload that was given up is `NotFound`."""
        document = await self.call(
            "finish_upload_v1",
            p_project_id=project_id,
            p_idempotency_key=idempotency_key,
            p_fingerprint=fingerprint,
        )
        if "mismatch" in document:
            # An answer, because an error would have undone that the project was given up.
            raise IdempotencyMismatch(document["mismatch"])
        return Uploaded(read_project(document["project"]), document["created"])

    async def find_upload(self, idempotency_key: str, fingerprint: str) -> Project | None:
        """See `Records.find_upload`."""
        document = await self.call(
            "find_upload_v1", p_idempotency_key=idempotency_key, p_fingerprint=fingerprint
        )
        return None if document is None else read_project(document)

    async def list_projects(
        self,
        *,
        status: ProjectStatus | None = None,
        after: tuple[datetime, str] | None = None,
        limit: int = 20,
    ) -> ProjectPage:
        """See `Records.list_projects`."""
        document = await self.call(
            "list_projects_v1",
            p_status=None if status is None else status.value,
            p_after_at=None if after is None else after[0].isoformat(),
            p_after_id=None if after is None else after[1],
            p_limit=limit,
        )
        return read_page(document)

    async def delete_project(self, project_id: str) -> Job | None:
        """See `Records.delete_project`; `NotFound` when nothing of the project is left."""
        document = await self.call("delete_project_v1", p_project_id=project_id)
        return None if document is None else read_job(document)

    async def purge_project(self, project_id: str) -> bool:
        """See `Records.purge_project`; a project that is not marked is a `Conflict`."""
        purged: bool = await self.call("purge_project_v1", p_project_id=project_id)
        return purged

    async def due_deletions(self, grace_s: float, limit: int = 20) -> tuple[str, ...]:
        """See `Records.due_deletions`; oldest first."""
        return tuple(await self.call("due_deletions_v1", p_grace_s=float(grace_s), p_limit=limit))

    async def end_deletion(self, project_id: str, grace_s: float) -> None:
        """See `Records.end_deletion`."""
        await self.call("end_deletion_v1", p_project_id=project_id, p_grace_s=float(grace_s))

    async def expire_projects(self, ttl_s: float, limit: int = 20) -> tuple[str, ...]:
        """See `Records.expire_projects`."""
        return tuple(await self.call("expire_projects_v1", p_ttl_s=float(ttl_s), p_limit=limit))

    async def expire_uploads(self, age_s: float, limit: int = 20) -> tuple[str, ...]:
        """See `Records.expire_uploads`."""
        return tuple(await self.call("expire_uploads_v1", p_age_s=float(age_s), p_limit=limit))

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
            "submit_job_v2",
            p_project_id=job.project_id,
            p_kind=job.kind.value,
            p_options=dict(job.options),
            p_fingerprint=job.fingerprint,
            p_idempotency_key=job.idempotency_key,
            p_max_attempts=job.max_attempts,
            p_max_queued=job.max_queued,
            p_client=job.client,
            p_shape=job.shape,
            p_webhook_url=job.webhook_url,
        )
        return Submitted(read_job(document["job"]), document["created"])

    async def get_job(self, job_id: str) -> Job:
        """See `Records.get_job`."""
        return read_job(await self.call("get_job_v1", p_job_id=job_id))

    async def queue(self) -> Queue:
        """See `Records.queue`; a running job whose lease has expired counts as running."""
        return read_queue(await self.call("queue_v1"))

    async def job_events(
        self, job_id: str, *, after: int = 0, limit: int = 200
    ) -> tuple[JobEvent, ...]:
        """See `Records.job_events`."""
        documents = await self.call("job_events_v2", p_job_id=job_id, p_after=after, p_limit=limit)
        return tuple(read_event(document) for document in documents)

    async def project_events(
        self, project_id: str, *, after: tuple[int, int] = (0, 0), limit: int = 200
    ) -> tuple[JobEvent, ...]:
        """See `Records.project_events`."""
        documents = await self.call(
            "project_events_v1",
            p_project_id=project_id,
            p_after_job=after[0],
            p_after_seq=after[1],
            p_limit=limit,
        )
        return tuple(read_event(document) for document in documents)

    async def wait_for_job(self, job_id: str, timeout_s: float) -> Job:
        """See `Records.wait_for_job`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        with self.watch_job(job_id) as changed:
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
        self,
        job_id: str,
        fence: int,
        *,
        lease_s: float,
        stage: str,
        progress: float,
        step: str = "",
    ) -> Heartbeat:
        """See `Records.heartbeat`; a job that was deleted is not owned."""
        document = await self.call(
            "heartbeat_v2",
            p_job_id=job_id,
            p_fence=fence,
            p_lease_s=float(lease_s),
            p_stage=stage,
            p_progress=float(progress),
            p_step=step,
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

    async def release_job(
        self, job_id: str, fence: int, error: JobError | None = None, *, delay_s: float = 0.0
    ) -> Job:
        """See `Records.release_job`."""
        document = await self.call(
            "release_job_v2",
            p_job_id=job_id,
            p_fence=fence,
            p_error=None if error is None else error_document(error),
            p_delay_s=float(delay_s),
        )
        return read_job(document)

    async def cancel_job(self, job_id: str) -> Job:
        """See `Records.cancel_job`."""
        return read_job(await self.call("cancel_job_v1", p_job_id=job_id))

    async def jobs_to_sweep(self, limit: int = 20) -> tuple[Job, ...]:
        """See `Records.jobs_to_sweep`; not of projects that are busy or marked for deletion."""
        documents = await self.call("jobs_to_sweep_v1", p_limit=limit)
        return tuple(read_job(document) for document in documents)

    async def referenced_paths(self, project_id: str) -> Mapping[Bucket, frozenset[str]] | None:
        """See `Records.referenced_paths`; a project that is marked for deletion counts as gone."""
        document = await self.call("referenced_paths_v1", p_project_id=project_id)
        return None if document is None else read_paths(document)

    async def mark_swept(self, job_id: str) -> None:
        """See `Records.mark_swept`."""
        await self.call("mark_swept_v1", p_job_id=job_id)

    async def claim_webhook(self, lease_s: float) -> Webhook | None:
        """See `Records.claim_webhook`."""
        document = await self.call("claim_webhook_v1", p_lease_s=float(lease_s))
        return None if document is None else read_webhook(document)

    async def finish_webhook(
        self, job_id: str, *, error: str | None = None, retry_in_s: float | None = None
    ) -> None:
        """See `Records.finish_webhook`; harmless when the job is gone."""
        await self.call(
            "finish_webhook_v1",
            p_job_id=job_id,
            p_error=error,
            p_retry_in_s=None if retry_in_s is None else float(retry_in_s),
        )
