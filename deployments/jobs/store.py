"""The two store ports: records (rows, jobs) and blobs (files in buckets).

It does not know PostgreSQL, Supabase or HTTP: `serve_app.stores` implements these ports, and one
contract suite runs on every implementation. Every method that changes more than one row is one
atomic step, written once in SQL (`supabase/migrations`).

A job is a row; the attempt that works on it holds a lease and a fence:

    queued --claim--> running --finish--> succeeded | failed | cancelled
      ^                  |
      +--release/expiry--+          every claim raises the fence by one; a commit, heartbeat or
                                    finish with an older fence is refused with `StaleAttempt`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from deployments.jobs.commits import LivePreview, StageCommit
from deployments.jobs.edit_rows import NewViewEdit, PutViewEdit, ViewEditRow
from deployments.jobs.photo_records import PhotoRecords
from deployments.jobs.photo_rows import NewPhoto
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
    Submitted,
    Uploaded,
    Webhook,
)

#: Returns when what is watched may have changed, at the latest after so many seconds.
Changed = Callable[[float], Awaitable[None]]


class Records(PhotoRecords, Protocol):
    """Rows and jobs. Unreachable storage raises `Unavailable`; unknown ids raise `NotFound`."""

    async def ping(self) -> None:
        """Return if the store answers and its migrations are current, else `Unavailable`."""

    async def begin_upload(self, project_id: str, photos: Sequence[NewPhoto]) -> None:
        """Insert a project with status UPLOADING and its photos, before their files are stored.

        Such a project takes no jobs and is in no list; one that stays so is removed by
        `expire_uploads`. Raises Conflict when the id is taken, or its files are still to go.
        """

    async def finish_upload(
        self,
        project_id: str,
        *,
        idempotency_key: str | None = None,
        fingerprint: str = "",
        client: str = "",
    ) -> Uploaded:
        """All files are stored: the project is READY.

        When another project of the client has the idempotency key with the same fingerprint, that
        one is returned, and the project at hand is given up as by `delete_project`.

        Raises:
            IdempotencyMismatch: the key is known with another fingerprint; the project at hand is
                given up.
            NotFound: the upload was given up.
        """

    async def find_upload(
        self, idempotency_key: str, fingerprint: str, *, client: str = ""
    ) -> Project | None:
        """The project that the client uploaded with the key. Raises IdempotencyMismatch."""

    async def list_projects(
        self,
        *,
        status: ProjectStatus | None = None,
        after: tuple[datetime, str] | None = None,
        limit: int = 20,
    ) -> ProjectPage:
        """Projects, newest first; `after` is `ProjectPage.next_after` of the page before.

        Without those that are uploading or being deleted.
        """

    async def delete_project(self, project_id: str) -> Job | None:
        """Mark a project for deletion; harmless when it is marked, NotFound when nothing is left.

        A queued job is cancelled, a running one asked to stop: then it is returned. The project
        takes no further jobs.
        """

    async def purge_project(self, project_id: str) -> bool:
        """Remove all rows of a project that is marked for deletion.

        False, and nothing is done, while a job of it holds a lease. True when the rows are gone,
        also when they were gone before. Raises Conflict when the project is not marked.
        """

    async def due_deletions(self, grace_s: float, limit: int = 20) -> tuple[str, ...]:
        """Ids of projects marked for deletion whose rows are still there, or went at least
        `grace_s` ago: their files are to be deleted (once more). Oldest first."""

    async def end_deletion(self, project_id: str, grace_s: float) -> None:
        """All files were deleted: forget the mark if the rows went at least `grace_s` ago."""

    async def expire_projects(self, ttl_s: float, limit: int = 20) -> tuple[str, ...]:
        """Mark for deletion what nothing has happened to for so long; the ids.

        Only projects without a queued or running job. The time counts from the end of the newest
        job, or from the newest photo.
        """

    async def expire_uploads(self, age_s: float, limit: int = 20) -> tuple[str, ...]:
        """Mark for deletion what has been UPLOADING for so long: whoever did it is gone."""

    async def get_project(self, project_id: str) -> Project: ...

    async def restore_version(self, project_id: str, version: int) -> Project:
        """Make a model version the current one; nothing is removed.

        Raises:
            NotFound: no such project or version.
            Conflict: the project is uploading.
            ProjectBusy: a job of the project is queued or running.
        """

    async def project_detail(self, project_id: str) -> ProjectDetail: ...

    async def project_jobs(self, project_id: str) -> tuple[ProjectJob, ...]:
        """All jobs of a project, oldest first, read in one snapshot."""

    async def put_view_edit(self, project_id: str, edit: NewViewEdit) -> PutViewEdit:
        """Let an edit wait for the next generation that begins with the depth of its version. It
        takes the place of one that waits for the same view.

        Raises:
            NotFound: no such project or version.
            ProjectBusy: a job of the project is queued or running.
            Conflict: others wait by now than `seen`.
        """

    async def take_view_edit(
        self, project_id: str, version: int, view_index: int
    ) -> ViewEditRow | None:
        """Take back the edit that waits for a view of a version; None where there is none.

        Raises NotFound, and ProjectBusy.
        """

    async def submit_job(self, job: NewJob) -> Submitted:
        """Insert a queued job.

        The options of a job that begins with a model version (a refinement, an export, a generation
        with `from_stage`) have its number as `version` afterwards: what they named, else the
        current one of this moment.

        Raises:
            NotFound: no such project, or no such version of it.
            IdempotencyMismatch: the client's key is known with another fingerprint.
            ProjectBusy: another job of the project is queued or running.
            NotGeneratedYet: there is no model to refine, to export or to go on from.
            TooBusy: `max_queued` jobs are queued already.
        """

    async def get_job(self, job_id: str) -> Job: ...

    async def queue(self) -> Queue:
        """How many jobs wait and run; one whose lease has expired counts as running."""

    async def job_events(
        self, job_id: str, *, after: int = 0, limit: int = 200
    ) -> tuple[JobEvent, ...]:
        """Events of a job with a number above `after`, in order."""

    async def project_events(
        self, project_id: str, *, after: tuple[int, int] = (0, 0), limit: int = 200
    ) -> tuple[JobEvent, ...]:
        """Events of all jobs of a project whose (job_number, seq) is above `after`, in order."""

    def watch_job(self, job_id: str) -> AbstractContextManager[Changed]:
        """A context with a coroutine function that returns when the job may have changed.

        Changes since the context was entered are never missed for longer than a poll. It may
        return earlier, for nothing.
        """

    def watch_project(self, project_id: str) -> AbstractContextManager[Changed]:
        """The same for any job of a project."""

    async def wait_for_job(self, job_id: str, timeout_s: float) -> Job:
        """Return the job when it has ended, or as it is after `timeout_s` seconds."""

    async def claim_job(
        self, worker: str, lease_s: float, max_running: int | None = None
    ) -> Lease | None:
        """Take the next claimable job: queued, or running with an expired lease.

        None also while `max_running` jobs hold leases, whoever claimed them.

        Jobs that were begun go first. The others are taken in fair order: first the client with
        the fewest running jobs, among equals the one that was served the longest time ago, and a
        client's own jobs in the order in which they came. A job that was given back with a delay
        waits it out.

        A job with an expired lease and no attempts left is failed on the way. A queued job whose
        cancellation was asked for is never returned.
        """

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
        """Renew the lease and publish progress. Never raises `StaleAttempt`: see `owned`, which a
        job that was deleted is not.

        Also sets the project's status, step and percentage from the job's stage.
        """

    async def publish_preview(self, job_id: str, fence: int, preview: LivePreview) -> None:
        """Tell of a small model of what a running stage has so far. Raises `StaleAttempt`."""

    async def commit_stage(self, job_id: str, fence: int, commit: StageCommit) -> None:
        """Add a stage's rows. Raises `StaleAttempt`."""

    async def committed(self, job_id: str) -> tuple[StageCommit, ...]:
        """What the job's attempts have committed so far, in order of commit; a stage that was
        committed again keeps its position."""

    async def finish_job(
        self,
        job_id: str,
        fence: int,
        *,
        state: JobState,
        result: Mapping[str, Any] | None = None,
        error: JobError | None = None,
    ) -> Job:
        """End a job and set the project's status; the same attempt may do so twice.

        Raises `StaleAttempt`.
        """

    async def release_job(
        self, job_id: str, fence: int, error: JobError | None = None, *, delay_s: float = 0.0
    ) -> Job:
        """Give the lease back so that another driver goes on. Raises `StaleAttempt`.

        Without an error the attempt does not count: its driver was drained. With one it does, the
        job keeps it as `last_error`, and a job that has no attempts left fails with it. An attempt
        that had come to no stage yet is a false start, which does not count either: the job waits,
        longer with each in a row, and only after 20 of them they count. The same attempt may
        release its job twice.

        Args:
            delay_s: the job is not claimed before so many seconds have passed.
        """

    async def cancel_job(self, job_id: str) -> Job:
        """Cancel a queued job at once, ask a running one to stop; harmless after the end."""

    async def jobs_to_sweep(self, limit: int = 20) -> tuple[Job, ...]:
        """Ended jobs that may have left files without a row, and that nobody has swept.

        These are jobs that were claimed more than once, or did not succeed; without those whose
        project is busy or being deleted.
        """

    async def referenced_paths(self, project_id: str) -> Mapping[Bucket, frozenset[str]] | None:
        """Every object path that a row of the project names, read in one snapshot.

        None while the project has a queued or running job, is uploading, marked or gone. Every
        bucket is in the answer.
        """

    async def mark_swept(self, job_id: str) -> None:
        """The files of the job's project were compared with its rows; harmless when it is gone."""

    async def forget(self, age_s: float, limit: int = 100) -> int:
        """Remove the history of what ended so long ago; how many jobs, messages, uploads and
        photos had it.

        Of jobs all events but the last one go, which tells how they ended, and their idempotency
        keys; messages that were delivered or given up; keys of uploads and photos. At most `limit`
        of each.
        """

    async def claim_webhook(self, lease_s: float) -> Webhook | None:
        """Take a message that is due; nobody else gets it for `lease_s` seconds."""

    async def finish_webhook(
        self,
        job_id: str,
        attempt: int,
        *,
        error: str | None = None,
        retry_in_s: float | None = None,
    ) -> None:
        """Note how a try went: delivered without `error`; given up without `retry_in_s`.

        Harmless when the job is gone, and when `attempt` is not the newest any more.
        """


class Blobs(Protocol):
    """Files in buckets. Paths are relative, `/`-separated, without `..`."""

    async def ping(self) -> None:
        """Return if files can be stored in every bucket, else raise `Unavailable`."""

    async def put(self, bucket: Bucket, path: str, data: bytes, content_type: str) -> None:
        """Store a whole file or nothing; an existing file is replaced in one step."""

    async def get(self, bucket: Bucket, path: str) -> bytes:
        """The whole file. Raises `NotFound`."""

    async def delete_prefix(self, bucket: Bucket, prefix: str) -> int:
        """Delete every file in the folder `prefix`, or the one of that name; how many they were."""

    async def delete(self, bucket: Bucket, paths: Sequence[str]) -> int:
        """Delete these files; the number of those that were there."""

    async def list_prefix(self, bucket: Bucket, prefix: str) -> tuple[str, ...]:
        """Paths of all files in the folder `prefix`, a project's at least, at any depth, sorted; or
        of the one file of that name."""

    async def tidy(self, older_than_s: float) -> int:
        """Delete what killed processes left half-written; how many they were.

        Args:
            older_than_s: a write that takes so long is taken for dead, and fails.
        """

    def url(self, bucket: Bucket, path: str) -> str:
        """A URL, absolute or relative to the service, by which a client may read the file."""


@dataclass(frozen=True)
class Store:
    """Both ports, opened."""

    records: Records
    blobs: Blobs


class StoreSource(Protocol):
    """What a deployment is given: picklable, opens the store inside the replica."""

    def open(self) -> AbstractAsyncContextManager[Store]:
        """Connect; leaving the context closes every connection."""
